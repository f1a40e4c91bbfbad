"""`ucseg label-next`: which unlabelled scans are worth an expert's time, and the model's masks to start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.calls import typed
from ucseg.cli.terminal import progress_bar, say
from ucseg.errors import Interrupted, UserError, some
from ucseg.labelling.names import DEFAULT, STRATEGIES
from ucseg.machine.memory import memory_for

if TYPE_CHECKING:
    from ucseg.dataset.case import Case
    from ucseg.inference.predictor import Predictor
    from ucseg.labelling.measures import Measure
    from ucseg.labelling.shortlist import LabelFolder


def label_next(
    run: Annotated[Path, typer.Argument(help="Folder that `ucseg train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset whose unlabelled training cases are ranked.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the list, its pictures and the masks to start from.")],
    n: Annotated[int, typer.Option(min=1, help="How many cases (with --slices: slices) are listed.")] = 10,
    strategy: Annotated[
        str,
        typer.Option(help="random, foreground-random, entropy, disagreement, class-entropy or diversity."),
    ] = DEFAULT,
    slices: Annotated[bool, typer.Option("--slices", help="Rank single slices of volumes.")] = False,
    power: Annotated[
        float, typer.Option(help="Of class-entropy: 1 is nearly chance, 100 mostly score. Raise it with each round.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of every random draw. Change it with each round.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="Weights: last, best (on validation cases) or ema.")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a stop: keep what is measured.")] = False,
) -> list[dict[str, Any]]:
    """Rank the training cases that have no mask: which one should an expert label next?

    Writes OUT/list.csv, OUT/sheet.html (their pictures) and OUT/start (the model's masks, in the format and geometry of
    each scan). Correct them, save the finished ones into OUT/finished, then `ucseg add-masks DATASET OUT/finished`.
    Cases for validation and test are never ranked.

    Returns:
        The rows of list.csv, best first.

    Raises:
        UserError: nothing could be ranked; or, at the end, some scans could not be measured.
        Interrupted: stopped by the user; what is done is kept.
    """
    from ucseg.dataset.manifest import load_dataset

    if strategy not in STRATEGIES:
        raise UserError("strategy-unknown", f"--strategy {strategy} is not known; use one of {', '.join(STRATEGIES)}.")
    if not 0 < power <= 1e6:
        raise UserError("power-range", f"--power {power:g} is out of range; give a number above 0, e.g. 10.")
    data = load_dataset(dataset)
    if slices and data.config.dims == 2:
        raise UserError("data-without-slices", f"{data.folder}: its scans are single images; leave out --slices.")
    ranked = [*data.unlabelled, *(case for case in data.labelled if slices and case.slices is not None)]
    if not ranked:
        raise UserError(
            "nothing-to-label", f"{data.folder}: every training case has a mask; add scans with 'ucseg init' first."
        )

    from ucseg.inference.predictor import Predictor
    from ucseg.labelling.measures import not_labelled
    from ucseg.labelling.sheet import write_sheet
    from ucseg.labelling.shortlist import FINISHED, LIST, START, LabelFolder
    from ucseg.labelling.strategies import choose
    from ucseg.training.allocator import kept_memory

    quick = Predictor.from_run(run, checkpoint=checkpoint, device=device, precision=precision, mirror=False)
    if quick.plan.classes != data.config.classes:
        ours, theirs = (", ".join(found.values()) for found in (quick.plan.classes, data.config.classes))
        raise UserError(
            "run-of-other-classes",
            f"{run}: its classes are {ours}, those of {data.folder} {theirs}; give a run of this data.",
        )
    settings = {
        "run": str(run.absolute()),
        "checkpoint": checkpoint,
        "weights": quick.weights,
        "dataset": str(data.folder),
        "strategy": strategy,
        "slices": slices,
        "power": power,
        "seed": seed,
        "n": n,
    }
    folder = LabelFolder(out, settings, resume=resume)
    cases = {case.case: case for case in ranked}
    needed = list({case.case: case for case in [*ranked, *(data.labelled if strategy == "diversity" else [])]}.values())
    problems: list[UserError] = []
    with kept_memory(quick.device.type == "cpu"), _stoppable(typed("label-next", run, dataset, out=out)):
        measured = _measured(quick, needed, folder, slices, problems)
        candidates = [one for case in ranked for one in not_labelled(case, measured.get(case.case, []))]
        labelled = [one for case in data.labelled for one in measured.get(case.case, [])]
        if not candidates:
            raise UserError.together(problems)
        if strategy == "class-entropy":
            _say_if_chance(candidates, power)
        choices = choose(strategy, candidates, n, seed=seed, labelled=labelled, power=power)
        chosen = list(dict.fromkeys(choice.measure.case for choice in choices))
        careful = Predictor(quick.method, quick.plan, quick.device, precision=quick.precision)
        _write_starts(careful, [cases[name] for name in chosen], folder, data.config, problems)
        rows = folder.write_list(choices, strategy, cases)
        sheet = write_sheet(folder.path, rows, cases, data.config, quick.plan)
    of = f"{len(candidates)} slices of {len(ranked)}" if slices else f"{len(ranked)}"
    say(
        "labels-wanted",
        f"{len(rows)} of {of} unlabelled training cases, by {strategy}: {some([_named(row) for row in rows])}. "
        f"List: {out / LIST}. Pictures: {sheet}.",
    )
    back = typed("add-masks", dataset, out / FINISHED)
    say(
        "correct-and-add",
        f"Correct the masks of {out / START} and save each into {out / FINISHED}, under its name. Then: {back}",
    )
    if problems:
        for problem in problems:
            say(problem.code, str(problem), "red")
        raise UserError(
            "scans-not-ranked", f"{len(problems)} scans are not in the list (named above); fix or remove them."
        )
    return rows


def _say_if_chance(candidates: list[Measure], power: float) -> None:
    from ucseg.labelling.strategies import NEARLY_CHANCE, likeliest

    enough = min(NEARLY_CHANCE, len(candidates) / 2)
    times = likeliest(candidates, power)
    if times >= enough:
        return
    better = next((p for p in (3, 10, 30, 100, 300) if p > power and likeliest(candidates, p) >= enough), None)
    advice = "The scores are nearly equal." if better is None else f"Give --power {better} or more."
    say(
        "nearly-chance",
        f"At --power {power:g}, class-entropy is nearly chance: the likeliest is {times:.1f} times as likely as an "
        f"average one. {advice}",
        "yellow",
    )


def _measured(
    predictor: Predictor, cases: list[Case], folder: LabelFolder, slices: bool, problems: list[UserError]
) -> dict[str, list[Measure]]:
    """The figures of each case, by name; those of an earlier call are kept. A scan that has none is a problem."""
    from ucseg.labelling.measures import measure_scan
    from ucseg.scans.content import content_of
    from ucseg.scans.reading import read_scan

    found: dict[str, list[Measure]] = {}
    with progress_bar() as bar:
        task = bar.add_task("looking at scans", total=len(cases))
        for number, case in enumerate(cases):
            bar.update(task, completed=number)
            try:
                with memory_for(case.image):
                    content = content_of(case.image)
                    if (case.case, content) not in folder.measured:
                        scan = read_scan(case.image)

                        def report(part: float, number: int = number) -> None:
                            bar.update(task, completed=number + part)

                        folder.add(
                            case.case, content, measure_scan(predictor, case.case, scan, slices=slices, report=report)
                        )
                    found[case.case] = folder.measured[case.case, content]
            except (UserError, OSError) as error:
                problems.append(_problem(case, error))
        bar.update(task, completed=len(cases))
    return found


def _write_starts(
    predictor: Predictor, cases: list[Case], folder: LabelFolder, config: Any, problems: list[UserError]
) -> None:
    with progress_bar() as bar:
        for case in bar.track(cases, description="masks to start from"):
            try:
                with memory_for(case.image):
                    folder.write_start(case, predictor, config)
            except OSError as error:
                problems.append(_problem(case, error))
            except UserError as error:
                if error.code != "memory-ran-out":  # it cannot be written, and neither can the others
                    raise
                problems.append(error)


def _problem(case: Case, error: UserError | OSError) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError("scan-unreadable", f"{case.image}: cannot be read ({error.strerror}); restore the file.")


@contextmanager
def _stoppable(command: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; what is done is kept. Continue with the same command and --resume ({command} ...)."
        ) from None


def _named(row: dict[str, Any]) -> str:
    return str(row["case"]) if row["slice"] == "" else f"{row['case']} slice {row['slice']}"
