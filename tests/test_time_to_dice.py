"""The median time to a Dice, where some runs never get there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from time_to_dice import said


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ([0.9], "10 (1 of 1)"),
        ([0.9, 0.9], "10 (2 of 2)"),
        ([0.9, 0.5], "> 20 (1 of 2)"),
        ([0.9, 0.9, 0.5], "10 (2 of 3)"),
        ([0.5, 0.9, 0.5], "> 20 (1 of 3)"),
    ],
)
def test_the_median_of_runs_that_may_never_get_there(ends: list[float], text: str) -> None:
    assert said({seed: [(10, 1, end), (20, 2, end)] for seed, end in enumerate(ends)}, 0.8) == text
