"""The figures and words of a comparison against literal computations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from ucseg.comparison.cell import COLUMNS
from ucseg.comparison.grid import Cell, Variant
from ucseg.comparison.summary import Comparison, Summary, case_table, summarise, verdict
from ucseg.comparison.words import of_silent_terms, sentence, verdicts
from ucseg.evaluation.statistics import Bounds, holm

SUPERVISED, UC_SEG, OTHER = (Variant(name, name) for name in ("supervised", "uc_seg", "mean_teacher"))
FIGURES = COLUMNS[6:-1]
PLACE = ("test", "5%", "last")


def result(dice: dict[str, dict[str, list[float]]], subjects: dict[str, str] | None = None) -> dict[str, Any]:
    """A cell's file: network -> case -> Dice of each class; half, a third and so on are its other figures."""
    rows = []
    for network, cases in dice.items():
        for case, classes in cases.items():
            subject = (subjects or {}).get(case, case)
            for number, value in enumerate(classes):
                figures = [value / (1 + place) for place in range(len(FIGURES))]
                rows.append([network, "last", case, subject, f"class {number}", "ok", *figures, "mm"])
    training = {"seconds": 10.0, "peak_bytes": 2**30, "gpu_peak_bytes": None, "steps": 7, "parameters": 2**20}
    return {"training": training, "tests": {"test": {"rows": rows, "left_out": {}}}}


def summary_of(done: dict[Cell, dict[str, Any]], reference: str = "uc_seg") -> Summary:
    return summarise(case_table(done), done, reference)


def simple(values: dict[str, float]) -> dict[str, list[float]]:
    return {case: [value] for case, value in values.items()}


def test_the_mean_is_over_cases_and_seeds_and_then_over_classes() -> None:
    subjects = {"a1": "a", "a2": "a", "b1": "b"}
    done = {
        Cell(UC_SEG, "5%", seed): result(
            {"": {"a1": [0.2 + shift, 0.4], "a2": [0.8, math.nan], "b1": [1.0, 0.5]}}, subjects
        )
        for seed, shift in ((0, 0.0), (1, 0.2))
    }
    row = summary_of(done).rows[0]
    second = (0.4 + 0.5) / 2
    of_seeds = [((0.2 + shift + 0.8 + 1.0) / 3 + second) / 2 for shift in (0.0, 0.2)]
    assert row.metrics["dice"].mean == pytest.approx(np.mean(of_seeds))
    for place, figure in enumerate(FIGURES):
        assert row.metrics[figure].mean == pytest.approx(np.mean(of_seeds) / (1 + place))
    assert row.metrics["dice"].spread == pytest.approx(np.std(of_seeds, ddof=1))
    assert row.dice_by_class["class 0"] == pytest.approx((0.3 + 0.8 + 1.0) / 3)
    assert (row.subjects, row.cases, row.seeds) == (2, 3, (0, 1))
    assert row.dice_by_class["class 1"] == pytest.approx((0.4 + 0.5) / 2)
    assert (row.seconds, row.peak_bytes, row.steps, row.parameters) == (10.0, 2**30, 7, 2**20)
    assert math.isnan(row.work)  # of runs that had no time to keep


def literal_wilcoxon(differences: list[float]) -> float:
    """Two-sided exact p: how many of all 2^n choices of signs have a rank sum as extreme."""
    order = sorted(differences, key=abs)
    ranks = range(1, len(order) + 1)
    positive = sum(rank for rank, value in zip(ranks, order, strict=True) if value > 0)
    extreme = min(positive, sum(ranks) - positive)
    sums = [sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) for signs in
            itertools.product((0, 1), repeat=len(order))]  # fmt: skip
    return min(1.0, 2 * sum(one <= extreme for one in sums) / len(sums))


def test_p_is_wilcoxons_with_holms_correction() -> None:
    cases = [f"c{number}" for number in range(9)]
    ours = {case: 0.5 + 0.03 * number for number, case in enumerate(cases)}
    down = {case: value - 0.01 * (number + 1) for number, (case, value) in enumerate(ours.items())}
    mixed = {case: value + 0.01 * (number + 1) * (-1) ** number for number, (case, value) in enumerate(ours.items())}
    done = {
        Cell(SUPERVISED, "5%", 0): result({"": simple(down), "unet": simple(mixed), "vnet": simple(down)}),
        Cell(UC_SEG, "5%", 0): result({"": simple(ours)}),
    }
    found = {one.variant: one for one in summary_of(done).comparisons}
    assert set(found) == {"supervised", "supervised/unet", "supervised/vnet"}
    for name, values in (("supervised", down), ("supervised/unet", mixed)):
        differences = [values[case] - ours[case] for case in cases]
        assert found[name].p == pytest.approx(literal_wilcoxon(differences))
        assert found[name].difference == pytest.approx(np.mean(differences))
    assert found["supervised"].p_holm == found["supervised/vnet"].p_holm == pytest.approx(3 * 2 / 2**9)
    assert found["supervised/unet"].p_holm == pytest.approx(found["supervised/unet"].p)
    assert found["supervised"].verdict == "worse"
    assert found["supervised/unet"].verdict == "within noise"


def test_holm_against_its_definition() -> None:
    p = [0.01, 0.04, 0.03, math.nan, 0.005]
    assert holm(p)[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm(p)[3])
    assert holm(p)[4] == pytest.approx(0.02)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_only_seeds_that_both_have_are_compared() -> None:
    cases = [f"c{number}" for number in range(7)]
    done = {
        Cell(UC_SEG, "5%", 0): result({"": {case: [0.5] for case in cases}}),
        Cell(OTHER, "5%", 0): result({"": {case: [0.6] for case in cases}}),
        Cell(OTHER, "5%", 1): result({"": {case: [0.1] for case in cases}}),
    }
    (one,) = summary_of(done).comparisons
    assert one.seeds == (0,)
    assert one.difference == pytest.approx(0.1)
    # The other seed of one of them says how much a seed matters.
    assert one.spread == pytest.approx(0.5 / 2**0.5)
    assert one.verdict == "within noise"


def test_a_method_that_found_nothing_is_named() -> None:
    done = {
        Cell(UC_SEG, "5%", 0): result({"": {"c": [0.0], "d": [0.004]}}),
        Cell(OTHER, "5%", 0): result({"": {"c": [0.3], "d": [0.2]}}),
    }
    (warned,) = [one for one in verdicts(summary_of(done), PLACE) if "learned nothing" in one]
    assert warned.startswith("uc_seg learned nothing")
    del done[Cell(UC_SEG, "5%", 0)]
    assert not any("learned nothing" in one for one in verdicts(summary_of(done, "mean_teacher"), PLACE))


def test_the_gap_is_that_to_the_best_supervised_rows() -> None:
    def cell(**dice: float) -> dict[str, Any]:
        return result({name.replace("mean", ""): {"c": [value], "d": [value]} for name, value in dice.items()})

    done = {
        Cell(SUPERVISED, "5%", 0): cell(mean=0.5, unet=0.6, vnet=0.4),
        Cell(SUPERVISED, "all", 0): cell(mean=0.8, unet=0.7, vnet=0.7),
        Cell(UC_SEG, "5%", 0): cell(mean=0.65),
    }
    found = summary_of(done)
    gaps = {(row.labelled, row.variant): row.gap_closed for row in found.rows}
    assert gaps["5%", "uc_seg"] == pytest.approx((0.65 - 0.6) / (0.8 - 0.6))
    assert all(math.isnan(gap) for place, gap in gaps.items() if place != ("5%", "uc_seg"))
    alone = Variant("supervised", "supervised", alone=True)  # of equal time: a U-Net, without members
    same_time = {
        Cell(alone, "5%", 0): cell(mean=0.6),
        Cell(alone, "all", 0): cell(mean=0.8),
        Cell(UC_SEG, "5%", 0): done[Cell(UC_SEG, "5%", 0)],
    }
    assert {row.gap_closed for row in summary_of(same_time).rows if row.variant == "uc_seg"} == {gaps["5%", "uc_seg"]}
    done[Cell(SUPERVISED, "all", 0)] = cell(mean=0.55, unet=0.5, vnet=0.6)
    below = summary_of(done)
    assert all(math.isnan(row.gap_closed) for row in below.rows)
    assert "ceiling (0.600)" in verdicts(below, PLACE)[-1]
    assert "baseline (0.600)" in verdicts(below, PLACE)[-1]
    done[Cell(SUPERVISED, "all", 0)] = cell(mean=0.605)
    assert summary_of(done).gaps[PLACE].endswith(" 0.01")
    for seed, shift in ((0, 0.3), (1, -0.3)):
        done[Cell(SUPERVISED, "all", seed)] = cell(mean=0.7 + shift)
    assert "spread over seeds" in summary_of(done).gaps[PLACE]
    del done[Cell(SUPERVISED, "all", 0)], done[Cell(SUPERVISED, "all", 1)]
    assert "not finished" in summary_of(done).gaps[PLACE]


@pytest.mark.parametrize(
    ("difference", "half", "p", "spread", "said"),
    [
        (0.05, 0.04, 0.01, 0.02, "better"),
        (-0.05, 0.04, 0.01, 0.02, "worse"),
        (0.05, 0.04, 0.05, 0.02, "within noise"),
        (0.02, 0.01, 0.01, 0.02, "within noise"),
        (-0.01, 0.005, 0.01, 0.02, "within noise"),
        (-0.05, 0.06, 0.01, 0.02, "within noise"),  # most subjects differ one way, a rare class the other
        (0.05, 0.04, 0.01, math.nan, "better"),
        (math.nan, math.nan, math.nan, math.nan, "not known yet"),
    ],
)
def test_the_verdict_needs_the_test_the_interval_and_the_spread(
    difference: float, half: float, p: float, spread: float, said: str
) -> None:
    assert verdict(Bounds(difference, difference - half, difference + half), p, spread) == said


def comparison(**change: Any) -> Comparison:
    values = {
        "test": "test", "labelled": "5%", "weights": "last", "variant": "cps", "reference": "uc_seg", "seeds": (0, 1),
        "subjects": 20, "difference": 0.01, "low": -0.01, "high": 0.03, "p": 0.1, "p_holm": 0.3, "tests": 3,
        "spread": 0.02, "verdict": "within noise", "unpaired": False,
    }  # fmt: skip
    return Comparison(**values | change)


def test_noise_one_seed_and_too_few_subjects_are_said_in_words() -> None:
    noise = sentence(comparison())
    assert noise.startswith("cps and uc_seg")
    assert "within noise" in noise
    assert "Dice +0.010 [-0.010, +0.030]" in noise
    assert "Dice 0.000 [" in sentence(comparison(difference=-0.0002))
    one_seed = sentence(comparison(seeds=(0,), spread=math.nan, verdict="better", p_holm=0.0001))
    assert one_seed.startswith("cps is better")
    assert "p < 0.001" in one_seed
    assert "one seed" in one_seed
    assert "seeds of both (0)" in sentence(comparison(seeds=(0,), spread=math.nan, unpaired=True))
    assert "of both" not in one_seed
    assert "7 subjects." in sentence(comparison(subjects=7))  # 3 tests x 2 / 2^7 is below 0.05
    assert "6 subjects; too few" in sentence(comparison(subjects=6))
    assert "cannot be compared yet" in sentence(comparison(verdict="not known yet"))
    assert "the same weights" in sentence(comparison(difference=0.0, low=0.0, high=0.0))
    assert "the same weights" not in sentence(comparison(difference=0.0))


def test_runs_with_terms_that_trained_nothing_are_named() -> None:
    quiet, loud = Cell(UC_SEG, "5%", 0), Cell(UC_SEG, "5%", 1)
    done = {quiet: {"training": {"silent": ["ife_1", "ife_2"]}}, loud: {"training": {"silent": []}}}
    done[Cell(SUPERVISED, "5%", 0)] = {"training": {}}  # of an earlier version
    done[Cell(UC_SEG, "5%", 2)] = done[quiet]
    (said,) = of_silent_terms(done)
    assert said.startswith(f"{quiet}; {Cell(UC_SEG, '5%', 2)}: ")
    assert said.endswith(": ife_1, ife_2.")


def test_the_uncertainty_of_all_seeds_together() -> None:
    dice = {"a": 0.9, "b": 0.6, "c": 0.75}
    done = {Cell(UC_SEG, "5%", seed): result({"": simple(dice)}) for seed in (0, 1)}
    for cell, found in done.items():
        score = {"a": 0.1, "b": 0.5, "c": 0.3} if cell.seed == 0 else {"a": 0.5, "b": 0.1, "c": 0.3}
        found["tests"]["test"]["doubts"] = [
            ["last", case, 0.9 + 0.01 * cell.seed, *[None] * 7, score[case]] for case in dice
        ]
    row = summary_of(done).rows[0]
    assert row.doubts["auroc"] == pytest.approx(0.905)
    assert math.isnan(row.doubts["ece"]), "no case has it"
    assert row.doubts["spearman"] == pytest.approx(0), "1 and -1"
    worst, best = (0.4 + 0.325 + 0.25) / 3, (0.1 + 0.175 + 0.25) / 3
    assert row.doubts["excess_aurc"] == pytest.approx((worst - best) / 2)
    assert row.doubts["failure_auroc"] == pytest.approx(0.5), "Dice below .8: b and c"
    assert summary_of({Cell(UC_SEG, "5%", 0): result({"": simple(dice)})}).rows[0].doubts == {}
