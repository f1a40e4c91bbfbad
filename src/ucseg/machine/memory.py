"""How much memory is free, for work that is refused before it begins instead of being killed in its midst."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ucseg.errors import UserError

_CONTROL_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Limit, use, and what of the use the kernel gives back when it must: of both versions of Linux's control groups."""


_SIGNS = ("OutOfMemoryError", "can't allocate memory", "out of memory", "bad_alloc", "Failed to allocate memory")
"""How torch and the runtimes of exported models say it, on a GPU and on a CPU. They take seconds to import."""


_OF_GPUS = ("CUDA", "HIP", "MPS", "XPU")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out."""
    # Errors of ONNX Runtime are of no kind of Python's.
    runtime = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")
    return isinstance(error, MemoryError) or (runtime and any(sign in repr(error) for sign in _SIGNS))


@contextmanager
def memory_for(what: object) -> Iterator[None]:
    """Work on a file, `what`. Where memory runs out, the error names it.

    Raises:
        UserError: memory ran out, the machine's or a GPU's.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        of_gpu = isinstance(error, RuntimeError) and any(name in str(error) for name in _OF_GPUS)
    # Outside: the first error would keep the frames of the work, and with them all its arrays.
    lacks, more = (
        ("the GPU has too little memory for it", "add --device cpu, or use a larger GPU")
        if of_gpu
        else ("there is not enough memory for it", "end other programs, or use a machine with more memory")
    )
    raise UserError("memory-ran-out", f"{what}: {lacks}; {more}.")


def free_memory() -> float:
    """Bytes that this process can still get without swapping; infinite where the system does not say it.

    A container has less than its machine: its limit counts.
    """
    free = kernel_bytes("MemAvailable", "/proc/meminfo")
    if free is None:
        free = math.inf
    for limit, used, stat, kept in _CONTROL_GROUPS:
        try:
            most, now = float(Path(limit).read_text()), float(Path(used).read_text())
            files = [line.split()[1] for line in Path(stat).read_text().splitlines() if line.startswith(f"{kept} ")]
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        free = min(free, most - now + sum(map(float, files)))
    return free


def total_memory() -> float:
    """Bytes of the machine."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def kernel_bytes(key: str, file: str = "/proc/self/status") -> float | None:
    """Bytes of a line of the kernel's; None where there is none."""
    try:
        lines = Path(file).read_text().splitlines()
        return next(float(line.split()[1]) * 2**10 for line in lines if line.startswith(key))
    except (OSError, StopIteration):
        return None


def in_gib(size: float) -> str:
    """For a message."""
    return f"{size / 2**30:.3g} GiB"
