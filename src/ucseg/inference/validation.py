"""How good a method is on prepared validation cases: what training watches and chooses its best weights by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ucseg import ranks
from ucseg.inference.class_means import mean_of_class_means
from ucseg.inference.failure_score import foreground_dice
from ucseg.inference.predictor import Predictor, mirrors_of
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan
from ucseg.scans.npy import open_npy
from ucseg.types import NOT_ANNOTATED, Array

if TYPE_CHECKING:
    from ucseg.batches.prepare import PreparedCase

MIRRORED = "mirrored dice"


def validate(
    method: Method,
    plan: Plan,
    cases: Sequence[PreparedCase],
    precision: str = "auto",
    report: Callable[[int, int], None] | None = None,
    *,
    at_end: bool,
) -> dict[str, float]:
    """What a run watches: `validation_dice` without mirroring, which is quick and chooses the best weights.

    At the end of a run, "mirrored dice" is added where the plan has an axis to mirror: the Dice of what `ucseg predict`
    makes of these cases.
    """
    figures = validation_dice(method, plan, cases, precision, report)
    if at_end and len(mirrors_of(plan)) > 1:
        figures[MIRRORED] = validation_dice(method, plan, cases, precision, report, mirror=True)["dice"]
    return figures


def validation_dice(
    method: Method,
    plan: Plan,
    cases: Sequence[PreparedCase],
    precision: str = "auto",
    report: Callable[[int, int], None] | None = None,
    mirror: bool = False,
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

    Returns:
        "dice" of the prediction; "dice_NAME" of each single network; with several foreground classes also
        "dice_class_NAME" of the prediction.
    """
    predictor = Predictor(method, plan, next(method.parameters()).device, precision=precision, mirror=mirror)
    classes = len(plan.classes)
    measured: list[dict[str, Array]] = []
    own = cases[ranks.rank() :: ranks.size()]
    for done, case in enumerate(own):
        if report is not None:
            report(done, len(own))
        assert case.label is not None
        image = np.asarray(open_npy(case.image), np.float32)
        reference = open_npy(case.label)
        if case.partly:  # what is not annotated counts as background in both
            unknown = reference == NOT_ANNOTATED
            reference = np.where(unknown, 0, reference)
        prediction = predictor.predict_grid(image)
        named = {"dice": prediction.probabilities} | {f"dice_{k}": v for k, v in prediction.members.items()}
        row = {}
        for name, probabilities in named.items():
            label = predictor.keep_components(probabilities[0].numpy().argmax(axis=0).astype(np.uint8))
            if case.partly:
                label[unknown] = 0
            row[name] = foreground_dice(label, reference, classes)
        measured.append(row)
    if report is not None:
        report(len(own), len(own))
    shares = ranks.all_say(measured)
    rows = [shares[k % len(shares)][k // len(shares)] for k in range(len(cases))]
    tables = {name: np.array([row[name] for row in rows]) for name in rows[0]}  # cases x foreground classes
    figures = {name: mean_of_class_means(table) for name, table in tables.items()}
    if classes > 2:
        of_class = {plan.classes[c]: tables["dice"][:, c - 1 : c] for c in range(1, classes)}
        figures |= {f"dice_class_{name}": mean_of_class_means(column) for name, column in of_class.items()}
    return figures
