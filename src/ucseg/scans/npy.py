"""NumPy files read by several threads at once.

NumPy parses the header of each array as Python. Before Python 3.13 two threads that parse at once may end in
"SystemError: AST constructor recursion depth mismatch". So one thread at a time reads a header.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from ucseg.types import Array

_one_parses = Lock()


def open_npy(path: Path) -> Array:
    """The array of a .npy file as a read-only memory map.

    Raises:
        OSError, EOFError, ValueError: the file cannot be read, or is no .npy file.
    """
    with _one_parses:
        return np.lib.format.open_memmap(path, mode="r")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis runs fastest, and type of the array that starts here; the file then is at its data.

    Raises:
        ValueError, SyntaxError, TokenError: this is no header.
    """
    with _one_parses:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)


def read_npy(file: IO[bytes]) -> Array:
    """The array that starts here.

    Raises:
        ValueError, SyntaxError, TokenError: this is no array of numbers, or it ends too early.
    """
    shape, turned, dtype = read_npy_header(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    return np.ndarray(shape, dtype, bytearray(file.read()), order="F" if turned else "C")
