"""What an evaluation says of its cases: means by hand, what is left out of them, and the two files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ucseg.errors import UserError
from ucseg.evaluation.metrics import BOTH_EMPTY, FALSE_POSITIVE, METRICS, MISSED, OK, ClassMetrics
from ucseg.evaluation.results import CaseResult, Evaluation

NAMES = {1: "liver", 2: "spleen"}


def row(label: int, dice: float, status: str = OK, **figures: Any) -> ClassMetrics:
    counts = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 3)
    values = dict.fromkeys(METRICS, dice) | figures
    return {"label": label, "name": NAMES[label], "status": status, **values, **counts}  # type: ignore[typeddict-item, return-value]


def nothing(label: int) -> ClassMetrics:
    return row(label, math.nan, BOTH_EMPTY)


def evaluation(*cases: tuple[str, list[ClassMetrics]], unit: str = "mm", **more: Any) -> Evaluation:
    """Cases of (subject, rows), called a, b, ..."""
    results = [CaseResult("abcdef"[i], subject, unit, 30.0, rows) for i, (subject, rows) in enumerate(cases)]
    return Evaluation(results, 2.0, 0, **more)


@pytest.fixture
def three() -> Evaluation:
    """The spleen is missed in b and in neither mask of c."""
    return evaluation(
        ("s1", [row(1, 0.9), row(2, 0.8)]),
        ("s2", [row(1, 0.6), row(2, 0.0, MISSED, hd95=30.0)]),
        ("s3", [row(1, 0.3), nothing(2)]),
    )


def test_a_class_is_the_mean_of_its_defined_cases_and_all_is_the_mean_of_classes(three: Evaluation) -> None:
    liver, spleen = three.summary
    assert liver.metrics["dice"].mean == pytest.approx(0.6)
    assert spleen.metrics["dice"].mean == pytest.approx(0.4)
    assert three.mean() == three.overall.metrics["dice"].mean == pytest.approx(0.5)
    assert three.mean("hd95") == pytest.approx((0.6 + (0.8 + 30) / 2) / 2)
    assert liver.metrics["dice"].low <= 0.6 <= liver.metrics["dice"].high
    assert (three.classes, three.unit) == (NAMES, "mm")


def test_missed_invented_and_absent_classes_are_counted(three: Evaluation) -> None:
    spleen = three.summary[1]
    assert (spleen.evaluated, spleen.missed, spleen.false_positives, spleen.both_empty) == (3, 1, 0, 1)
    assert spleen.metrics["dice"].cases == 2
    assert (three.overall.evaluated, three.overall.missed, three.overall.both_empty) == (6, 1, 1)
    invented = evaluation(("s", [row(1, 0.0, FALSE_POSITIVE)])).overall
    assert (invented.false_positives, invented.missed) == (1, 0)


def test_the_mean_of_a_case_is_over_its_defined_classes(three: Evaluation) -> None:
    assert three.case_means("dice") == pytest.approx({"a": 0.85, "b": 0.3, "c": 0.3})
    empty = evaluation(("s", [nothing(1), nothing(2)]))
    assert math.isnan(empty.case_means("dice")["a"])
    assert math.isnan(empty.mean())
    np.testing.assert_array_equal(three.values("dice"), [[0.9, 0.8], [0.6, 0.0], [0.3, math.nan]])


def test_intervals_draw_whole_subjects() -> None:
    rows = [[row(1, dice)] for dice in (0.4, 0.4, 0.6, 0.6)]
    apart = evaluation(*zip("wxyz", rows, strict=True)).overall.metrics["dice"]
    paired = evaluation(*zip("wwyy", rows, strict=True)).overall.metrics["dice"]
    assert apart.mean == paired.mean == pytest.approx(0.5)
    student = 2 * 3.182 * math.sqrt(0.01 * 4 / 3 / 4)  # of four values whose variance is .01 * 4 / 3
    assert apart.high - apart.low == pytest.approx(student, rel=0.05)
    assert (paired.low, paired.high) == (0, 1)  # of two subjects nearly nothing is known, but no Dice is above 1
    assert math.isnan(evaluation(*zip("wwww", rows, strict=True)).overall.metrics["dice"].low)


def test_distances_in_two_units_have_no_mean() -> None:
    both = evaluation(("s1", [row(1, 0.5)]), ("s2", [row(1, 0.7)]))
    both.cases[1] = CaseResult("b", "s2", "px", 30.0, both.cases[1].rows)
    assert both.unit == "mixed"
    assert math.isnan(both.mean("hd95"))
    assert math.isnan(both.mean("assd"))
    assert both.mean("dice") == pytest.approx(0.6)


def test_masks_without_a_common_class_number_are_noticed(three: Evaluation) -> None:
    assert three.labels_apart is None
    apart = evaluation(("s1", [row(1, 0.0, MISSED), row(2, 0.0, FALSE_POSITIVE)]))
    assert apart.labels_apart == ([1], [2])
    assert evaluation(("s1", [nothing(1), row(2, 0.0, FALSE_POSITIVE)])).labels_apart is None


def test_the_files_hold_every_case_with_the_figures_and_the_reasons(three: Evaluation, tmp_path: Path) -> None:
    three.failed, three.missing = {"d": "d.nii: broken"}, ["e"]
    three.provenance = {"command": "ucseg evaluate"}
    three.save(tmp_path / "new")
    with (tmp_path / "new" / "cases.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [(one["case"], one["class"], one["status"]) for one in table] == [
        ("a", "1", OK), ("a", "2", OK), ("b", "1", OK), ("b", "2", MISSED), ("c", "1", OK), ("c", "2", BOTH_EMPTY),
        ("d", "", "failed"), ("e", "", "no prediction"),
    ]  # fmt: skip
    assert (table[3]["hd95"], table[3]["worst_distance"], table[3]["unit"]) == ("30", "30", "mm")
    assert (table[5]["dice"], table[5]["true_positives"], table[6]["note"]) == ("", "3", "d.nii: broken")
    content = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert content["all"]["metrics"]["dice"]["mean"] == pytest.approx(0.5)
    assert [one["name"] for one in content["by_class"]] == ["liver", "spleen"]
    assert (content["cases"], content["subjects"], content["classes"]) == (3, 3, {"1": "liver", "2": "spleen"})
    assert (content["failed"], content["missing_predictions"]) == (three.failed, ["e"])
    assert content["command"] == "ucseg evaluate"


def test_an_undefined_figure_is_null(tmp_path: Path) -> None:
    evaluation(("s", [nothing(1)])).save(tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["all"]["metrics"]["dice"] == {"mean": None, "low": None, "high": None, "cases": 0}


def test_a_folder_that_cannot_be_made_is_named_and_nothing_is_left(three: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        three.save(tmp_path / "file" / "numbers")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
