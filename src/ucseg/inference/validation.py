"""How good a method is on prepared validation cases: what training watches and chooses its best weights by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ucseg import ranks
from ucseg.inference.calibration import Calibration, CaseRecord, calibrate, record_of
from ucseg.inference.case_scores import expected_loss, missing
from ucseg.inference.class_means import mean_of_class_means
from ucseg.inference.disagreement import foreground_dice
from ucseg.inference.maps import Maps
from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import mirrors_of
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan
from ucseg.scans.npy import open_npy
from ucseg.training.checkpoint import weights_digest
from ucseg.types import NOT_ANNOTATED, Array

if TYPE_CHECKING:
    from ucseg.batches.prepare import PreparedCase

MIRRORED = "mirrored dice"


def watching(
    plan: Plan,
    cases: Sequence[PreparedCase],
    precision: str,
    report: Callable[[int, int], None],
    keep: Callable[[Calibration], None],
) -> Callable[[Method, bool], Mapping[str, float]] | None:
    """`validate` as a training loop calls it: with the method, and whether it has ended; None without cases."""
    if not cases:
        return None
    return lambda method, at_end: validate(method, plan, cases, precision, report, at_end=at_end, keep=keep)


def validate(
    method: Method,
    plan: Plan,
    cases: Sequence[PreparedCase],
    precision: str = "auto",
    report: Callable[[int, int], None] | None = None,
    *,
    at_end: bool,
    keep: Callable[[Calibration], None] | None = None,
) -> dict[str, float]:
    """What a run watches: `validation_dice` without mirroring, which is quick and chooses the best weights.

    At the end of a run, "mirrored dice" is added where the plan has an axis to mirror: the Dice of what `ucseg predict`
    makes of these cases.

    Args:
        keep: called at the end with what these predictions say about the weights: no case is predicted again for it.
    """
    records: list[CaseRecord] | None = [] if at_end and keep is not None else None
    mirrors = at_end and len(mirrors_of(plan)) > 1
    figures = validation_dice(method, plan, cases, precision, report, records=None if mirrors else records)
    if mirrors:
        again = validation_dice(method, plan, cases, precision, report, mirror=True, records=records)
        figures[MIRRORED] = again["dice"]
    if records and keep is not None and (found := calibrate(records, weights_digest(method), mirrors)) is not None:
        keep(found)
    return figures


def validation_dice(
    method: Method,
    plan: Plan,
    cases: Sequence[PreparedCase],
    precision: str = "auto",
    report: Callable[[int, int], None] | None = None,
    mirror: bool = False,
    *,
    records: list[CaseRecord] | None = None,
) -> dict[str, float]:
    """Mean foreground Dice on the network's grid, whole cases, on the device where the method is.

    For each class the mean over the cases that have it in the label or the prediction (both empty: undefined, left
    out), then the mean over classes. NaN when no case has any foreground. Ranks share the cases; all get the figures.

    Args:
        method: it comes back in the mode it was in.
        plan: the plan it is trained with.
        cases: prepared cases with a label.
        precision: as in training.
        mirror: as of `Predictor`.
        report: called with the cases of this rank that are done, and how many those are: before the first, after each.
        records: gets one of each case, if it is a list.

    Returns:
        "dice" of the prediction; "dice_NAME" of each single network; with several foreground classes also
        "dice_class_NAME" of the prediction.
    """
    predictor = Predictor(method, plan, next(method.parameters()).device, precision=precision, mirror=mirror)
    classes = len(plan.classes)
    measured: list[dict[str, Array]] = []
    kept: list[CaseRecord] = []
    own = cases[ranks.rank() :: ranks.size()]
    for done, case in enumerate(own):
        if report is not None:
            report(done, len(own))
        assert case.label is not None
        image = np.asarray(open_npy(case.image), np.float32)
        reference = open_npy(case.label)
        unknown: Array | None = None
        if case.partly:  # what is not annotated counts as background in both
            unknown = reference == NOT_ANNOTATED
            reference = np.where(unknown, 0, reference)
        prediction = predictor.predict_grid(image)
        named = {"dice": prediction.probabilities} | {f"dice_{k}": v for k, v in prediction.members.items()}
        row = {}
        for name, probabilities in named.items():
            label = predictor.keep_components(probabilities[0].argmax(axis=0).astype(np.uint8))
            if unknown is not None:
                label[unknown] = 0
            row[name] = foreground_dice(label, reference, classes)
        measured.append(row)
        if records is not None:
            kept.append(_record(prediction, predictor, reference, unknown, row["dice"], len(cases)))
    if report is not None:
        report(len(own), len(own))
    shares = ranks.all_say(measured)
    rows = [shares[k % len(shares)][k // len(shares)] for k in range(len(cases))]
    if records is not None:
        others = ranks.all_say(kept)
        records += [others[k % len(others)][k // len(others)] for k in range(len(cases))]
    tables = {name: np.array([row[name] for row in rows]) for name in rows[0]}  # cases x foreground classes
    figures = {name: mean_of_class_means(table) for name, table in tables.items()}
    if classes > 2:
        of_class = {plan.classes[c]: tables["dice"][:, c - 1 : c] for c in range(1, classes)}
        figures |= {f"dice_class_{name}": mean_of_class_means(column) for name, column in of_class.items()}
    return figures


def _record(
    prediction: Maps, predictor: Predictor, reference: Array, unknown: Array | None, dice: Array, cases: int
) -> CaseRecord:
    probabilities = prediction.probabilities[0]
    label = predictor.keep_components(probabilities.argmax(axis=0).astype(np.uint8))
    score = expected_loss(probabilities, label, missing(label, predictor.plan.always_present))
    # The score is of the whole mask, so the Dice of a part of it is no match.
    whole = unknown is None and not np.isnan(dice).all()
    masks = (label, np.asarray(reference))
    doubt = prediction.uncertainty[0, 0]
    return record_of(probabilities, doubt, masks, score, float(np.nanmean(dice)) if whole else math.nan, cases, unknown)
