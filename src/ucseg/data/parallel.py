"""The same work over many files at once, in threads: reading and decompressing let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    pool = ThreadPoolExecutor(max_workers=max(2, min(most or 16, os.cpu_count() or 2)))
    try:
        futures = [pool.submit(work, item) for item in items]
        for future in as_completed(futures):
            future.result()
            if done is not None:
                done()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
