"""Cells of a comparison in the process of the test: a process of its own imports torch again, for seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ucseg.cli.train import train
from ucseg.comparison.cell import Task, run_cell
from ucseg.comparison.processes import Job


def run_here(
    jobs: Sequence[Job],
    _at_once: int,
    on_end: Callable[[Job, int], None],
    on_wait: Callable[[list[str]], None],
    _keep_open: Sequence[int],
) -> bool:
    """Stands for `run_jobs` where processes are not what is tested. A cell that fails raises its error."""
    for job in jobs:
        on_wait([job.name])
        run_cell(Task(**json.loads(job.command[-1])), train)
        on_end(job, 0)
    return True
