"""NumPy files read by several threads at once."""

from __future__ import annotations

import gc
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ucseg.scans.npy import open_npy, read_npy, read_npy_header


def stored(array: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return file


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">i2", "?", "c8"])
def test_arrays_come_back_as_they_were_saved(order: str, dtype: str, tmp_path: Path) -> None:
    array = np.array(np.arange(24).reshape(2, 3, 4).astype(dtype), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    for read in (read_npy(stored(array)), open_npy(tmp_path / "a.npy")):
        assert read.dtype == array.dtype and read.flags.f_contiguous == array.flags.f_contiguous
        assert np.array_equal(read, array)


def test_objects_and_arrays_cut_short_are_refused() -> None:
    with pytest.raises(ValueError):
        read_npy(stored(np.array([{}, 1], dtype=object)))
    with pytest.raises((ValueError, TypeError)):
        read_npy(io.BytesIO(stored(np.arange(9)).getvalue()[:-1]))


def test_threads_read_headers_while_python_collects_garbage() -> None:
    """Python before 3.13 fails in about one read of 800 here if two threads parse headers at once."""

    class Circle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            sum(range(50))

    header = stored(np.zeros((4, 4), np.float32)).getvalue()

    def read(_: int) -> None:
        for _ in range(1000):
            Circle()
            assert read_npy_header(io.BytesIO(header))[0] == (4, 4)

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        gc.set_threshold(20)
        sys.setswitchinterval(1e-5)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read, range(4)))
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
