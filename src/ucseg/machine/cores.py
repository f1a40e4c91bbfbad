"""How many processors there are to work on, and how threads wait for each other."""

from __future__ import annotations

import os


def cores() -> int:
    """Processors that this process may use: fewer than the machine has, under taskset or in a job of SLURM."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> bool:
    """Whether more programs want a core than the machine has, in the last five minutes; False if not known."""
    return hasattr(os, "getloadavg") and os.getloadavg()[1] > (os.cpu_count() or 1)


def let_threads_sleep() -> None:
    """Have threads of GNU OpenMP, torch's on Linux, sleep soon where one waits for another, unless the user chose.

    By themselves they spin for milliseconds. On free cores a step of small images gains nothing by that. Beside other
    work it holds the core that the other thread waits for: steps took twice as long (benchmarks/results/threads.json).
    Call it before torch is loaded; processes started later have the setting too.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
