"""`ucseg evaluate`: predicted masks against references; numbers a case and class, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.calls import typed
from ucseg.cli.reading_options import MaxVoxels, Spacing
from ucseg.cli.terminal import output, progress_bar, say
from ucseg.cli.uncertainty_words import say_uncertainty
from ucseg.errors import UserError, some

if TYPE_CHECKING:
    from rich.table import Table

    from ucseg.evaluation.results import ClassSummary, Evaluation

_SHOWN = 5


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted masks (or one mask).")],
    references: Annotated[
        Path, typer.Argument(help="Folder of reference masks (or one mask; DICOM SEG too), or a dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and cases.csv.")],
    split: Annotated[str, typer.Option(help="Which cases of a dataset: train, validation, test or all.")] = "test",
    tolerance: Annotated[float, typer.Option(help="Tolerance of surface Dice, in mm (px for plain images).")] = 2.0,
    classes: Annotated[
        str | None,
        typer.Option(help="For a folder of masks: anterior,posterior or 1=liver,7=spleen. Default: all values."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for the subject in a reference's name, e.g. '^(\\d+)_'; default: as init."
        ),
    ] = None,
    fill_outlines: Annotated[
        bool | None,
        typer.Option(
            "--fill-outlines/--no-fill-outlines",
            help="For a folder of masks: references are drawn contours. Default: such references are refused.",
        ),
    ] = None,
    mask_threshold: Annotated[
        float | None,
        typer.Option(help="For a folder of masks: foreground is where a reference is greater (JPEG: 127)."),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also measure the uncertainty that `ucseg predict` wrote beside them.")
    ] = False,
    margin: Annotated[
        float, typer.Option(help="With --uncertainty: how far from the structure is near it, in mm or px.")
    ] = 5.0,
    failed_below: Annotated[float, typer.Option(help="With --uncertainty: a case with a lower Dice has failed.")] = 0.8,
    spacing: Spacing = None,
    max_voxels: MaxVoxels = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads. Default: one a processor, at most 8.", min=1, max=256)
    ] = None,
) -> Evaluation:
    """Compare predicted masks with references, case by case and class by class.

    Dice, Jaccard, HD95, ASSD and surface Dice, in mm where scans have a spacing and in px otherwise; means with
    95 % intervals over subjects; classes missed or invented. A class in neither mask is undefined and counted
    separately. A class in only one of them gets Dice 0, and the image's diagonal as distance. References that are
    drawn outlines are refused or, with --fill-outlines, filled as `ucseg init` does. A case that cannot be compared is
    reported with exit code 2, and the others are done.

    With --uncertainty: how well the maps find wrong voxels, and the scores of cases bad masks. Where there are
    probabilities (of `predict --probabilities`), also whether they mean what they say. DIR then has uncertainty.csv,
    reliability.png and risk_coverage.png.

    Returns:
        Everything that was found: `.cases`, `.summary`, `.overall`, `.mean("dice")`, `.missing`, ...

    Raises:
        UserError: there was nothing to compare; or, at the end, some cases could not be compared.
    """
    from ucseg.evaluation.evaluate import Settings, evaluate_folder
    from ucseg.evaluation.uncertainty_maps import UncertaintySettings
    from ucseg.folder.understanding import check_options
    from ucseg.scans.said import said

    _refuse_to_overwrite(out, predictions, references, overwrite)
    command = typed(
        "evaluate", predictions, references, out=out, split=split, tolerance=tolerance, classes=classes,
        subject=subject, seed=seed, fill_outlines=fill_outlines, mask_threshold=mask_threshold, spacing=spacing,
        max_voxels=max_voxels,
        **({"uncertainty": True, "margin": margin, "failed_below": failed_below} if uncertainty else {}),
    )  # fmt: skip
    check_options(None, None, mask_threshold, None)
    named = _class_names(classes) if classes is not None else None
    how = said(None, spacing, max_voxels)
    measured = UncertaintySettings(margin, failed_below) if uncertainty else None
    settings = Settings(split, named, tolerance, subject, seed, fill_outlines, mask_threshold, how, measured)
    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None, visible=False)  # until it is known that there is something to do
        result = evaluate_folder(
            predictions,
            references,
            settings,
            workers=workers,
            command=command,
            report=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
        )
    result.save(out)
    output.print(_table(result))
    if result.uncertainty is not None:
        say_uncertainty(result.uncertainty)
    _say_what_is_not_in_it(result)
    cases = "case" if len(result.cases) == 1 else "cases"
    done = f"{len(result.cases)} {cases} evaluated; {out / 'metrics.json'} and {out / 'cases.csv'} are written."
    say("evaluated", f"{done} Next: ucseg report {out} --out report.html")
    if result.failed:
        reasons, total = list(result.failed.values()), len(result.failed) + len(result.cases)
        more = [f"... and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
        count = f"{len(reasons)} of {total} cases could not be compared; the others are done."
        raise UserError("cases-failed", "\n".join([*reasons[:_SHOWN], *more, count]))
    return result


def _refuse_to_overwrite(out: Path, predictions: Path, references: Path, overwrite: bool) -> None:
    """Other folders have a cases.csv too."""
    from ucseg.machine.writing import require_place

    require_place(out)
    taken = {place.absolute().resolve() for place in (predictions, references) if place.is_dir()}
    others = ("dataset.yaml", "prediction.json", "config.json")
    if out.absolute().resolve() in taken or any((out / name).exists() for name in others):
        raise UserError(
            "evaluation-out-taken",
            f"{out}: this folder holds the masks, a dataset, a prediction or a run; choose another --out.",
        )
    if (out / "metrics.json").exists() and not overwrite:
        raise UserError(
            "evaluation-exists", f"{out}: it holds an evaluation; choose another --out, or replace it with --overwrite."
        )


def _class_names(text: str) -> dict[int, str]:
    from ucseg.folder.classes import BACKGROUND, parse_classes

    named = parse_classes(text)
    if not any(named):
        raise UserError("classes-background", f"--classes {text}: only the background (0) is named; add a class.")
    if any(value and name.lower() == BACKGROUND for value, name in named.items()):
        raise UserError(
            "classes-background",
            f"--classes {text}: of two folders 0 is the background; name a dataset of `ucseg init --classes {text}` in "
            "place of the references.",
        )
    return named


def _table(result: Evaluation) -> Table:
    from rich.table import Table

    title = f"{len(result.cases)} cases, distances in {result.unit}; mean and 95 % interval"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for head in ["Dice", "Jaccard", "HD95", "ASSD", f"surface Dice\nat {result.tolerance:g} {result.unit}"]:
        table.add_column(head, justify="right")
    for head in ["missed", "false\npositive", "both\nempty"]:
        table.add_column(head, justify="right")
    for row in [*result.summary, result.overall] if len(result.summary) > 1 else result.summary:
        table.add_row(*_cells(row), end_section=True)
    return table


def _cells(row: ClassSummary) -> list[str]:
    digits = {"hd95": 2, "assd": 2}
    figures = [one.text(digits.get(name, 3)).replace(" ", "\n", 1) for name, one in row.metrics.items()]
    return [row.name, *figures, str(row.missed), str(row.false_positives), str(row.both_empty)]


def _say_what_is_not_in_it(result: Evaluation) -> None:
    from ucseg.dataset.fitting import stretched_in_words

    if result.provenance["dataset"] is None and len(result.cases) > 1:
        say(
            "subjects", f"{len({case.subject for case in result.cases})} subjects: {result.provenance['subject_rule']}."
        )
    for note in result.notes:
        say("subjects-to-check", f"note: {note}", "yellow")
    values, none = (result.provenance.get(key) or {} for key in ("values", "not_annotated"))
    meant = [f"{value} is class {index}" for value, index in dict(values).items()]
    meant += [f"{value} is not annotated" for value in none]
    if meant:
        say("references-as-in-training", f"The references are read as the masks of training: {', '.join(meant)}.")
    if result.unit == "mixed":
        said = "Some cases are in mm and some in px, so distances have no mean; evaluate them separately."
        say("units-mixed", said, "yellow")
    _say_if_distances_are_penalties(result)
    if not result.overall.evaluated:
        said = "No mask holds a class, in the predictions or in the references, so there is nothing to measure"
        say("nothing-measured", f"{said}; check that these are the right folders.", "yellow")
    if result.labels_apart is not None:
        true, predicted = (", ".join(map(str, labels)) for labels in result.labels_apart)
        said = f"The references hold class {true}, the predictions class {predicted}, so nothing agrees."
        named = "name the classes of the references as the predictions name them: --classes 4=liver,7=spleen"
        say("labels-apart", f"{said} If they mean the same, {named}, or renumber one of them.", "yellow")
    numbered = [case.case for case in result.cases if case.by_number]
    if numbered:
        said = "Cases whose classes are matched by number, as neither their files nor --classes name them"
        _list("classes-by-number", said, numbered)
    if stretched := {case.case: case.stretched for case in result.cases if case.stretched}:
        said = stretched_in_words(stretched, len(result.cases), "references", "predictions")
        say("references-stretched", f"{said}. Distances are in pixels of the predictions.", "yellow")
    for only_by in sorted({case.only_by for case in result.cases if case.only_by}):
        cases = [case.case for case in result.cases if case.only_by == only_by]
        _list("geometry-otherwise", f"Prediction and reference agree only by {only_by}", cases)
    unused = [f"{Path(file).name} {why}" for file, why in result.unmatched.items()]
    _list("missing-predictions", "References without a prediction, not in the means", result.missing)
    _list("without-reference", "Cases without a reference", result.unreferenced)
    _list("unused-predictions", "Predictions that were not used", unused)


def _say_if_distances_are_penalties(result: Evaluation) -> None:
    """A class that only one of two masks has is at no distance: what stands there is as large as the image allows."""
    from ucseg.evaluation.metrics import FALSE_POSITIVE, MISSED

    alone = result.overall.missed + result.overall.false_positives
    if not alone or result.unit == "mixed":
        return
    worst = [
        f"{case.worst_distance:.2f}"
        for case in sorted(result.cases, key=lambda case: case.worst_distance)
        if {MISSED, FALSE_POSITIVE} & {row["status"] for row in case.rows}
    ]
    diagonal = worst[0] if worst[0] == worst[-1] else f"{worst[0]} to {worst[-1]}"
    say(
        "distances-are-penalties",
        f"In {alone} of {result.overall.evaluated} pairs of case and class only one of the two masks has the class "
        f"(missed, false positive). HD95 and ASSD are then a penalty, the image's diagonal ({diagonal} {result.unit}), "
        "and count in the means.",
    )


def _list(kind: str, what: str, names: list[str]) -> None:
    if names:
        say(kind, f"{what}: {len(names)} ({some(names)}).", "yellow")
