"""The component filter against a flood fill."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ucseg.method_parts.components import largest_components
from ucseg.types import Array


def literal_largest(label: Array, value: int) -> set[tuple[int, ...]]:
    """Voxels of the largest piece of `value`; neighbours by face, edge or corner."""
    left = {tuple(int(i) for i in voxel) for voxel in np.argwhere(label == value)}
    best: set[tuple[int, ...]] = set()
    while left:
        queue, piece = [left.pop()], set()
        while queue:
            voxel = queue.pop()
            piece.add(voxel)
            for offset in itertools.product((-1, 0, 1), repeat=label.ndim):
                other = tuple(i + o for i, o in zip(voxel, offset, strict=True))
                if other in left:
                    left.remove(other)
                    queue.append(other)
        best = max(best, piece, key=len)
    return best


@pytest.mark.parametrize("shape", [(14, 17), (7, 6, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_only_the_largest_piece_of_each_named_class_is_left(shape: tuple[int, ...], seed: int) -> None:
    share = 0.8 if len(shape) == 2 else 0.93
    rng = np.random.default_rng(seed)
    label = rng.choice(4, size=shape, p=[share, *[(1 - share) / 3] * 3]).astype(np.uint8)
    label[tuple(slice(0, 3) for _ in shape)] = 1  # so that one piece of each is the largest beyond doubt
    label[tuple(slice(-3, None) for _ in shape)] = 2
    before = label.copy()
    found = largest_components(label, (1, 2))
    assert np.array_equal(label, before) and found.dtype == label.dtype
    for value in (1, 2):
        assert {tuple(int(i) for i in v) for v in np.argwhere(found == value)} == literal_largest(label, value)
    assert np.array_equal(found == 3, label == 3), "other classes keep all"
    dropped = found != label
    assert dropped.any() and not found[dropped].any(), "the rest is background"


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    label = np.zeros((5, 5, 5), dtype=np.int64)
    for i in range(4):
        label[i, i, i] = 1
    label[0, 4, 0] = label[0, 4, 1] = 1
    found = largest_components(label, [1])
    assert found.sum() == 4 and found[3, 3, 3] == 1 and found[0, 4, 0] == 0


def test_nothing_is_lost_without_foreground_or_with_one_piece() -> None:
    assert not largest_components(np.zeros((4, 4), dtype=np.uint8), [1, 2]).any()
    whole = np.ones((4, 4), dtype=np.uint8)
    assert np.array_equal(largest_components(whole, [1]), whole)
