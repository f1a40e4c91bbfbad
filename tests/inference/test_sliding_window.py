"""Windows cover the image, blend to one, and cost a slab of memory."""

from __future__ import annotations

import inspect
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ucseg.cli.predict import predict as predict_verb
from ucseg.inference.maps import Layout
from ucseg.inference.predictor import stacked
from ucseg.inference.scan_predictor import GROWTH, OVERLAP
from ucseg.inference.sliding_window import SIGMA, axis_windows, gathered, predict_slabs
from ucseg.types import Array, Prediction

Network = Callable[[torch.Tensor], Prediction]


def slabs_of(
    predict: Network, image: Array, patch: tuple[int, ...], **windows: Any
) -> Iterator[tuple[int, Array, Layout]]:
    def answer(seen: Array) -> tuple[Array, Layout]:
        prediction = predict(torch.from_numpy(seen))
        return stacked(prediction).numpy(), Layout(prediction.probabilities.shape[1], tuple(prediction.members))

    return predict_slabs(answer, image, patch, **windows)


def sliding_window(
    predict: Network, image: Array, patch: tuple[int, ...], in_memory: int = 10**9, **windows: Any
) -> Prediction:
    found = gathered(slabs_of(predict, image, patch, **windows), image.shape[1:], in_memory)
    members = {name: torch.from_numpy(member) for name, member in found.members.items()}
    return Prediction(torch.from_numpy(found.probabilities), torch.from_numpy(found.uncertainty), members)


def local(image: torch.Tensor) -> Prediction:
    """A voxel's answer depends on that voxel only, so blending must not change it."""
    p = torch.sigmoid(image[:, :1])
    both = torch.cat([1 - p, p], dim=1)
    return Prediction(both, p * 0.5, {"a": both, "b": both.flip(1)})


def positional(image: torch.Tensor) -> Prediction:
    """Answers differ with the place in the window: blending shows."""
    ramp = torch.linspace(0, 1, image[0, 0].numel()).reshape(image.shape[2:])
    p = (ramp * torch.sigmoid(image[:, :1])).clamp(0, 1)
    return Prediction(torch.cat([1 - p, p], dim=1), p)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("patch", [1, 5, 16])
@pytest.mark.parametrize("size", [1, 4, 5, 16, 17, 31, 100])
def test_windows_cover_overlap_and_sum_to_one(size: int, patch: int, overlap: float) -> None:
    windows = axis_windows(size, patch, overlap)
    total = np.zeros(size)
    for window in windows:
        part = window.inside(size)
        total[part] += window.weight[part.start - window.start : part.stop - window.start]
        assert len(window.weight) == patch
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    steps = np.diff([window.start for window in windows])
    assert (steps > 0).all()
    assert (steps <= max(1, round(patch * (1 - overlap) + 0.499))).all()
    if size > patch:
        assert np.ptp(steps) <= 1, "evenly placed"


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 16, 24, 25, 40, 100, 333])
def test_grown_windows_are_fewer_and_compute_less(size: int, overlap: float) -> None:
    patch, growth = 16, 1.5
    grown, plain = axis_windows(size, patch, overlap, growth), axis_windows(size, patch, overlap)
    edge = len(grown[0].weight)
    assert patch <= edge <= patch * growth
    assert len(grown) <= len(plain)
    assert len(grown) * edge <= len(plain) * patch
    assert (len(grown) == 1) == (size <= patch * growth)
    total = np.zeros(size)
    for window in grown:
        part = window.inside(size)
        total[part] += window.weight[part.start - window.start : part.stop - window.start]
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    steps = np.diff([window.start for window in grown])
    assert (steps <= edge * (1 - overlap) + 0.5).all()


def test_a_scan_little_larger_than_the_patch_is_seen_whole_and_in_smaller_batches() -> None:
    seen = []

    def predict(image: torch.Tensor) -> Prediction:
        seen.append(tuple(image.shape))
        return local(image)

    sliding_window(predict, np.zeros((1, 22, 13), np.float32), (16, 16), growth=1.5)
    sliding_window(predict, np.zeros((1, 60, 24), np.float32), (16, 16), batch=2, growth=1.5)
    assert seen == [(1, 1, 22, 16), *[(1, 1, 24, 24)] * 4]


def test_a_scan_hardly_longer_than_the_patch_has_one_window_by_default() -> None:
    assert [len(axis_windows(size, 96, OVERLAP, GROWTH)) for size in (96, 100, 101, 140)] == [1, 1, 2, 2]
    assert inspect.signature(predict_verb).parameters["window_growth"].default == GROWTH


def test_one_window_is_not_blended() -> None:
    image = np.random.default_rng(0).normal(size=(1, 16, 8)).astype(np.float32)
    expected = positional(torch.from_numpy(image[None]))
    found = sliding_window(positional, image, (16, 8))
    assert torch.equal(found.probabilities, expected.probabilities)
    assert torch.equal(found.uncertainty, expected.uncertainty)


SHAPES = [
    (1,),
    (7,),
    (16,),
    (37,),
    (1, 1),
    (5, 40),
    (33, 17),
    (1, 1, 1),
    (3, 4, 5),
    (1, 40, 9),
    (23, 17, 33),
    (64, 5, 16),
]


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_any_rank(shape: tuple[int, ...], batch: int) -> None:
    image = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    found = sliding_window(local, image, (16,) * len(shape), batch=batch)
    expected = local(torch.from_numpy(image[None]))
    torch.testing.assert_close(found.probabilities, expected.probabilities, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.uncertainty, expected.uncertainty, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.members["b"], expected.members["b"], rtol=0, atol=1e-6)


def test_constant_predictor_stays_constant() -> None:
    def constant(image: torch.Tensor) -> Prediction:
        one = torch.ones_like(image[:, :1])
        return Prediction(torch.cat([0.3 * one, 0.7 * one], dim=1), 0.2 * one)

    found = sliding_window(constant, np.zeros((1, 45, 29, 18), np.float32), (16, 16, 16), overlap=0.3, batch=5)
    assert float((found.probabilities[:, 1] - 0.7).abs().max()) < 1e-6
    assert float((found.uncertainty - 0.2).abs().max()) < 1e-6


def test_agrees_with_a_literal_gaussian_average() -> None:
    rng = np.random.default_rng(2)
    image, patch = rng.normal(size=(1, 27, 21)).astype(np.float32), 8
    found = sliding_window(positional, image, (patch, patch), batch=3).probabilities[0, 1].numpy()

    offset = np.arange(patch) - (patch - 1) / 2
    bell = np.exp(-(offset**2) / (2 * (SIGMA * patch) ** 2))
    starts = [[0, 4, 8, 11, 15, 19], [0, 3, 6, 10, 13]]
    top, bottom = np.zeros((27, 21)), np.zeros((27, 21))
    for a, b in itertools.product(*starts):
        window = positional(torch.from_numpy(image[None, :, a : a + patch, b : b + patch])).probabilities[0, 1]
        for i, j in itertools.product(range(patch), range(patch)):
            top[a + i, b + j] += bell[i] * bell[j] * float(window[i, j])
            bottom[a + i, b + j] += bell[i] * bell[j]
    np.testing.assert_allclose(found, top / bottom, atol=2e-6)


def test_slabs_come_in_order_and_once() -> None:
    image = np.random.default_rng(3).normal(size=(1, 70, 20)).astype(np.float32)
    row, done = 0, []
    for start, slab, _ in slabs_of(local, image, (16, 16), batch=2, report=done.append):
        assert start == row
        row += slab.shape[1]
    assert row == 70
    assert done == sorted(done)
    assert done[-1] == 1.0


def peak(length: int) -> int:
    # A broadcast image costs nothing, so that what is measured is what the windows cost.
    image = np.broadcast_to(np.zeros((1, 1, 1, 1), np.float32), (1, length, 32, 32))
    tracemalloc.start()
    for _ in slabs_of(local, image, (16, 16, 16), batch=2):
        pass
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


def test_memory_does_not_grow_with_the_scan() -> None:
    short, long = peak(64), peak(512)
    whole = 7 * 4 * 512 * 32 * 32
    assert long < 1.2 * short + 100_000
    assert long < whole / 4


def test_large_results_lie_in_a_file_with_the_same_values() -> None:
    image = np.random.default_rng(4).normal(size=(1, 40, 20)).astype(np.float32)
    inside, outside = (sliding_window(local, image, (16, 16), in_memory=limit) for limit in (10**9, 0))
    assert torch.equal(inside.probabilities, outside.probabilities)
    assert torch.equal(inside.members["a"], outside.members["a"])


def test_wrong_ranks_and_overlaps_are_refused() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        sliding_window(local, np.zeros((1, 4, 4), np.float32), (4, 4, 4))
    with pytest.raises(ValueError, match="overlap"):
        sliding_window(local, np.zeros((1, 9, 9), np.float32), (4, 4), overlap=1.0)
    with pytest.raises(ValueError, match="growth"):
        sliding_window(local, np.zeros((1, 9, 9), np.float32), (4, 4), growth=0.9)
