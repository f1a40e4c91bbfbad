"""Ctrl-C and SIGTERM ask for an orderly end; `trainer.py` then saves."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

STEP_FIRST = "Stopping: the step that runs ends first, then all is saved. Ctrl-C again stops at once, without saving."
RUNS_FIRST = "Stopping: the runs end their steps first, then save. Ctrl-C again stops at once, without saving."
SAME = 1.0
"""Seconds within which a second signal is the first once more: a cluster signals every process of a job, and the parent
among them passes it on to its children."""


class StopSignal:
    """Use as a context manager. The first Ctrl-C or SIGTERM sets `asked`; a later one acts as if we were not there.

    Args:
        words: printed at the first signal: a step may take long.
    """

    def __init__(self, words: str = "") -> None:
        self.asked = False
        self._words = words
        self._since = 0.0
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if os.getpid() != self._owner:  # a loader's process inherited this; Ctrl-C reaches it too and is not for it
            if number == signal.SIGTERM:
                os._exit(0)
            return
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            if self._words:  # not `print`: the signal may have come in the middle of one
                os.write(2, f"\n{self._words}\n".encode())
        elif time.monotonic() - self._since > SAME:
            self.__exit__()
            signal.raise_signal(number)
