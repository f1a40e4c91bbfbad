"""Worker processes that die, and those whose parent does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from ucseg.errors import UserError
from ucseg.machine.processes import _in_processes


class _Killer:
    """A task that ends the process which unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_dead_worker_is_said() -> None:
    with pytest.raises(UserError, match="worker process died"):
        list(_in_processes(repr, [_Killer()], 1, 1))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    script = """
from ucseg.machine.processes import _in_processes

class Waits:  # in the process which unpacks it
    def __reduce__(self):
        return exec, ("import os, time; os.write(1, b'begun'); time.sleep(600)",)

list(_in_processes(repr, [Waits()], 1, 1))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.read(5) == b"begun"
    parent.kill()
    parent.communicate(timeout=20)  # to the end of the output, which the worker holds open too
