"""What chooses the best weights: Dice of whole validation cases, against figures counted by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threshold_run import Threshold, plan_2d
from torch import Tensor

from ucseg import ranks
from ucseg.batches.prepare import PreparedCase
from ucseg.inference.disagreement import foreground_dice
from ucseg.inference.validation import validate, validation_dice
from ucseg.planning.plan import Plan
from ucseg.types import Array, Prediction

SHAPE = (16, 16)


class Thirds(Threshold):
    """Three classes: below a third, below two thirds, above. One network, no members."""

    def predict(self, image: Tensor) -> Prediction:
        index = (image[:, 0] * 3).long().clamp(0, 2)
        probabilities = torch.nn.functional.one_hot(index, 3).movedim(-1, 1).float()
        return Prediction(probabilities, torch.full_like(image[:, :1], 0.5))


def row(*runs: tuple[int, float]) -> Array:
    """An image that is 0 but for its first row: so many pixels of each value, one run after the other."""
    image = np.zeros(SHAPE, np.float32)
    values = [value for count, value in runs for _ in range(count)]
    image[0, : len(values)] = values
    return image


def case(folder: Path, image: Array, label: Array) -> PreparedCase:
    name = f"case{len(list(folder.iterdir()))}"
    np.save(folder / f"{name}.image.npy", image[None].astype(np.float16))
    np.save(folder / f"{name}.label.npy", label.astype(np.uint8))
    return PreparedCase(name, name, folder / f"{name}.image.npy", folder / f"{name}.label.npy", image.shape)


def measured(cases: list[PreparedCase], plan: Plan | None = None, kind: type[Threshold] = Threshold) -> Any:
    plan = plan or plan_2d()
    return validation_dice(kind(kind.Config(), plan.problem), plan, cases, "fp32")


def test_dice_of_each_foreground_class() -> None:
    label, reference = np.array([0, 1, 1, 2, 3, 0]), np.array([1, 1, 0, 2, 0, 0])
    found = foreground_dice(label, reference, 6)
    np.testing.assert_array_equal(found, [2 * 1 / 4, 1, 0, np.nan, np.nan])  # the last two are in neither


def test_the_prediction_and_each_network_are_measured(tmp_path: Path) -> None:
    """Of twelve bright pixels eight are above 0.5 and four above 0.75; the mask holds the first six."""
    one = case(tmp_path, row((4, 0.9), (4, 0.6), (4, 0.3)), row((6, 1)))
    assert measured([one]) == pytest.approx(
        {"dice": 2 * 6 / (8 + 6), "dice_low": 2 * 6 / (12 + 6), "dice_high": 2 * 4 / (4 + 6)}
    )


def test_a_case_without_the_class_counts_only_if_the_prediction_has_it(tmp_path: Path) -> None:
    whole, empty = case(tmp_path, row((4, 0.9)), row((4, 1))), case(tmp_path, row(), row())
    assert measured([whole, empty])["dice"] == 1  # both empty: left out
    wrong = case(tmp_path, row((2, 0.9)), row())
    assert measured([whole, empty, wrong])["dice"] == 0.5
    assert math.isnan(measured([empty])["dice"])


def test_the_mean_is_over_cases_and_then_over_classes(tmp_path: Path) -> None:
    """A class in one of three cases weighs as much as one in all."""
    plan = plan_2d(classes={0: "background", 1: "organ", 2: "tumour"})
    exact = [case(tmp_path, row((4, 0.5)), row((4, 1))) for _ in range(2)]
    missed = case(tmp_path, row((4, 0.5)), row((4, 1), (4, 2)))
    found = measured([*exact, missed], plan, Thirds)
    assert found == {"dice": 0.5, "dice_class_organ": 1, "dice_class_tumour": 0}


def test_components_are_filtered_as_in_prediction(tmp_path: Path) -> None:
    image = row((4, 0.9))
    image[8, :2] = 0.9
    one = case(tmp_path, image, row((4, 1)))
    assert measured([one])["dice"] == pytest.approx(2 * 4 / (6 + 4))
    assert measured([one], plan_2d(one_component=(1,)))["dice"] == 1


def test_an_image_of_any_size_is_measured_whole(tmp_path: Path) -> None:
    image = np.zeros((40, 23), np.float32)
    image[::7] = 0.9
    assert measured([case(tmp_path, image, image > 0.5)])["dice"] == 1


class Slanted(Threshold):
    """Sees more in the left half of a window than in the right one."""

    def predict(self, image: Tensor) -> Prediction:
        seen = (image[:, :1] - torch.linspace(0, 0.4, image.shape[-1])).clamp(0, 1)
        return Prediction(torch.cat([1 - seen, seen], dim=1), torch.full_like(seen, 0.5))


def test_mirrored_prediction_is_measured_beside_the_plain_one(tmp_path: Path) -> None:
    """Plain, .6 is foreground in the left quarter only; in the mean over both views it is foreground in no place."""
    image = np.full(SHAPE, 0.6, np.float32)
    plan = plan_2d(augmentation={"flip": 0.5})
    one = case(tmp_path, image, np.arange(16) < 4 + np.zeros(SHAPE))
    method = Slanted(Threshold.Config(), plan.problem)
    figures = validate(method, plan, [one], "fp32", at_end=True)
    assert figures == {"dice": 1, "mirrored dice": 0}
    assert validate(method, plan, [one], "fp32", at_end=False) == {"dice": 1}
    unmoved = plan_2d(augmentation={"flip": 0.5, "flip_axes": ()})
    assert validate(method, unmoved, [one], "fp32", at_end=True) == {"dice": 1}


def test_each_case_is_reported_and_the_mode_stays(tmp_path: Path) -> None:
    cases = [case(tmp_path, row((4, 0.9)), row((4, 1))) for _ in range(2)]
    reports: list[tuple[int, int]] = []
    plan = plan_2d()
    method = Threshold(Threshold.Config(), plan.problem)
    method.train()
    validation_dice(method, plan, cases, "fp32", lambda *counts: reports.append(counts))
    assert reports == [(0, 2), (1, 2), (2, 2)]
    assert method.training


def test_ranks_share_the_cases_and_all_get_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case(tmp_path, row((n, 0.9)), row((4, 1))) for n in range(1, 6)]
    alone = measured(cases)
    shares: dict[int, Any] = {}
    found = []
    monkeypatch.setattr(ranks, "size", lambda: 2)
    for rank in (0, 1, 0, 1):  # the second time each knows the other's share
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)

        def both_say(own: Any, rank: int = rank) -> list[Any]:
            shares[rank] = own
            return [shares.get(0, own), shares.get(1, own)]

        monkeypatch.setattr(ranks, "all_say", both_say)
        found.append(measured(cases))
    assert [len(shares[rank]) for rank in (0, 1)] == [3, 2]
    assert found[-2:] == [alone, alone]
