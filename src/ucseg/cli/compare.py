"""`ucseg compare`: methods on the same cases, with equal steps or time; what may be said of their differences."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.calls import typed
from ucseg.cli.compare_board import Board
from ucseg.cli.terminal import output, say
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from ucseg.comparison.grid import Cell
    from ucseg.comparison.report import Study
    from ucseg.comparison.setup import Setup
    from ucseg.comparison.summary import Summary


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
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Runs at once; each gets its share of the cores. With --ray: workers.",
            show_default="1; with --ray one for each GPU, or for 4 cores",
            min=1,
            max=4096,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Share the runs between workers, by Ray: local (on this machine), auto or HOST:PORT (a cluster).",
        ),
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Write the runs as an array job of SLURM, OUT/slurm.sh, and start none.")
    ] = False,
) -> Summary:
    """Compare methods on the same cases: every method at every labelled amount with every seed.

    Supervised training is always there, at the same labels and with all labels, the ceiling: both networks and their
    mean, or U-Net alone with --hours-each. OUT gets index.html, table.csv, cases.csv and summary.json, written again
    after every finished run. The last and the best-on-validation weights are measured on the dataset's test cases.

    Ctrl-C saves; the same command goes on. More methods, amounts, seeds or test sets keep what is done. Other steps,
    time, settings, plan or cases are refused. A run that fails is reported at the end with exit code 2, and the others
    are done. The same command tries it again.

    --ray runs them on the workers of a cluster, and --slurm writes an array job. Data and OUT must then lie where all
    machines see them. When the array job has ended, the command without --slurm makes the report.

    Returns:
        Rows (a variant at an amount, with one kind of weights, on one test set) and comparisons with the reference.

    Raises:
        UserError: something is wrong with the options or the data; or, at the end, some runs failed.
        Interrupted: stopped by the user, after saving.
    """
    from ucseg.comparison.grid import amount_name, split_list
    from ucseg.comparison.on_ray import run_on_ray
    from ucseg.comparison.processes import only_one, run_jobs
    from ucseg.comparison.report import code_versions
    from ucseg.comparison.setup import Wanted, set_up
    from ucseg.comparison.slurm import write_array
    from ucseg.comparison.words import of_several_versions, of_silent_terms
    from ucseg.inference.on_ray import cluster

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
    study, device = setup.study, setup.config.device
    _check_where(ray, slurm, device)
    with nullcontext() if ray is None else cluster(ray, jobs) as joined, only_one(out) as held:
        board = Board(setup, jobs or 1)
        todo = board.unfinished()
        _say_if_code_differs(board.results, bool(todo))
        _write_data(setup, {cell.labelled for cell in todo})
        board.report()  # of earlier calls, and of what this command changes
        tasks = [board.job(cell) for cell in todo]
        if slurm and tasks:
            script = write_array(out.absolute(), tasks)
            count = f"{len(tasks)} runs are left: {shlex.join(['sbatch', str(script)])}"
            say("slurm", f"{count} starts them. When they have ended, give this command without --slurm.")
            return board.summary
        with board.shown():
            reports = board.on_end, board.on_wait
            if joined is None:
                ended = run_jobs(tasks, jobs or 1, *reports, held)
            else:
                ended = run_on_ray(joined, out.absolute(), tasks, *reports, _warn, device=device, workers=jobs)
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


def _check_where(ray: str | None, slurm: bool, device: str) -> None:
    if ray is not None and slurm:
        raise UserError("ray-and-slurm", "--ray and --slurm exclude each other; give one of them.")
    if ray is not None and ":" in device:
        raise UserError("ray-gpu-number", f"device={device}: with --ray each worker gets a GPU; use auto, cuda or cpu.")


def _warn(kind: str, text: str) -> None:
    say(kind, text, "yellow")


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
