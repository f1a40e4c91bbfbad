"""What the metrics say where definitions are easily got wrong: absent classes, image edges, anisotropy, rounding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ucseg.evaluation.metrics import METRICS, case_metrics, worst_distance
from ucseg.evaluation.surface import SurfaceDistances, surface_distances
from ucseg.types import NOT_ANNOTATED

CLASSES = {0: "background", 1: "organ", 2: "lesion"}


def box(shape: tuple[int, ...], *sides: tuple[int, int], label: int = 1) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(*side) for side in sides)] = label
    return mask


def test_a_class_that_neither_has_is_undefined_and_one_that_one_has_is_as_bad_as_can_be() -> None:
    prediction = box((10, 20), (2, 5), (2, 5), label=1)
    reference = box((10, 20), (2, 5), (2, 5), label=2)
    rows = case_metrics(prediction, reference, {**CLASSES, 3: "cyst"}, (2.0, 1.5))
    organ, lesion, cyst = rows
    assert (organ["status"], lesion["status"], cyst["status"]) == ("false positive", "missed", "both empty")
    diagonal = math.hypot(10 * 2.0, 20 * 1.5)
    for row in (organ, lesion):
        assert row["dice"] == row["jaccard"] == row["surface_dice"] == 0
        assert row["hd95"] == row["assd"] == pytest.approx(diagonal)
    assert (organ["false_positives"], lesion["false_negatives"]) == (9, 9)
    assert all(math.isnan(cyst[metric]) for metric in METRICS)


def test_no_prediction_is_further_off_than_a_missed_one() -> None:
    # Single voxels in opposite corners of the image: nothing can be further apart.
    prediction, reference = box((7, 9, 4), (0, 1), (0, 1), (0, 1)), box((7, 9, 4), (6, 7), (8, 9), (3, 4))
    spacing = (0.8, 1.1, 4.0)
    (row,) = case_metrics(prediction, reference, {1: "organ"}, spacing)
    assert row["status"] == "ok"
    assert 0.5 * worst_distance((7, 9, 4), spacing) < row["assd"] <= row["hd95"] < worst_distance((7, 9, 4), spacing)


def test_a_box_that_is_one_slice_too_thick_is_one_slice_off_there_and_nowhere_else() -> None:
    reference, prediction = box((30, 30, 20), (5, 25), (5, 25), (5, 10)), box((30, 30, 20), (5, 25), (5, 25), (5, 11))
    (row,) = case_metrics(prediction, reference, {1: "organ"}, (1.0, 1.0, 3.0), tolerance=2.0)
    assert row["hd95"] == 3.0
    # Of 4,240 mm2, 3 mm off: the prediction's top (400 mm2), the rim below it, and the middle of the reference's top.
    assert 0.78 < row["surface_dice"] < 0.86
    (row,) = case_metrics(prediction, reference, {1: "organ"}, (1.0, 1.0, 3.0), tolerance=3.0)
    assert row["surface_dice"] == 1.0


@pytest.mark.parametrize("rank", [2, 3])
def test_metrics_do_not_depend_on_how_the_array_lies(rank: int) -> None:
    rng = np.random.default_rng(4)
    shape, spacing = (9, 7, 6)[:rank], (0.5, 1.25, 3.0)[:rank]
    prediction, reference = (rng.random((2, *shape)) < 0.3).astype(np.uint8)
    (expected,) = case_metrics(prediction, reference, {1: "organ"}, spacing)
    for axes in itertools.permutations(range(rank)):
        for flipped in ((), (0,), tuple(range(rank))):
            p, r = (np.flip(mask.transpose(axes), flipped) for mask in (prediction, reference))
            (row,) = case_metrics(p, r, {1: "organ"}, tuple(spacing[axis] for axis in axes))
            assert [row[metric] for metric in METRICS] == pytest.approx([expected[metric] for metric in METRICS])
    (swapped,) = case_metrics(reference, prediction, {1: "organ"}, spacing)
    assert [swapped[metric] for metric in METRICS] == pytest.approx([expected[metric] for metric in METRICS])


def test_the_background_around_changes_no_distance_but_the_worst() -> None:
    prediction, reference = box((8, 8), (0, 3), (0, 4)), box((8, 8), (0, 4), (0, 3))
    (tight,) = case_metrics(prediction[:4, :4], reference[:4, :4], {1: "organ"}, (1.0, 1.0))
    (wide,) = case_metrics(np.pad(prediction, 9), np.pad(reference, 9), {1: "organ"}, (1.0, 1.0))
    assert tight == wide


def test_one_slice_is_a_flat_image() -> None:
    prediction, reference = box((20, 20), (3, 15), (3, 15)), box((20, 20), (5, 17), (4, 16))
    (flat,) = case_metrics(prediction, reference, {1: "organ"}, (0.5, 0.8))
    for axis in range(3):
        spacing = (*(0.5, 0.8)[:axis], 5.0, *(0.5, 0.8)[axis:])
        (slab,) = case_metrics(np.expand_dims(prediction, axis), np.expand_dims(reference, axis), {1: "organ"}, spacing)
        assert slab == flat


def test_a_tolerance_of_whole_voxels_holds_for_spacings_that_a_header_rounded() -> None:
    prediction, reference = box((40, 6), (0, 20), (0, 6)), box((40, 6), (0, 30), (0, 6))
    spacing = (float(np.float32(0.2)), 1.0)  # 0.200000003: ten voxels are a little more than 2 mm
    (row,) = case_metrics(prediction, reference, {1: "organ"}, spacing, tolerance=2.0)
    assert row["hd95"] > 2.0
    assert row["surface_dice"] == 1.0


@pytest.mark.parametrize("area", [0.1, 0.7, 1 / 3, math.sqrt(0.5), 1.1])
def test_a_percentile_that_falls_on_the_end_of_an_element_takes_that_element(area: float) -> None:
    for count in range(20, 400, 20):
        equal = SurfaceDistances(np.arange(float(count)), np.full(count, area), np.zeros(1), np.ones(1))
        assert equal.hausdorff(95.0) == count * 19 // 20 - 1  # not one more, by rounding in the sum of the areas
        assert equal.hausdorff(95.01) == count * 19 // 20


def test_weights_decide_means_and_percentiles() -> None:
    uneven = SurfaceDistances(np.array([4.0, 0.0]), np.array([1.0, 99.0]), np.array([2.0]), np.array([100.0]))
    assert uneven.average() == pytest.approx((4 + 200) / 200)
    assert uneven.hausdorff(95.0) == 2.0
    assert uneven.dice(1.0) == pytest.approx(99 / 200)


@pytest.mark.parametrize("dtype", [bool, np.int16, np.uint32, np.int64])
def test_masks_of_any_whole_type_are_read_alike(dtype: type) -> None:
    prediction, reference = box((9, 9), (1, 6), (1, 6)), box((9, 9), (2, 8), (2, 8))
    expected = case_metrics(prediction, reference, {1: "organ"}, (1.0, 1.0))
    assert case_metrics(prediction.astype(dtype), reference.astype(dtype), {1: "organ"}, (1.0, 1.0)) == expected


def test_values_that_are_no_classes_are_left_alone() -> None:
    prediction, reference = box((9, 9), (1, 6), (1, 6)), box((9, 9), (2, 8), (2, 8))
    expected = case_metrics(prediction, reference, {1: "organ"}, (1.0, 1.0))
    prediction[8, 0], reference[0, 8] = 200, 7
    assert case_metrics(prediction, reference, {1: "organ"}, (1.0, 1.0)) == expected


def test_what_is_not_annotated_counts_nowhere() -> None:
    generator = np.random.default_rng(5)
    blob = box((12, 14, 10), (2, 10), (3, 11), (1, 8))
    reference, prediction = blob.copy(), np.roll(blob, 1, axis=1)
    unknown = np.zeros(blob.shape, bool)
    unknown[7:] = True
    known = case_metrics(prediction[:7], reference[:7], CLASSES, (1.0, 1.0, 2.0))
    noise = generator.integers(0, 3, blob.shape)
    for label in (reference, np.where(unknown, noise, reference), np.where(unknown, NOT_ANNOTATED, reference)):
        for predicted in (prediction, np.where(unknown, noise, prediction)):
            (organ, lesion) = case_metrics(predicted, label, CLASSES, (1.0, 1.0, 2.0), 2.0, unknown)
            assert (organ["dice"], organ["true_positives"]) == (known[0]["dice"], known[0]["true_positives"])
            assert lesion["status"] == "both empty"
            assert organ["hd95"] == pytest.approx(1.0), "the cut through what is annotated is no surface"
            assert (
                organ["assd"] == case_metrics(prediction, reference, CLASSES, (1.0, 1.0, 2.0), 2.0, unknown)[0]["assd"]
            )


def test_single_slices_have_a_dice_and_no_distances() -> None:
    blob = box((12, 14, 10), (2, 10), (3, 11), (1, 8))
    unknown = np.ones(blob.shape, bool)
    unknown[:, :, [3, 6]] = False
    row = case_metrics(np.roll(blob, 1, axis=0), blob, CLASSES, (1.0, 1.0, 1.0), 2.0, unknown)[0]
    assert (row["status"], row["dice"]) == ("ok", pytest.approx(7 / 8))
    assert all(math.isnan(row[metric]) for metric in ("hd95", "assd", "surface_dice"))


def test_what_does_not_belong_together_is_refused() -> None:
    square = np.ones((4, 4), dtype=np.uint8)
    for prediction, spacing in ((np.ones((4, 5), np.uint8), (1.0, 1.0)), (square, (1.0, 1.0, 1.0))):
        with pytest.raises(ValueError, match="do not belong together"):
            case_metrics(prediction, square, {1: "organ"}, spacing)
    with pytest.raises(ValueError, match="no surface"):
        surface_distances(square > 0, square > 1, (1.0, 1.0))
