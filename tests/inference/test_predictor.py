"""From a scan to a prediction: sizes, slices, colours, components, and what cannot be predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threshold_run import Threshold, plan_2d, plan_3d

from refusals import refused
from ucseg.errors import UserError
from ucseg.inference.predictor import Predictor
from ucseg.planning.plan import Plan
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Prediction


def predictor(plan: Plan, **options: object) -> Predictor:
    return Predictor(Threshold(Threshold.Config(), plan.problem), plan, "cpu", **options)  # type: ignore[arg-type]


def scan_of(array: np.ndarray, spacing: tuple[float, ...] | None = None) -> Scan:
    dims = array.ndim - 1
    geometry = Geometry(np.eye(dims + 1), "px") if spacing is None else Geometry(np.diag([*spacing, 1.0]))
    return Scan(array, geometry, Path("scan.ext"))


def speckle(*shape: int) -> np.ndarray:
    image = np.random.default_rng(5).uniform(0, 1, shape).astype(np.float32)
    image.flat[0], image.flat[-1] = 0, 1
    return image


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 9), (3, 5, 2), (17, 16, 15), (40, 1, 33)])
@pytest.mark.parametrize("slice_axis", [None, 0, 1, 2])
def test_volumes_of_any_size(shape: tuple[int, ...], slice_axis: int | None) -> None:
    plan = plan_3d(spacing=(1, 1, 1))
    if slice_axis is not None:
        plan = plan_3d(spacing=(1, 1, 1), dims=2, slice_axis=slice_axis, patch=(16, 16), token=(8, 8))
    image = speckle(1, *shape)
    found = predictor(plan).predict_scan(scan_of(image, (1, 1, 1)))
    assert found.mask.dtype == np.uint8
    np.testing.assert_array_equal(found.mask, image[0] > 0.5)
    np.testing.assert_array_equal(found.members["high"], image[0] > 0.75)
    assert found.uncertainty.shape == shape
    assert found.probabilities is None


@pytest.mark.parametrize("shape", [(1, 2), (3, 50), (16, 16), (37, 53)])
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_images_of_any_size(shape: tuple[int, ...], channels: int) -> None:
    image = np.repeat(speckle(1, *shape), channels, axis=0)
    found = predictor(plan_2d(channels=channels)).predict_scan(scan_of(image), probabilities=True)
    np.testing.assert_array_equal(found.mask, image[0] > 0.5)
    assert found.probabilities is not None
    assert found.probabilities.shape == (2, *shape)


def test_images_resized_to_one_size_come_back_in_their_own() -> None:
    image = np.zeros((1, 61, 90), np.float32)
    image[:, 20:50, 30:80] = 1
    found = predictor(plan_2d(size=(32, 32), patch=(32, 32))).predict_scan(scan_of(image))
    assert found.mask.shape == (61, 90)
    overlap = (found.mask == 1) & (image[0] > 0)
    assert 2 * overlap.sum() / (found.mask.sum() + image.sum()) > 0.93


def test_a_stack_is_predicted_as_its_slices_are_where_the_plan_is_of_slices() -> None:
    volume = speckle(1, 4, 40, 36) * np.array([1, 3, 0.2, 5], np.float32)[:, None, None]
    one = predictor(plan_2d(size=(32, 32), patch=(16, 16), normalisation="unit", one_component=(1,)))
    found = one.predict_scan(scan_of(volume), probabilities=True)
    assert found.mask.any(axis=(1, 2)).all()
    for index in range(4):
        single = one.predict_scan(scan_of(volume[:, index]), probabilities=True)
        np.testing.assert_array_equal(found.mask[index], single.mask)
        np.testing.assert_array_equal(found.members["low"][index], single.members["low"])
        np.testing.assert_allclose(found.uncertainty[index], single.uncertainty, atol=1e-6)
        np.testing.assert_allclose(found.probabilities[:, index], single.probabilities, atol=1e-6)


def test_batches_of_windows_do_not_change_the_answer() -> None:
    scan = scan_of(speckle(1, 40, 33, 20), (1, 1, 1))
    one, many = (predictor(plan_3d(spacing=(1.1, 1, 1)), batch=batch).predict_scan(scan) for batch in (1, 7))
    np.testing.assert_array_equal(one.mask, many.mask)
    np.testing.assert_array_equal(one.uncertainty, many.uncertainty)


class Ramp(Threshold):
    """Sees the place in the window, which a mirror turns round, beside the brightness."""

    passes = 0

    def predict(self, image: torch.Tensor) -> Prediction:
        self.passes += len(image)
        place = torch.linspace(0, 1, image.shape[-1]).expand(image.shape[:1] + image.shape[2:])[:, None]
        seen = 0.5 * place + 0.5 * image.clamp(0, 1).mean(dim=1, keepdim=True)
        probabilities = torch.cat([1 - seen, seen], dim=1)
        return Prediction(probabilities, 0.1 + 0.5 * seen, {"one": probabilities, "two": probabilities.flip(1)})


@pytest.mark.parametrize(
    ("dims", "augmentation", "passes"),
    [
        (2, {"flip": 0.5}, 4),
        (3, {"flip": 0.5}, 8),
        (3, {"flip": 0.5, "flip_axes": (0, 2)}, 4),
        (3, {"flip": 0.5, "flip_axes": ()}, 1),
        (3, {"flip": 0.0}, 1),
    ],
)
def test_mirrored_prediction_is_the_mean_over_the_axes_that_training_flips(
    dims: int, augmentation: dict[str, Any], passes: int
) -> None:
    plan = (plan_2d if dims == 2 else plan_3d)(augmentation=augmentation)
    method = Ramp(Threshold.Config(), plan.problem)
    image = speckle(1, *(16,) * dims)
    found = Predictor(method, plan, "cpu", mirror=True).predict_grid(image)
    assert method.passes == passes
    bright, place = 0.5 * image[0], 0.5 * np.linspace(0, 1, 16, dtype=np.float32)
    seen = bright + (0.25 if passes > 1 else place)  # a ramp and its mirror have a flat mean
    np.testing.assert_allclose(found.probabilities[0, 1], seen, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty[0, 0], 0.1 + 0.5 * seen, atol=1e-6)
    np.testing.assert_allclose(found.members["two"][0, 0], seen, atol=1e-6)


def test_slices_of_a_volume_are_mirrored_in_their_plane() -> None:
    plan = plan_3d(spacing=(1, 1, 1), dims=2, slice_axis=0, patch=(16, 16), token=(8, 8), augmentation={"flip": 0.5})
    image = speckle(1, 3, 16, 16)
    found = Predictor(Ramp(Threshold.Config(), plan.problem), plan, "cpu", mirror=True).predict_grid(image)
    np.testing.assert_allclose(found.probabilities[0, 1], 0.5 * image[0] + 0.25, atol=1e-6)


def test_only_the_largest_component_stays_where_the_plan_says_so() -> None:
    image = np.zeros((1, 30, 30), np.float32)
    image[:, 2:12, 2:12] = 1
    image[:, 20:24, 20:24] = 1
    plan = plan_2d(one_component=(1,))
    assert predictor(plan).predict_scan(scan_of(image)).mask.sum() == 100
    assert predictor(plan, components=False).predict_scan(scan_of(image)).mask.sum() == 116
    assert predictor(plan_2d()).predict_scan(scan_of(image)).mask.sum() == 116
    label, _ = predictor(plan).predict_prepared(image)
    assert label.sum() == 100


def test_prepared_cases_give_labels_and_probabilities() -> None:
    image = speckle(1, 20, 40)
    label, probabilities = predictor(plan_2d()).predict_prepared(image.astype(np.float16))
    assert probabilities.shape == (2, 20, 40)
    np.testing.assert_array_equal(label, image[0].astype(np.float16) > 0.5)


def test_scores_measure_the_members_and_the_mask() -> None:
    image = np.concatenate([np.zeros(40), np.full(10, 0.6), np.full(10, 1.0)]).astype(np.float32).reshape(1, 6, 10)
    # "low" (above 0.25) has 20 voxels, "high" (above 0.75) has 10 of them.
    found = predictor(plan_2d()).predict_scan(scan_of(image))
    assert found.scores["disagreement"] == pytest.approx(1 - 2 * 10 / 30)
    assert found.failure_score == found.scores["failure_score"] == pytest.approx(0, abs=1e-6), "of sure probabilities"
    assert found.scores["mean_entropy"] == pytest.approx(0, abs=1e-6)
    alone = predictor(plan_2d(), silent=("high",)).predict_scan(scan_of(image))
    assert np.isnan(alone.scores["disagreement"]), "a network that has not learned does not count"


def test_networks_with_empty_masks_are_named() -> None:
    image = np.full((1, 6, 10), 0.6, np.float32)
    plan = plan_2d(normalisation="ct", ct_window={"low": 0, "high": 1, "mean": 0, "std": 1})
    assert predictor(plan).predict_scan(scan_of(image)).empty_members == ("high",)
    assert predictor(plan).predict_scan(scan_of(image * 0)).empty_members == ()


def test_a_class_that_every_labelled_mask_holds_and_the_prediction_lacks_is_a_failure() -> None:
    dark = np.zeros((1, 20, 20), np.float32)
    dark[0, 0, 0] = 1e-6  # not constant, and below every level once it is scaled by the plan
    plan = plan_2d(normalisation="ct", ct_window={"low": 0, "high": 1, "mean": 0, "std": 1})
    assert predictor(plan).predict_scan(scan_of(dark)).failure_score == pytest.approx(0, abs=1e-6), "empty may be right"
    knowing = plan.model_copy(update={"always_present": (1,)})
    assert predictor(knowing).predict_scan(scan_of(dark)).failure_score == 1
    dark[0, 2:8, 2:8] = 1
    assert predictor(knowing).predict_scan(scan_of(dark)).failure_score == pytest.approx(0, abs=1e-6)


def test_modules_come_back_in_the_mode_they_were_in() -> None:
    plan = plan_2d()
    method = Threshold(Threshold.Config(), plan.problem)
    method.student, method.teacher = torch.nn.Dropout(), torch.nn.Dropout()
    method.train()
    method.teacher.eval()
    seen = []

    def predict(image: torch.Tensor) -> Prediction:
        seen.append((method.training, method.student.training))
        return Threshold.predict(method, image)

    method.predict = predict  # type: ignore[method-assign]
    Predictor(method, plan, "cpu").predict_prepared(speckle(1, 16, 16))
    assert seen == [(False, False)]
    assert (method.training, method.student.training, method.teacher.training) == (True, True, False)


def test_grey_image_for_a_colour_model() -> None:
    with pytest.raises(UserError, match=r"scan\.ext: .* 1 channel.* 3"):
        predictor(plan_2d(channels=3)).predict_scan(scan_of(speckle(1, 20, 20)))


def test_colour_image_for_a_grey_model() -> None:
    with pytest.raises(UserError, match=r"scan\.ext: .* 3 channels"):
        predictor(plan_2d()).predict_scan(scan_of(speckle(3, 20, 20)))


def test_wrong_rank_and_unit() -> None:
    with pytest.raises(UserError, match=r"scan\.ext: .*2D"):
        predictor(plan_3d()).predict_scan(scan_of(speckle(1, 20, 20)))
    with pytest.raises(UserError, match=r"scan\.ext: .*spacing in mm"):
        predictor(plan_3d()).predict_scan(scan_of(speckle(1, 20, 20, 20)))


def test_values_that_are_no_numbers() -> None:
    image = speckle(1, 20, 20)
    image[0, 3, 3] = np.nan
    with pytest.raises(UserError, match=r"scan\.ext: .*NaN"):
        predictor(plan_2d()).predict_scan(scan_of(image))


def test_a_network_that_has_diverged_is_not_believed() -> None:
    plan = plan_2d()
    method = Threshold(Threshold.Config(), plan.problem)
    method.predict = lambda image: Prediction(image.repeat(1, 2, 1, 1), image * torch.nan)  # type: ignore[method-assign]
    with refused("prediction-not-finite", naming=["scan.ext", "--precision fp32"]):
        Predictor(method, plan, "cpu").predict_scan(scan_of(speckle(1, 20, 20)))


def test_a_method_whose_predict_breaks_the_contract_is_named() -> None:
    plan = plan_2d()
    good = Threshold(Threshold.Config(), plan.problem).predict
    mistakes: list[tuple[str, list[str], Callable[[Prediction], Any]]] = [
        ("prediction-type", ["1 x 2 x 16 x 16"], lambda good: good.probabilities),
        (
            "prediction-shape",
            ["probabilities", "1 x 1 x 16", "1 x 2 x 16"],
            lambda good: replace(good, probabilities=good.probabilities[:, 1:]),
        ),
        (
            "prediction-shape",
            ["uncertainty", "1 x 16 x 16", "1 x 1 x 16"],
            lambda good: replace(good, uncertainty=good.uncertainty[:, 0]),
        ),
        (
            "prediction-values",
            ["probabilities"],
            lambda good: replace(good, probabilities=good.probabilities.logit().clamp(-9, 9)),
        ),
        (
            "prediction-values",
            ["'low'"],
            lambda good: replace(good, members={**good.members, "low": good.probabilities * torch.nan}),
        ),
    ]
    for kind, named, mistake in mistakes:
        method = Threshold(Threshold.Config(), plan.problem)
        method.predict = lambda image, mistake=mistake: mistake(good(image))  # type: ignore[assignment]
        with refused(kind, naming=["Threshold", *named]):
            Predictor(method, plan, "cpu").predict_prepared(speckle(1, 16, 16))
