"""The same work for many cases at once: in threads, or in processes where the cases are very many."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
from types import ModuleType
from typing import TypeVar

from ucseg.errors import UserError
from ucseg.machine.cores import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 16
"""Cases at a time where the caller does not say."""
MOST_WORKERS = 256
"""Processes or threads that a caller may ask for: more only wait for each other."""
MANY = 1000
"""Cases from which processes are worth the seconds that they take to start."""
SENT = 4
"""Cases that a process gets at a time: to send one costs a millisecond, as much as to make a small one."""


def for_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    done: Callable[[], None] | None = None,
    most: int | None = None,
) -> list[Result]:
    """`work` of every item, in threads; results are in the items' order.

    Args:
        work: must be safe to run in threads; reading and decompressing release Python's lock. Its first error ends
            everything, as does Ctrl-C: what has not started is dropped.
        done: called in this thread after each finished item, for a progress bar.
        most: items at a time, where each takes much memory; None: 16.
    """
    found = []
    with ThreadPoolExecutor(min(most or MOST, max(2, cores()))) as pool:
        for result in pool.map(work, items):
            found.append(result)
            if done is not None:
                done()
    return found


def on_all_cores(make: Callable[[Item], Result], items: Sequence[Item], workers: int | None) -> Iterator[Result]:
    """`make` of each item, in order: in threads, or in processes from `MANY` items on.

    Threads start at once and share memory, but only one of them runs Python at a time. Small cases are mostly Python.

    Args:
        make: a function of a module, safe to run in threads; items and results can be pickled.
        items: a case each.
        workers: most at a time; None: one a core, at most 16.

    Raises:
        UserError: a worker process died.
    """
    workers = max(1, min(workers or min(MOST, cores()), len(items), MOST_WORKERS))
    if workers == 1 or len(items) < MANY:
        with ThreadPoolExecutor(workers) as threads:
            yield from threads.map(make, items)
        return
    # Spawned, not forked: a fork would copy locks that the threads of torch and rich may hold.
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, spawn, _start_worker) as processes:
            with _without_main():
                results = processes.map(make, items, chunksize=SENT)
            yield from results
    except BrokenProcessPool:
        raise UserError(
            "worker-died",
            "a worker process died while preparing cases, most likely because memory ran out; "
            "run it again with fewer workers (--workers 1): what is done is kept.",
        ) from None


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers in order
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed ends no worker: each would wait for its next case for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _without_main() -> Iterator[None]:
    """Workers that start in here do not run the user's script again.

    Spawned processes import the main module. A script that calls `ucseg.prepare` without a guard would start itself
    again in every worker. They need nothing of it: their work is a function of the package.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
