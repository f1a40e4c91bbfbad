"""Worker processes that die, and those whose parent does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from refusals import refused
from ucseg.machine import pool


class _Killer:
    """A task that ends the process which unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_dead_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MANY", 2)
    with refused("worker-died", naming="--workers 1"):
        list(pool.on_all_cores(repr, [_Killer(), _Killer()], 2))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    script = """
from ucseg.machine import pool

class Waits:  # in the process which unpacks it
    def __reduce__(self):
        return exec, ("import os, time; os.write(1, b'start'); time.sleep(3600)",)

pool.MANY = 2
list(pool.on_all_cores(repr, [Waits(), Waits()], 2))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.read(5) == b"start"
    parent.kill()
    parent.communicate(timeout=600)  # to the end of the output, which the worker holds open too
