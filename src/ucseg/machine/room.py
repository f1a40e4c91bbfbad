"""Room for arrays as large as a scan: in memory, or, beyond that, in a file that vanishes with the array.

A page of such a file counts as the process's own memory only from its use to `leave`. The system keeps it as long as
it has memory to spare, and writes it to the disk where it has none.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from ucseg.errors import UserError
from ucseg.machine.memory import in_gib

Array = npt.NDArray[Any]

IN_MEMORY = 2**28
"""Bytes of one array."""
AT_A_TIME = 2**20
"""Voxels of what is made and dropped again on the way through a scan."""


def room(
    shape: tuple[int, ...],
    dtype: npt.DTypeLike = np.float32,
    in_memory: int | None = None,
    *,
    scattered: bool = False,
) -> Array:
    """An array of zeros, its first axis the slowest.

    Args:
        in_memory: most bytes outside a file; None: `IN_MEMORY`.
        scattered: what is used at a time lies in many places. Pages beside them are not fetched.

    Raises:
        UserError: the disk has no place for it, or the temporary folder takes no file. Without this check the process
            would be killed in its midst.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= (IN_MEMORY if in_memory is None else in_memory):
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:  # the mapping keeps the nameless file alive as long as the array lives
            _claim(file.fileno(), size)
            mapped = mmap.mmap(file.fileno(), size)
            if scattered and hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)
            return np.ndarray(shape, dtype, buffer=mapped)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        # Python looks through several folders, and has none where it finds no usable one.
        folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise UserError(
                "no-room-on-disk",
                f"{folder}: has no place for {in_gib(size)} that a large scan needs for a while; "
                "set TMPDIR to a folder with more.",
            ) from None
        raise UserError(
            "no-temporary-file",
            f"{folder}: takes no temporary file for a large scan ({error.strerror}); set TMPDIR to another folder.",
        ) from None


def _claim(file: int, size: int) -> None:
    """Give a file so many bytes of the disk; only their number where the file system cannot promise more."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
            disk = os.fstatvfs(file)
            if disk.f_bavail * disk.f_frsize < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    os.truncate(file, size)


def leave(*arrays: Array) -> None:
    """Give back the memory in which pages of these arrays lie, if they are of a file. Their values stay."""
    for array in arrays:
        if (file := _mapping(array)) is not None and hasattr(mmap, "MADV_DONTNEED"):
            file.madvise(mmap.MADV_DONTNEED)


def in_file(array: Array) -> bool:
    """Whether an array of `room` lies in a file."""
    return _mapping(array) is not None


def _mapping(array: Array) -> mmap.mmap | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def pieces(shape: tuple[int, ...]) -> list[slice]:
    """Rows of the first axis, in order, so that a piece has about `AT_A_TIME` voxels."""
    rows = max(1, AT_A_TIME // max(1, math.prod(shape[1:])))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
