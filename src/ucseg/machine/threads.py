"""The same work over many files at once, in threads: reading and decompressing let go of Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ucseg.machine.cores import cores

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 8
"""Items a thread that may be done, and kept, before the one whose turn it is: one slow item keeps none waiting."""


def for_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    done: Callable[[], None] | None = None,
    most: int | None = None,
) -> list[Result]:
    """`work` of every item, in the items' order.

    Args:
        work: must be safe to run in threads. Its first error ends the whole, as does Ctrl-C: what has not begun is
            dropped.
        items: what to work on.
        done: called in this thread after each finished item, for a progress bar.
        most: items worked on at a time, where each takes much memory; None: 16.
    """
    found = []
    for result in in_turn(work, items, most):
        found.append(result)
        if done is not None:
            done()
    return found


def in_turn(work: Callable[[Item], Result], items: Sequence[Item], most: int | None = None) -> Iterator[Result]:
    """As `for_each`, one result after the other; only a few are kept until they are asked for."""
    threads = max(2, min(most or 16, cores()))
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == _AHEAD * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
