"""Metrics against independent versions: the `surface-distance` package, and literal ones that loop over everything."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import surface_distance
from numpy.typing import NDArray
from surface_distance import lookup_tables

from ucseg.evaluation.metrics import case_metrics
from ucseg.evaluation.statistics import bootstrap_interval, paired_difference
from ucseg.evaluation.surface import element_weights, surface_distances

Mask = NDArray[np.bool_]
SPACINGS = [(1.0, 1.0), (0.4, 1.7), (1.0, 1.0, 1.0), (0.7, 0.7, 3.0), (2.0, 0.5, 1.1)]


def random_pair(seed: int, rank: int, kind: str) -> tuple[Mask, Mask]:
    """Two masks of odd shape: sparse specks, dense noise (every corner code occurs) or two blobs that overlap."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(4, 10, size=rank))
    if kind == "blobs":
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
        centres = rng.uniform(0, np.array(shape) - 1, size=(2, rank))
        first, second = (np.linalg.norm(grid - centre, axis=-1) < rng.uniform(1, 4) for centre in centres)
    else:
        chance = {"specks": 0.05, "noise": 0.5}[kind]
        first, second = rng.random((2, *shape)) < chance
    first[tuple(0 for _ in shape)] = second[tuple(n - 1 for n in shape)] = True
    return first, second


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize("kind", ["specks", "noise", "blobs"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_distances_agree_with_the_surface_distance_package(spacing: tuple[float, ...], kind: str, seed: int) -> None:
    prediction, reference = random_pair(seed, len(spacing), kind)
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
    weights = theirs["surfel_areas_gt"], theirs["surfel_areas_pred"]
    moments = theirs["distances_gt_to_pred"] @ weights[0] + theirs["distances_pred_to_gt"] @ weights[1]
    ours = surface_distances(prediction, reference, spacing)
    assert ours.first_weight.sum() == pytest.approx(weights[1].sum(), rel=1e-12)
    assert ours.average() == pytest.approx(moments / (weights[0].sum() + weights[1].sum()), rel=1e-12, abs=1e-12)
    # Not 50 or 95: where exactly so many of equal elements lie below, the package goes by its rounding errors.
    for percentile in (48.7, 94.9, 100.0):
        expected = surface_distance.compute_robust_hausdorff(theirs, percentile)
        assert ours.hausdorff(percentile) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for tolerance in (0.0, 0.65, 1.3, 2.05):
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert ours.dice(tolerance) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_element_has_the_area_that_the_package_tabulates(spacing: tuple[float, ...]) -> None:
    rank = len(spacing)
    if rank == 2:
        table = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
        kernel = np.array([[8, 4], [2, 1]])
    else:
        table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
        kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    ours = element_weights(spacing)
    assert len(ours) == len(table) == 2**2**rank
    for code in range(len(ours)):
        cell = np.zeros((2,) * rank, dtype=int)
        for corner in np.ndindex(*cell.shape):
            cell[corner] = code >> sum(step << axis for axis, step in enumerate(corner)) & 1
        assert ours[code] == pytest.approx(table[int((cell * kernel).sum())], abs=1e-12), f"code {code:b}"


def literal_contour(mask: Mask, spacing: tuple[float, ...]) -> list[tuple[tuple[float, ...], float]]:
    """(corner point, length) by marching squares drawn by hand: the segments join mid-points of a cell's sides."""
    rows, columns = mask.shape

    def inside(i: int, j: int) -> bool:
        return 0 <= i < rows and 0 <= j < columns and bool(mask[i, j])

    elements = []
    for i, j in itertools.product(range(rows + 1), range(columns + 1)):
        # The four voxel centres around a corner point, going round, and the mid-points of the sides between them.
        ring = [(i - 1, j - 1), (i - 1, j), (i, j), (i, j - 1)]
        state = [inside(*place) for place in ring]
        crossed = [side for side in range(4) if state[side] != state[(side + 1) % 4]]
        middle = [
            tuple((ring[side][axis] + ring[(side + 1) % 4][axis]) / 2 * spacing[axis] for axis in (0, 1))
            for side in range(4)
        ]
        if len(crossed) == 2:
            length = math.dist(middle[crossed[0]], middle[crossed[1]])
        elif len(crossed) == 4:
            length = math.dist(middle[0], middle[1]) + math.dist(middle[2], middle[3])
        else:
            continue
        elements.append(((i * spacing[0], j * spacing[1]), length))
    return elements


@pytest.mark.parametrize("kind", ["specks", "noise", "blobs"])
@pytest.mark.parametrize("spacing", SPACINGS[:2])
def test_contours_agree_with_a_literal_version(spacing: tuple[float, ...], kind: str) -> None:
    prediction, reference = random_pair(11, 2, kind)
    elements = literal_contour(prediction, spacing), literal_contour(reference, spacing)
    directed = []
    for own, other in (elements, elements[::-1]):
        directed.append(sorted((min(math.dist(place, there) for there, _ in other), length) for place, length in own))
    total = sum(length for side in directed for _, length in side)
    percentiles = []
    for side in directed:
        walked, whole = 0.0, sum(length for _, length in side)
        for distance, length in side:
            walked += length
            if walked >= 0.95 * whole * (1 - 1e-12):
                percentiles.append(distance)
                break
    ours = surface_distances(prediction, reference, spacing)
    average = sum(distance * length for side in directed for distance, length in side) / total
    assert ours.average() == pytest.approx(average, rel=1e-12, abs=1e-12)
    assert ours.hausdorff(95.0) == pytest.approx(max(percentiles), rel=1e-12, abs=1e-12)
    within = sum(length for side in directed for distance, length in side if distance <= 1.05)
    assert ours.dice(1.05) == pytest.approx(within / total, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("rank", [2, 3])
def test_overlaps_agree_with_counting_by_hand(rank: int) -> None:
    rng = np.random.default_rng(5)
    prediction, reference = rng.integers(0, 4, size=(2, *(6, 7, 5)[:rank])).astype(np.uint8)
    rows = case_metrics(prediction, reference, {0: "background", 1: "a", 2: "b", 3: "c"}, (1.0,) * rank)
    assert [row["label"] for row in rows] == [1, 2, 3]
    for row in rows:
        voxels = list(zip(prediction.ravel().tolist(), reference.ravel().tolist(), strict=True))
        both = sum(p == row["label"] == r for p, r in voxels)
        either = sum(row["label"] in (p, r) for p, r in voxels)
        assert row["true_positives"] == both
        assert row["false_positives"] == sum(p == row["label"] != r for p, r in voxels)
        assert row["false_negatives"] == sum(r == row["label"] != p for p, r in voxels)
        assert row["jaccard"] == pytest.approx(both / either)
        assert row["dice"] == pytest.approx(2 * both / (both + either))


def test_bootstrap_agrees_with_drawing_subjects_by_hand() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.8, 0.1, size=(14, 2))
    values[2, 0] = values[5, 1] = values[6, 1] = np.nan
    subjects = list("aabbbcdeffghij")
    of = {name: [i for i, own in enumerate(subjects) if own == name] for name in set(subjects)}
    means = []
    for _ in range(4000):
        drawn = [i for name in rng.choice(sorted(of), size=len(of)) for i in of[name]]
        columns = [[values[i, k] for i in drawn if not math.isnan(values[i, k])] for k in (0, 1)]
        means.append(np.mean([np.mean(column) for column in columns]))
    ours = bootstrap_interval(values, seed=1, subjects=subjects)
    assert ours.mean == pytest.approx(np.mean(np.nanmean(values, axis=0)), rel=1e-12)
    # Two Monte Carlo answers to one question: their ends agree within a few per cent of the interval's width.
    half = 2.262 * np.std(means) * (10 / 9) ** 0.5  # 10 subjects: Student's quantile with 9 degrees of freedom
    low, high = ours.mean - half, ours.mean + half
    assert abs(ours.low - low) < 0.06 * (high - low)
    assert abs(ours.high - high) < 0.06 * (high - low)


def test_signed_rank_p_agrees_with_trying_every_sign() -> None:
    difference = np.array([0.3, -0.1, 0.25, 0.4, 0.05, 0.6, -0.2])
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    seen = ranks[difference > 0].sum()
    middle = ranks.sum() / 2
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    expected = np.mean([abs(one - middle) >= abs(seen - middle) for one in sums])
    assert paired_difference(difference + 0.5, np.full(7, 0.5)).p == pytest.approx(expected)
