"""`ucseg compare`: methods on the same cases, with equal steps or time; what may be said of their differences."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.calls import typed
from ucseg.cli.terminal import output, progress_bar, say
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from ucseg.comparison.grid import Cell
    from ucseg.comparison.processes import Job
    from ucseg.comparison.report import Study
    from ucseg.comparison.setup import Setup
    from ucseg.comparison.summary import Summary

CELL = "ucseg.cli.compare_cell"


def compare(
    dataset: Annotated[
        Path, typer.Argument(help="Dataset of `ucseg init`. Do not use --labelled there: compare hides masks itself.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")],
    labelled: Annotated[list[str], typer.Option(help="Labelled amounts: '5%,10%' or '8,16' (cases).")],
    methods: Annotated[list[str] | None, typer.Option(help="Methods: 'uc_seg,mean_teacher'. Default: uc_seg.")] = None,
    variants: Annotated[
        list[str] | None, typer.Option(help="Methods with settings: 'uc_seg,uc_seg:method.mixing=false:lr=0.02'.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, ...")] = 3,
    steps: Annotated[int | None, typer.Option(help="Updates of every run.", show_default="as of train")] = None,
    hours_each: Annotated[
        float | None,
        typer.Option(help="Time of every run, in place of --steps: hours of work on a CPU, of the clock on a GPU."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What the others are compared with.", show_default="uc_seg, or the first")
    ] = None,
    test_on: Annotated[
        list[Path] | None, typer.Option(help="Another dataset to measure the same models on. May be repeated.")
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(help="key=value: a setting of every run (lr=0.03) or of its plan (plan.size=128)."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of surface Dice, in mm (px for plain images).")] = 2.0,
    mirror: Annotated[
        bool, typer.Option(help="Measure on predictions that are mirrored too, as those of predict; slower.")
    ] = True,
    jobs: Annotated[int, typer.Option(help="Runs at once; each gets its share of the cores.", min=1, max=256)] = 1,
) -> Summary:
    """Compare methods on the same cases: every method at every labelled amount with every seed.

    Supervised training at the same labels (U-Net, V-Net and their mean) and with all labels, the ceiling, is always
    there. OUT gets index.html, table.csv, cases.csv and summary.json, written again after every finished run. The last
    and the best-on-validation weights are measured on the dataset's test cases.

    Ctrl-C saves; the same command goes on. More methods, amounts, seeds or test sets keep what is done. Other steps,
    time, settings, plan or cases are refused. A run that fails is reported at the end with exit code 2, and the others
    are done. The same command tries it again.

    Returns:
        Rows (a variant at an amount, with one kind of weights, on one test set) and comparisons with the reference.

    Raises:
        UserError: something is wrong with the options or the data; or, at the end, some runs failed.
        Interrupted: stopped by the user, after saving.
    """
    from ucseg.comparison.grid import amount_name, split_list
    from ucseg.comparison.processes import only_one, run_jobs
    from ucseg.comparison.report import code_versions
    from ucseg.comparison.setup import Wanted, set_up
    from ucseg.comparison.words import of_several_versions, of_silent_terms

    settings = [set] if isinstance(set, str) else set or []
    amounts, named, varied = (split_list(one or []) for one in (labelled, methods, variants))
    for option, given, words in (("methods", methods, named), ("variants", variants, varied)):
        if given is not None and not words:
            raise UserError("list-empty", f"--{option} {','.join(given)}: names nothing; name one, or leave it out.")
    lists = {"labelled": amounts, "methods": named, "variants": varied}
    command = typed(
        "compare", dataset, **{option: ",".join(words) or None for option, words in lists.items()}, seeds=seeds,
        steps=steps, hours_each=hours_each, reference=reference, test_on=test_on, set=settings, tolerance=tolerance,
        mirror=None if mirror else False, out=out,
    )  # fmt: skip
    wanted = Wanted(
        dataset,
        out,
        [amount_name(text) for text in amounts],
        named + varied or ["uc_seg"],
        seeds,
        steps,
        hours_each,
        reference,
        settings,
        test_on or [],
        tolerance,
        mirror,
        command,
    )
    say("checking", "Checking options, cases and files before anything starts.")
    setup = set_up(wanted)
    study = setup.study
    with only_one(out) as held:
        board = _Board(setup, jobs)
        todo = board.unfinished()
        _say_if_code_differs(board.results, bool(todo))
        _write_data(setup, {cell.labelled for cell in todo})
        board.report()  # of earlier calls, and of what this command changes
        tasks = [board.job(cell) for cell in todo]
        with board.shown():
            ended = run_jobs(tasks, jobs, board.on_end, board.on_wait, held)
    if not ended:
        raise Interrupted(
            f"Stopped and saved; {len(board.done)} of {len(study.cells)} runs are finished. "
            f"The same command goes on. Results so far: {out / 'index.html'}"
        )
    summary = board.summary
    _print(study, summary)
    for said in of_silent_terms(board.results):
        say("silent-terms", said, "yellow")
    if said := of_several_versions(code_versions(board.results)):
        say("several-versions", said, "yellow")
    say("report", f"Tables, pictures and every case: {out / 'index.html'}")
    if board.failed:
        count = f"{len(board.failed)} of {len(study.cells)} runs failed"
        lines = [f"{cell}: {reason} (log: {board.log(cell)})" for cell, reason in board.failed.items()]
        done = f"{count}; the others are done. The same command tries again."
        raise UserError("runs-failed", "\n".join([done, *lines]))
    return summary


def _say_if_code_differs(done: Mapping[Cell, Mapping[str, Any]], to_come: bool) -> None:
    """Warn before hours are spent on runs that may not be comparable with the finished ones."""
    from ucseg import __version__
    from ucseg.comparison.report import code_version, code_versions
    from ucseg.comparison.words import of_several_versions
    from ucseg.training.environment import environment

    versions, now = code_versions(done), code_version(__version__, environment())
    if to_come and (said := of_several_versions({**versions, now: versions.get(now, [])})):
        say("several-versions", said, "yellow")
    if not to_come and now not in versions:
        said = f"All runs are finished, by other versions of the code ({', '.join(versions)}) than this one ({now})."
        again = "To repeat a run with this one, delete its files in OUT/cells and OUT/runs, or choose another --out."
        say("other-version", f"{said} {again}", "yellow")


def _write_data(setup: Setup, amounts: set[str]) -> None:
    """The definition, the plan, and the derived datasets with their cases prepared in the one cache."""
    from ucseg.batches.prepare import prepare
    from ucseg.comparison.datasets import write_amount
    from ucseg.dataset.manifest import load_dataset
    from ucseg.planning.plan import write_plan

    out = setup.study.out
    setup.definition.save(out)
    write_plan(setup.plan, out / "plan.yaml")
    left_out: dict[str, str] = {}
    for text, amount in setup.amounts.items():
        if text in amounts:
            derived = write_amount(amount, out / "datasets")
            left_out |= dict(prepare(load_dataset(derived), setup.plan, out / "cache", setup.config.workers).left_out)
    setup.study.notes.extend(f"Left out of training and validation: {case}: {why}" for case, why in left_out.items())
    for note in setup.study.notes:
        say("note", f"note: {note}", "yellow")


class _Board:
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
        return Job(cell.name, python(CELL, json.dumps(vars(task))), self.log(cell))

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
            left="" if left is None else f"left about {timedelta(seconds=round(left))}",
        )


def _print(study: Study, summary: Summary) -> None:
    from rich.table import Table

    from ucseg.comparison import words
    from ucseg.comparison.report import row_texts, sections_of

    shown = ("labelled", "variant", "seeds", "dice", "spread", "hd95", "gap", "difference", "p", "verdict")
    for test, weights, rows in sections_of(study, summary):
        title = f"{study.tests[test]}: {rows[0].subjects} subjects, {weights} weights"
        table = Table(title=title, title_justify="left")
        for head in ("labelled", "variant"):
            table.add_column(head, overflow="fold")  # variants that differ at their ends must not look alike
        for head in ("seeds", "Dice, 95 % interval", "spread", "HD95", "gap\nclosed", "against\nreference", "p"):
            table.add_column(head, justify="right")
        table.add_column("")
        for row, following in itertools.zip_longest(rows, rows[1:]):
            texts = row_texts(study, row, summary.comparison_of(row))
            texts["hd95"] = words.number(row.metrics["hd95"].mean, ".1f")
            last = following is not None and following.labelled != row.labelled
            table.add_row(*(texts[key] for key in shown), end_section=last)
        output.print(table)
        for amount in study.amounts:
            for said in words.verdicts(summary, (test, amount, weights)):
                output.print(f"{amount}: {said}", soft_wrap=True)
