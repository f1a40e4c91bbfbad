"""`ucseg demo`: the whole way on scans that it draws itself, in a few minutes, ending in a report with pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.calls import typed
from ucseg.cli.terminal import output, say
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from ucseg.dataset.manifest import Dataset
    from ucseg.evaluation.results import Evaluation
    from ucseg.evaluation.statistics import PairedDifference
    from ucseg.pictures.gallery import GalleryCase

METHODS = {"supervised": "Supervised", "uc_seg": "UC-Seg"}
PARTS = ("run", "masks", "numbers")  # folders of each method
SIZE = (64, 64)
VALIDATION, TEST = 6, 40
SHOWN = 6
NEXT_STEPS = "\n".join((
    "ucseg init YOUR_SCANS --out my-dataset      # pairs images with masks; an image without a mask is unlabelled",
    "ucseg check my-dataset                      # what is wrong with the files, if anything",
    "ucseg train my-dataset --out my-run         # makes a plan, prepares, trains UC-Seg",
    "ucseg predict my-run NEW_SCANS --out my-masks",
    "ucseg evaluate my-masks REFERENCE_MASKS --out my-numbers",
))  # fmt: skip


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured: method -> its numbers on the test cases, and its seconds of training."""

    report: Path
    evaluations: dict[str, Evaluation]
    seconds: dict[str, float]
    total_seconds: float


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("ucseg-demo"),
    look: Annotated[str, typer.Option(help="mri, ultrasound or endoscopy.")] = "ultrasound",
    seed: Annotated[int, typer.Option(help="Seed of the drawing, the split and the training.", min=0)] = 0,
    labelled: Annotated[int, typer.Option(help="Training cases whose mask is shown.", min=1)] = 6,
    unlabelled: Annotated[int, typer.Option(help="Training cases whose mask is hidden.", min=1)] = 80,
    steps: Annotated[int, typer.Option(help="Updates of each method.", min=1)] = 400,
) -> DemoResult:
    """Show the whole way on synthetic scans: few labels in, a report with pictures and numbers out.

    Draws a small data set, hides most masks, trains a supervised baseline and UC-Seg on the same cases and steps,
    predicts held-out cases, and writes OUT/report.html. Needs no data and no network; takes a few minutes on two
    cores. The scans are drawn by a program: the numbers say nothing about clinical performance.

    Args:
        out: replaced if an earlier demo made it; any other folder that is not empty is refused.

    Returns:
        The report's file and everything that was measured.

    Raises:
        UserError: an unknown look, or a folder that holds something else.
        Interrupted: stopped by the user.
    """
    import numpy as np

    from ucseg.cli.init import init
    from ucseg.cli.plan import plan
    from ucseg.cli.prepare import prepare
    from ucseg.demonstration.scans import LOOKS, NOTICE, draw_dataset
    from ucseg.evaluation.statistics import paired_difference

    if look not in LOOKS:
        raise UserError("look-unknown", f"--look {look} is not known; use one of {', '.join(LOOKS)}.")
    start = time.monotonic()
    _clear(out)
    scans, dataset = out / "scans", out / "dataset"
    say("synthetic", f"Note: {NOTICE}.", "yellow")
    total = labelled + unlabelled + VALIDATION + TEST
    say("drawing", f"Drawing {total} {look} scans into {scans}.")
    draw_dataset(scans, look, total, SIZE, seed)

    amounts: dict[str, Any] = {"validation": str(VALIDATION), "test": str(TEST), "labelled": str(labelled)}
    modality = {"endoscopy": "rgb"}.get(look, look)
    data = _do(init, scans, out=dataset, modality=modality, classes="background,organ", **amounts, seed=seed)
    chosen = _do(plan, dataset, set=["labelled_batch=4", "unlabelled_batch=4"])
    _do(prepare, dataset)
    seconds, evaluations = {}, {}
    for method in METHODS:
        since = time.monotonic()
        seconds[method], evaluations[method] = _train_and_test(method, out, dataset, steps, seed)
        if method == "supervised":
            minutes = (time.monotonic() - since) / 60
            say("half-done", f"\nSupervised took {minutes:.1f} min. UC-Seg follows, and takes two to three times that.")

    first, second = (evaluations[method].case_means("dice") for method in METHODS)
    difference = paired_difference(
        np.array(list(second.values())), np.array(list(first.values())), seed, limits=(-1, 1)
    )
    report = out / "report.html"
    result = DemoResult(report, evaluations, seconds, time.monotonic() - start)
    facts = {
        "Scans": f"{total} synthetic {look} images of {SIZE[0]} x {SIZE[1]} px, drawn with seed {seed}",
        "Training": f"{labelled + unlabelled} scans, {labelled} of them labelled "
        f"({labelled / (labelled + unlabelled):.0%}); the masks of the other {unlabelled} were hidden",
        "Validation and test": f"{VALIDATION} and {TEST} scans, not trained on",
        "Steps": f"{steps} for each method, {chosen.labelled_batch} labelled scans a step"
        f" (UC-Seg: and {chosen.unlabelled_batch} unlabelled)",
        "Time": f"{result.total_seconds:.0f} s in all",
    }
    _write_report(result, data, look, seed, facts, difference)
    output.print()
    output.print(f"{NOTICE[0].upper()}{NOTICE[1:]}.")
    measured = [f"{METHODS[m]} {one.overall.metrics['dice'].text(3)}" for m, one in evaluations.items()]
    output.print(f"Dice on {TEST} test scans: {'; '.join(measured)}")
    output.print(_verdict(difference), soft_wrap=True)
    output.print(f"{result.total_seconds:.0f} s in all. Report: {report}", soft_wrap=True)
    output.print(f"\nWith your own scans, type next:\n\n{NEXT_STEPS}", soft_wrap=True)
    return result


def _train_and_test(method: str, out: Path, dataset: Path, steps: int, seed: int) -> tuple[float, Evaluation]:
    """Seconds of training, and the numbers on the test cases."""
    from ucseg.cli.evaluate import evaluate
    from ucseg.cli.predict import predict
    from ucseg.cli.train import train

    run, masks, numbers = (out / f"{method}-{part}" for part in PARTS)
    try:
        fitted = _do(train, dataset, out=run, method=method, steps=steps, seed=seed)
        _do(predict, run, [dataset], out=masks)
    except Interrupted:
        raise Interrupted("The demo was stopped; 'ucseg demo' starts it from the beginning.") from None
    return fitted.seconds, _do(evaluate, masks, dataset, out=numbers)


def _clear(out: Path) -> None:
    """Remove what an earlier demo made; refuse a folder of anything else."""
    import shutil

    from ucseg.machine.writing import require_place

    marker = out / "this-folder-is-a-ucseg-demo"
    require_place(out)
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise UserError("not-a-demo", f"{out}: this folder holds something other than a demo; choose another --out.")
    parts = [f"{method}-{part}" for method in METHODS for part in PARTS]
    for name in ("scans", "dataset", *parts):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "report.html").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _do(verb: Callable[..., Any], *arguments: Path | list[Path], **options: Any) -> Any:
    """Show what one would type, and do it."""
    say("command", f"\n$ {typed(verb.__name__, *arguments, **options)}", "bold")
    return verb(*arguments, **options)


def _verdict(difference: PairedDifference) -> str:
    """What the numbers say, no more: one synthetic set and one seed."""
    from ucseg.comparison.words import signed

    words = "there is no clear difference"
    if difference.low > 0:
        words = "UC-Seg is ahead"
    elif difference.high < 0:
        words = "UC-Seg is behind"
    return (
        f"Dice of UC-Seg minus supervised, case by case: {signed(difference.mean)} (95 % interval "
        f"{signed(difference.low)} to {signed(difference.high)}, {difference.cases} scans): {words} on this synthetic "
        "set with this seed."
    )


def _write_report(
    result: DemoResult, data: Dataset, look: str, seed: int, facts: dict[str, str], difference: PairedDifference
) -> None:
    import ucseg
    from ucseg.pictures.drawing import colour_scale, legend
    from ucseg.pictures.gallery import draw_row, spread
    from ucseg.pictures.page import exact_uri, write_page

    ours = list(METHODS)[-1]
    scores = {method: evaluation.case_means("dice") for method, evaluation in result.evaluations.items()}
    cases = [_gallery_case(result.report.parent, data, case, scores) for case in spread(scores[ours], SHOWN)]
    highest = max(float(case.uncertainty.max()) for case in cases if case.uncertainty is not None)
    table = [
        (METHODS[method], row, result.seconds[method])
        for method, evaluation in result.evaluations.items()
        for row in evaluation.summary
    ]
    values = {
        "look": look,
        "version": ucseg.__version__,
        "seed": seed,
        "facts": facts,
        "test_cases": len(scores[ours]),
        "unit": result.evaluations[ours].unit,
        "table": table,
        "verdict": _verdict(difference),
        "ranked_by": METHODS[ours],
        "classes": legend(data.config.classes),
        "scale": exact_uri(colour_scale()),
        "highest": highest,
        "rows": {case.case: draw_row(case, highest) for case in cases},
        "next_steps": NEXT_STEPS,
    }
    write_page(result.report, "demo_report.html.j2", values, "ucseg.demonstration")


def _gallery_case(out: Path, data: Dataset, name: str, scores: dict[str, dict[str, float]]) -> GalleryCase:
    from ucseg.dataset.manifest import reference_masks
    from ucseg.dataset.masks import read_label
    from ucseg.pictures.gallery import GalleryCase
    from ucseg.scans.reading import read_scan
    from ucseg.scans.writing import map_ending, mask_ending

    case = next(case for case in data.test if case.case == name)
    image = read_scan(case.image)
    ours = list(METHODS)[-1]
    return GalleryCase(
        name,
        image.array,
        image.geometry,
        case.image,
        read_label(reference_masks(data)[name], image.array.shape[1:], data.config, image.geometry),
        {METHODS[m]: read_scan(out / f"{m}-masks" / f"{name}{mask_ending(case.image)}").array[0] for m in METHODS},
        {METHODS[method]: f"Dice {scores[method][name]:.3f}" for method in METHODS},
        read_scan(out / f"{ours}-masks" / "uncertainty" / f"{name}{map_ending(case.image)}").array[0],
    )
