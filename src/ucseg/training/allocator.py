"""Memory that training and prediction free and need again a moment later stays with the process."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt (malloc.h) and what they are where nobody has set them.
TRIM_THRESHOLD, TRIM_DEFAULT = -1, 128 * 2**10
MMAP_MAX, MMAP_DEFAULT = -4, 65536
ARENA_MAX = -8


@contextmanager
def kept_memory(keep: bool = True, *, shared: bool = False) -> Iterator[None]:
    """While it lasts, freed memory is not given back to the system; afterwards it is.

    Every step, and every window of a prediction, takes and frees the same gigabytes. glibc asks the system for each
    large tensor again, and the system clears page after page: a tenth of a step, a third of a window. Only on Linux
    with glibc and for tensors on the CPU; elsewhere nothing happens.
    The process needs more memory at its peak, as freed blocks do not always fit what comes next.

    Args:
        keep: False: nothing happens.
        shared: threads that begin later take memory from one place, so that what one of them frees serves the others.
            This stays so to the end of the process.
    """
    if not keep or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, -1)  # never, whatever the step's size
    if shared:
        libc.mallopt(ARENA_MAX, 1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, MMAP_DEFAULT)
        libc.mallopt(TRIM_THRESHOLD, TRIM_DEFAULT)
        give_back()


def give_back() -> None:
    """Hand freed memory of the CPU to the system now, so that what the process holds is what it uses."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
