"""Copies that were cropped, turned, mirrored, resized or brightened are found; images that only look alike are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ucseg.planning.thumbnail import thumbnail_of
from ucseg.scans.reading import read_scan
from ucseg.soundness.duplicates import near_duplicates
from ucseg.types import Array

SHAPE = {2: (150, 170), 3: (40, 44, 36)}


def scan(seed: int, rank: int) -> Array:
    """A blob that all of them show in one place, on a texture of its own; 1 x S."""
    shape = SHAPE[rank]
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), shape[0] / 40)
    blob = np.exp(-4 * (places**2).sum(axis=0))
    return np.asarray(100 + 60 * blob + 10 * texture / texture.std(), np.float32)[None]


CHANGES: dict[str, Callable[[Array], Array]] = {
    "the same": lambda a: a,
    "cropped": lambda a: a[tuple(slice(n // 12, n - n // 20) for n in a.shape)],
    "resized": lambda a: ndimage.zoom(a, 0.6, order=1),
    "turned": lambda a: ndimage.rotate(a, 4, (0, 1), reshape=False, order=1, mode="nearest"),
    "mirrored": lambda a: a[::-1],
    "on its side": lambda a: a.swapaxes(0, 1)[:, ::-1],
    "brightened": lambda a: a**0.7,
}


@pytest.mark.parametrize("rank", [2, 3])
def test_copies_are_found_and_nothing_else(rank: int) -> None:
    scans = [scan(seed, rank) for seed in range(20)]
    changed = [work(scans[number][0])[None] for number, work in enumerate(CHANGES.values())]
    pairs = near_duplicates([thumbnail_of(one) for one in (*scans, *changed)])
    assert [(i, j) for i, j, _ in pairs] == [(number, 20 + number) for number in range(len(CHANGES))]


def test_related_pairs_are_not_reported() -> None:
    copies = [thumbnail_of(scan(seed, 2)) for seed in (0, 1, 0)]
    assert [(i, j) for i, j, _ in near_duplicates(copies)] == [(0, 2)]
    assert not near_duplicates(copies, lambda i, j: {i, j} == {0, 2})


def test_images_that_show_nothing_have_no_copy_and_slices_may_lie_beside_volumes() -> None:
    flat, tiny, broken = np.full((1, 40, 40), 7.0), scan(0, 2)[:, :5], scan(0, 2)
    broken[0, 3, 3] = np.nan
    assert [thumbnail_of(one) for one in (flat, tiny, broken)] == [None, None, None]
    mixed = [None, thumbnail_of(scan(0, 3)), thumbnail_of(scan(0, 2)), thumbnail_of(scan(0, 3))]
    assert [(i, j) for i, j, _ in near_duplicates(mixed)] == [(1, 3)]
    assert near_duplicates([]) == []


def test_the_frames_of_kvasir_that_leak_into_its_test_set(shared_data: Path) -> None:
    folder = shared_data / "kvasir"
    names = [("train", n) for n in (222, 459, 620, 1, 2, 3, 4, 5)] + [("test", n) for n in (16, 33, 51, 1, 2)]
    files = [folder / split / "images" / f"{number}.jpg" for split, number in names]
    pairs = near_duplicates([thumbnail_of(read_scan(file).array) for file in files])
    assert [(names[i], names[j]) for i, j, _ in pairs] == [
        (("train", 222), ("test", 16)), (("train", 459), ("train", 620)), (("test", 33), ("test", 51)),
    ]  # fmt: skip
