"""Validation, `evaluate` and `compare` say one number of the same masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ucseg.batches.prepare import PreparedCase
from ucseg.comparison.cell import COLUMNS
from ucseg.comparison.grid import Cell, Variant
from ucseg.comparison.summary import case_table, summarise
from ucseg.evaluation.metrics import METRICS, undefined
from ucseg.evaluation.results import CaseResult, Evaluation
from ucseg.inference import validation
from ucseg.inference.class_means import mean_of_class_means
from ucseg.methods import build_method
from ucseg.planning.plan import plan_from

# Four cases: the organ in each, the lesion in the last alone. By case it would be .8125.
DICE = np.array([[0.9, math.nan], [0.9, math.nan], [0.9, math.nan], [0.9, 0.2]])
ONE_MEAN = (0.9 + 0.2) / 2
NAMES = {1: "organ", 2: "lesion"}


def of_evaluate() -> float:
    cases = []
    for place, figures in enumerate(DICE):
        rows: list[Any] = [
            {**undefined(label, NAMES[label]), "dice": dice} for label, dice in enumerate(figures, start=1)
        ]
        cases.append(CaseResult(f"c{place}", f"c{place}", "mm", 1.0, rows))
    return Evaluation(cases, 2.0, 0).mean("dice")


def of_compare() -> float:
    rows = [
        ["", "last", f"c{place}", f"c{place}", NAMES[label], "ok", *[dice] * len(METRICS), "mm"]
        for place, figures in enumerate(DICE)
        for label, dice in enumerate(figures, start=1)
    ]
    assert len(rows[0]) == len(COLUMNS)
    training = {"seconds": 1.0, "peak_bytes": 1, "gpu_peak_bytes": None}
    done = {Cell(Variant("uc_seg", "uc_seg"), "5%", 0): {"training": training, "tests": {"test": {"rows": rows}}}}
    (row,) = summarise(case_table(done), done, "uc_seg").rows
    return row.metrics["dice"].mean


def of_validation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    values: dict[str, Any] = {
        "dims": 2, "unit": "px", "spacing": 1.0, "patch": 16, "token": 4, "labelled_batch": 1, "unlabelled_batch": 1,
        "channels": 1, "classes": {0: "background", **NAMES}, "normalisation": "unit",
    }  # fmt: skip
    plan = plan_from(values, "a test")
    figures = iter(np.repeat(DICE, 2, axis=0))  # of the prediction and of its one network
    monkeypatch.setattr(validation, "foreground_dice", lambda *_: next(figures))
    cases = []
    for place in range(len(DICE)):
        image, label = folder / f"{place}.image.npy", folder / f"{place}.label.npy"
        np.save(image, np.zeros((1, 16, 16), np.float16))
        np.save(label, np.zeros((16, 16), np.uint8))
        cases.append(PreparedCase(str(place), str(place), image, label, (16, 16)))
    method = build_method("supervised", {}, plan.problem)
    found = validation.validation_dice(method, plan, cases, "fp32")
    assert found["dice_class_lesion"] == pytest.approx(0.2)
    return found["dice"]


def test_validation_evaluate_and_compare_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mean_of_class_means(DICE) == pytest.approx(ONE_MEAN)
    assert of_evaluate() == pytest.approx(ONE_MEAN)
    assert of_compare() == pytest.approx(ONE_MEAN)
    assert of_validation(tmp_path, monkeypatch) == pytest.approx(ONE_MEAN)


def test_a_class_that_is_nowhere_has_no_mean_and_nothing_has_none() -> None:
    assert mean_of_class_means(np.array([[0.5, math.nan], [0.7, math.nan]])) == pytest.approx(0.6)
    assert math.isnan(mean_of_class_means(np.full((3, 2), math.nan)))
