"""Cases made on all cores: in threads, and in processes where threads would leave cores idle for long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
from time import monotonic, process_time
from types import ModuleType
from typing import TypeVar

from ucseg.errors import UserError
from ucseg.machine.cores import cores

Task = TypeVar("Task")
Result = TypeVar("Result")

WORTH_PROCESSES = 1.0
"""Seconds that threads would leave each core idle: more, and processes, which import everything anew, are faster."""
SEEN_ENOUGH = 0.5
"""Seconds after the first case in which that is found out."""
BATCH = 0.2
"""Seconds of work that a process is given at a time."""


def on_all_cores(make: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None) -> Iterator[Result]:
    """`make` of each task, as they are done.

    Args:
        make: a function of a module, safe to run in threads; tasks and results must be such as processes can send.
        tasks: a case each.
        workers: most at a time; None: one a core, at most 16.

    Raises:
        UserError: a worker process died.
    """
    workers = max(1, min(workers or min(16, cores()), len(tasks)))
    left = deque(tasks)
    seconds = yield from _in_threads(make, left, workers)
    if left:
        # Sending a case costs a millisecond, as much as making a small one; the last batches must not keep one waiting.
        batch = max(1, min(int(BATCH / seconds), len(left) // (4 * workers)))
        yield from _in_processes(make, list(left), workers, batch)


def _in_threads(make: Callable[[Task], Result], left: deque[Task], workers: int) -> Generator[Result, None, float]:
    """Threads begin at once and share memory. They empty `left`, unless processes would save time on what remains.

    Large arrays are worked on without Python's lock, and threads keep all cores busy; small scans are mostly Python, of
    which one thread runs at a time.

    Returns:
        processor seconds of a task.
    """
    done, counted, begun, used = 0, 0, monotonic(), process_time()
    pool = ThreadPoolExecutor(workers)
    running: set[Future[Result]] = set()
    try:
        while left or running:
            while left and len(running) < 2 * workers:
                running.add(pool.submit(make, left.popleft()))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done += 1
                yield future.result()
            if not counted:  # while the first case is made, libraries are loaded, and other threads wait for them
                counted, begun, used = done, monotonic(), process_time()
                continue
            passed, worked = monotonic() - begun, process_time() - used
            idle = (passed - worked / workers) / (done - counted)  # of each core, for a case
            if workers > 1 and passed > SEEN_ENOUGH and len(left) * idle > WORTH_PROCESSES:
                break
        yield from (future.result() for future in as_completed(running))
        return (process_time() - used) / max(1, done - counted)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(make: Callable[[Task], Result], tasks: list[Task], workers: int, batch: int) -> Iterator[Result]:
    # Spawned, not forked: a fork would copy locks that torch's and rich's threads may hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        with _main_left_alone():
            futures = [pool.submit(_make_some, make, tasks[at : at + batch]) for at in range(0, len(tasks), batch)]
        for future in as_completed(futures):
            yield from future.result()
    except BrokenProcessPool:
        raise UserError(
            "todo",
            "a worker process died while preparing cases, most likely for want of memory; "
            "run it again with fewer workers (--workers 1): what is done is kept.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _make_some(make: Callable[[Task], Result], tasks: list[Task]) -> list[Result]:
    return [make(task) for task in tasks]


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers in order
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed ends no worker, and they would wait for its next case for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Workers started in here do not run the user's script again.

    Spawned processes import the main module, so that a script which calls `ucseg.prepare` without a guard would start
    itself over in every worker. Nothing of it is needed there: what they are to make is a function of the package.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
