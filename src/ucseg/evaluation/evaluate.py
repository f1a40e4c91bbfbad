"""A folder of predictions against references: read, compare, sum up. Nothing is dropped without being named."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ucseg import __version__
from ucseg.dataset.fitting import fitted, stretch
from ucseg.dataset.masks import (
    mask_offset,
    names_of_none,
    nothing_annotated,
    read_label,
    unknown_in,
    values_held,
)
from ucseg.errors import UserError
from ucseg.evaluation.class_names import (
    agreed_names,
    as_in_training,
    as_references,
    classes_of,
    note_beside,
    require_same_classes,
)
from ucseg.evaluation.common_grid import by_order, common_grid, grid_difference
from ucseg.evaluation.matching import Pair, match
from ucseg.evaluation.metrics import case_metrics, check_tolerance, undefined, worst_distance
from ucseg.evaluation.reading import Reading, by_number, class_indices
from ucseg.evaluation.references import drawn_in
from ucseg.evaluation.results import CaseResult, Evaluation, uncertainty_of
from ucseg.evaluation.uncertainty_maps import UncertaintySettings, WrittenMaps
from ucseg.folder.survey import are_outlines
from ucseg.machine.memory import memory_for
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.reading import is_laid, is_segmentation, read_header
from ucseg.scans.said import NOTHING, Said
from ucseg.scans.same_grid import offset
from ucseg.types import Array


@dataclass(frozen=True)
class Settings:
    """What decides the numbers.

    Attributes:
        classes: class index -> name for folders of masks; None: every value that occurs. A dataset has its own.
        subject: regular expression for the subject in a reference's name; None: by names, as `ucseg init` finds it, or
            as the dataset says.
        fill_outlines: of folders of masks: references that are drawn contours are filled (and predictions, where they
            are contours too); False: the line is the structure; None: such references are refused.
        mask_threshold: of folders of references: foreground is where a mask is greater, as in `ucseg init`.
        said: of predictions, and of folders of references: how they are read.
        uncertainty: measure that of a folder that `ucseg predict` wrote; None: leave it out.
    """

    split: str = "test"
    classes: Mapping[int, str] | None = None
    tolerance: float = 2.0
    subject: str | None = None
    seed: int = 0
    fill_outlines: bool | None = None
    mask_threshold: float | None = None
    said: Said = NOTHING
    uncertainty: UncertaintySettings | None = None


DEFAULTS = Settings()


def evaluate_folder(
    predictions: Path,
    references: Path,
    settings: Settings = DEFAULTS,
    *,
    workers: int | None = None,
    command: str = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Compare masks with references, case by case. Writes nothing: see `Evaluation.save`.

    Args:
        predictions, references: see `matching.match`.
        workers: threads; None: one a processor, at most 8.
        command: kept in the result, to repeat it.
        report: called with (cases done, cases).

    Raises:
        UserError: the settings are wrong, or there is nothing to compare. A single case that cannot be compared is
            named in the result (`failed`), and the others go on.
    """
    check_tolerance(settings.tolerance)
    if settings.uncertainty is not None:
        settings.uncertainty.check()
    found = match(predictions, references, settings.split, settings.subject)
    found.pairs = [pair.as_said(settings.said, references=found.dataset is None) for pair in found.pairs]
    unnamed: dict[int, str] = {}
    if found.dataset is None:
        classes, filled = settings.classes, _filled(found.pairs, references, settings.fill_outlines)
        if classes is not None:
            unnamed = {value: classes[value] for value in names_of_none(classes)}
            classes = {value: name for value, name in classes.items() if value not in unnamed}
    else:
        for option in ("classes", "fill_outlines", "mask_threshold"):
            if getattr(settings, option) is not None:
                said = f"--{option.replace('_', '-')} is for folders of masks; a dataset's is in its dataset.yaml."
                raise UserError("option-of-dataset", said)
        require_same_classes(predictions, found.dataset)
        classes, filled = found.dataset.config.classes, (False, False)
    own = classes_of(predictions)
    predicted = as_references(own, classes) if found.dataset is None else None
    named = classes or own or agreed_names([pair.reference.mask for pair in found.pairs])
    trained: tuple[dict[int, int] | None, list[int]] = (None, [])
    if found.dataset is None and settings.classes is None and settings.mask_threshold is None:
        trained = as_in_training(predictions, [pair.reference.mask for pair in found.pairs])
    reading = Reading(
        *(found.dataset, classes, named, *filled, unnamed, predicted, bool(own)), *trained, settings.mask_threshold
    )
    maps = WrittenMaps.of(predictions, settings.uncertainty) if settings.uncertainty else None

    def tried(pair: Pair) -> CaseResult | UserError:
        try:
            with memory_for(pair.reference.mask):
                return _compare(pair, reading, settings, maps)
        except UserError as error:
            return error

    done = itertools.count(1)
    found_of = for_each(tried, found.pairs, lambda: report(next(done), len(found.pairs)), workers or 8)
    ordered = [one for one in found_of if isinstance(one, CaseResult)]
    failed = {
        pair.reference.case: one for pair, one in zip(found.pairs, found_of, strict=True) if isinstance(one, UserError)
    }
    failed |= found.of_other_scans
    note = note_beside(predictions)
    if not ordered:
        drawn = drawn_in(references) if found.dataset is None else None
        hint = f" What is drawn in {drawn.name} is compared by a dataset: ucseg init {references}." if drawn else ""
        nothing = UserError("no-case-evaluated", f"{predictions}: no case could be evaluated.{hint}")
        raise UserError.together([nothing, *failed.values()])
    threshold = settings.mask_threshold
    if threshold is not None and not any(r["true_positives"] + r["false_negatives"] for c in ordered for r in c.rows):
        raise UserError(
            "references-below-threshold",
            f"{references}: no mask holds a value above --mask-threshold {threshold:g}; give a lower one.",
        )
    complete = _complete(ordered, classes)
    return Evaluation(
        cases=complete,
        uncertainty=uncertainty_of(complete, maps) if maps else None,
        tolerance=settings.tolerance,
        seed=settings.seed,
        failed={case: str(error) for case, error in failed.items()},
        missing=[reference.case for reference in found.missing],
        unmatched={str(file): reason for file, reason in sorted(found.unmatched.items())},
        unreferenced=found.unreferenced,
        notes=found.subjects.notes if found.subjects is not None else [],
        provenance={
            "version": __version__,
            "command": command,
            "predictions": str(predictions),
            "references": str(references),
            "dataset": found.dataset.config.name if found.dataset is not None else None,
            "split": settings.split if found.dataset is not None else None,
            "subject": settings.subject,
            "subject_rule": found.subjects.rule if found.subjects is not None else "as the dataset says",
            "fill_outlines": settings.fill_outlines,
            "mask_threshold": settings.mask_threshold,
            "values": reading.values,
            "not_annotated": list(reading.not_annotated),
            "made_of": {
                "predictions": _content([pair.prediction for pair in found.pairs]),
                "references": _content([pair.reference.mask for pair in found.pairs]),
                "run": note.run if note else None,
                "weights": note.weights if note else None,
            },
        },
    )


def _content(masks: Sequence[Address]) -> str:
    """The digest of what masks hold, in their order, whatever they are called and wherever they lie."""

    def of_one(mask: Address) -> str:
        try:
            return content_of(mask)
        except (OSError, UserError):
            return "unreadable"  # comparing it has reported why

    return hashlib.blake2b(" ".join(for_each(of_one, masks)).encode(), digest_size=8).hexdigest()


def _filled(pairs: Sequence[Pair], references: Path, wanted: bool | None) -> tuple[bool, bool]:
    """Whether outlines of predictions and of references are filled.

    Raises:
        UserError: the references are outlines, the predictions are not, and `wanted` does not say what that means.
    """
    if wanted is False:
        return False, False
    outlines = wanted or are_outlines([pair.reference.mask for pair in pairs])
    lines_too = outlines and are_outlines([pair.prediction for pair in pairs])
    if wanted is None and outlines and not lines_too:
        raise UserError(
            "outlines-unasked",
            f"{references}: the references are outlines (closed lines, e.g. {pairs[0].reference.mask.name}), the "
            "predictions are not. Give --fill-outlines to fill them, or --no-fill-outlines if the line itself is the "
            "structure.",
        )
    return bool(wanted and lines_too), bool(wanted)


def _compare(pair: Pair, reading: Reading, settings: Settings, maps: WrittenMaps | None) -> CaseResult:
    """One case; a UserError if a file cannot be read, holds no classes, or the grids differ."""
    reference = pair.reference
    grid_shape, grid = common_grid(pair)
    difference, only_by = None, ""
    if not is_segmentation(pair.prediction):
        shape, geometry, _ = read_header(pair.prediction)
        if shape == grid_shape or not is_laid(pair.prediction):
            difference = grid_difference(shape, geometry, grid_shape, grid)
            only_by = "" if difference or len(shape) != grid.dims else offset(geometry, grid, shape).only_by
    if difference is not None:
        raise UserError(
            "grids-differ",
            f"{pair.prediction}: cannot be compared with {(reference.image or reference.mask).name}: {difference}. "
            f"Bring {'it' if reference.image else 'both'} to the grid of its scan.",
        )
    predicted, _ = class_indices(
        pair.prediction, reading, reading.filled_predictions, (grid_shape, grid), reading.predicted
    )
    unknown: Array | None
    if reading.dataset is not None:
        true = read_label(reference.mask, grid_shape, reading.dataset.config, grid, reference.slices)
        unknown = unknown_in(true)
    else:
        true, unknown = class_indices(
            *(reference.mask, reading, reading.filled_references, (grid_shape, grid)),
            numbers=reading.values,
            above=reading.threshold,
            none=reading.not_annotated,
        )
        if unknown is not None and unknown.all():
            raise nothing_annotated(reference.mask)
        whole, true = true, fitted(true, grid_shape, reference.mask)
        if lost := {*values_held(whole)} - {*values_held(true)}:
            classes = ", ".join(map(str, sorted(lost)))
            raise UserError(
                "reference-lost",
                f"{reference.mask}: loses class {classes} where it is stretched to the size of the prediction; "
                "evaluate a larger prediction.",
            )
        unknown = None if unknown is None else fitted(unknown, grid_shape, reference.mask)
    if true.shape != predicted.shape:
        raise UserError(
            "reference-shape", f"{reference.mask}: its shape is not that of its image; check that they belong together."
        )
    names = reading.classes if reading.classes is not None else _names(predicted, true, reading.named)
    rows = case_metrics(predicted, true, names, grid.spacing, settings.tolerance, unknown)
    stem = pair.prediction.stem
    measured = maps.measure(stem, (predicted, true), grid.spacing, reading.predicted, unknown) if maps else None
    worst = worst_distance(grid_shape, grid.spacing)
    only_by = only_by or mask_offset(reference.mask, grid_shape, grid).only_by or by_order(pair, grid_shape)
    held = [int(value) for values in (predicted, true) for value in values_held(values)]
    unsaid = by_number(reference.mask, pair.prediction, reading, held)
    partly = unknown is not None and bool(unknown.any())
    about = (reference.case, reference.subject, grid.unit, worst)
    stretched = stretch(reference.mask, grid_shape, grid) if reading.dataset is None else ""
    return CaseResult(*about, rows, unsaid, only_by, stem, measured, partly, stretched)


def _names(predicted: Array, true: Array, named: Mapping[int, str]) -> dict[int, str]:
    labels = (int(label) for label in np.union1d(values_held(predicted), values_held(true)) if label != 0)
    return {label: named.get(label, f"class {label}") for label in labels}


def _complete(cases: list[CaseResult], classes: Mapping[int, str] | None) -> list[CaseResult]:
    """Where classes were found along the way, give each case a row for those that only other cases have."""
    if classes is not None:
        return cases
    every = {row["label"]: row["name"] for case in cases for row in case.rows}
    complete = []
    for case in cases:
        rows = {row["label"]: row for row in case.rows}
        filled = [rows.get(label) or undefined(label, every[label]) for label in sorted(every)]
        complete.append(replace(case, rows=filled))
    return complete
