"""Cells as an array job of SLURM: a script, and a file with a line for each cell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ucseg.comparison.processes import AGAIN, Job
from ucseg.machine.writing import write_text

SCRIPT, CELLS = "slurm.sh", "slurm_cells.txt"
WARNED = 300
"""Seconds before the time limit at which SLURM asks a cell to save and end."""


def write_array(out: Path, jobs: Sequence[Job]) -> Path:
    """Write OUT/slurm.sh and the file that it reads; a cell takes the line of its number in the array.

    Args:
        out: folder of the comparison, absolute; all machines see it.
        jobs: at least one; what has been done is not among them.

    Returns:
        The script, for `sbatch`, which takes partition, time and memory as options.
    """
    module = jobs[0].command[1:-1]
    write_text(out / CELLS, "".join(f"{job.log}\t{job.command[-1]}\n" for job in jobs))
    cells, logs = shlex.quote(str(out / CELLS)), shlex.quote(str(jobs[0].log.parent))
    script = f"""#!/bin/bash
#SBATCH --job-name=ucseg-compare
#SBATCH --array=0-{len(jobs) - 1}
#SBATCH --signal=TERM@{WARNED}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/dev/null
# A run for each number of the array. One that is stopped or started again goes on from its last save.
# A line of the file is a log and a task.
IFS=$'\\t' read -r log task < <(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {cells})
mkdir -p {logs}
# What an earlier start said stays in the log.
[ -s "$log" ] && printf '\\n%s\\n' '{AGAIN}' >> "$log"
# As many threads as cores were asked for.
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}" MKL_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
exec {shlex.join([sys.executable, *module])} "$task" >> "$log" 2>&1
"""
    write_text(out / SCRIPT, script)
    return out / SCRIPT
