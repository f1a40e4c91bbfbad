"""How many processors there are to work on."""

from __future__ import annotations

import os


def cores() -> int:
    """Processors that this process may use: fewer than the machine has, under taskset or in a job of SLURM."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
