"""What `ucseg compare` knows of its runs while they go on, and what it shows of that. Not a verb itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucseg.cli.terminal import progress_bar, say

if TYPE_CHECKING:
    from ucseg.comparison.grid import Cell
    from ucseg.comparison.processes import Job
    from ucseg.comparison.setup import Setup

CELL = "ucseg.cli.compare_cell"


class Board:
    """Which runs are finished, which failed, and what is shown of it."""

    def __init__(self, setup: Setup, jobs: int) -> None:
        from ucseg.comparison.cell import measured

        self.setup, self.jobs, self.study = setup, jobs, setup.study
        self.tests = list(self.study.tests)
        found = {cell: measured(self.study.out, cell.name, self.tests) for cell in self.study.cells}
        self.results = {cell: result for cell, result in found.items() if result is not None}
        self.failed: dict[Cell, str] = {}
        self.by_name = {cell.name: cell for cell in self.study.cells}

    @property
    def done(self) -> dict[Cell, dict[str, Any]]:
        """The finished cells; `results` has those too that have not been measured on a new test set."""
        from ucseg.comparison.report import finished

        return finished(self.study, self.results)

    def unfinished(self) -> list[Cell]:
        """In the order in which they are to run."""
        done = self.done
        return [cell for cell in self.study.cells if cell not in done]

    def log(self, cell: Cell) -> Path:
        """All that a cell's process prints."""
        return self.study.out / "logs" / f"{cell.name}.log"

    def job(self, cell: Cell) -> Job:
        from ucseg.comparison.cell import Task
        from ucseg.comparison.grid import file_name
        from ucseg.comparison.processes import Job, python
        from ucseg.machine.cores import cores

        config, out = self.setup.config, self.study.out.absolute()
        workers = config.workers if config.workers is not None else max(0, min(4, cores() // self.jobs - 1))
        task = Task(
            name=cell.name,
            out=str(out),
            dataset=str(out / "datasets" / file_name(cell.labelled)),
            source=str(self.setup.dataset.folder),
            method=cell.variant.method,
            settings=[*self.setup.common, *cell.variant.all_settings],
            seed=cell.seed,
            steps=config.steps if config.hours is None else None,
            hours=config.hours,
            device=config.device,
            workers=workers,
            tests=self.tests,
            members=cell.variant.members,
            tolerance=self.study.settings["tolerance"],
            mirror=self.study.settings["mirror"],
            precision=self.setup.definition.precision or None,
        )
        return Job(cell.name, python(CELL, json.dumps(vars(task))), self.log(cell).absolute(), task.run)

    def on_end(self, job: Job, code: int) -> None:
        """Read what a process has written."""
        from ucseg.comparison.cell import measured
        from ucseg.comparison.processes import failure_reason

        cell = self.by_name[job.name]
        trained_before = cell in self.results
        if found := measured(self.study.out, cell.name, self.tests):
            self.results[cell] = found
        if code != 0 or cell not in self.done:
            self.failed[cell] = failure_reason(job.log, code)
            say("run-failed", f"failed: {cell}: {self.failed[cell]}", "red")
        else:
            training = self.results[cell]["training"]
            what = "measured" if trained_before else f"{training['steps']} steps in {training['seconds']:.0f} s"
            say("run-done", f"{len(self.done)} of {len(self.study.cells)}: {cell}: {what}")
        self.report()

    def report(self) -> None:
        """Write the four files again, from what is finished."""
        from ucseg.comparison.report import write_report

        self.summary = write_report(self.study, self.results, self.failed)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """A bar over the whole grid."""
        with progress_bar(own_estimate=True) as self.bar:
            self.task = self.bar.add_task("comparing", total=len(self.study.cells), left="")
            yield

    def on_wait(self, running: list[str]) -> None:
        from ucseg.comparison.progress import cells_done, seconds_left, training_so_far

        config = self.setup.config
        whole = (config.steps, "step") if config.hours is None else (3600 * config.hours, "work")
        now = {self.by_name[name]: training_so_far(self.study.out / "runs" / name, *whole) for name in running}
        waiting = [cell for cell in self.unfinished() if cell not in now and cell not in self.failed]
        left = seconds_left(waiting, now, self.done, self.jobs)
        said = "; ".join(map(str, now)) if len(now) < 3 else f"{len(now)} runs at once"
        self.bar.update(
            self.task,
            completed=cells_done(len(self.done) + len(self.failed), now),
            description=said,
            left="" if left is None else f"about {timedelta(seconds=round(left))}",
        )
