"""Which images are there twice? Equal to the last voxel, or nearly: saved again, resized, turned, mirrored, cropped.

Near-duplicates are found in two steps. First each thumbnail gets perceptual hashes: the signs of its lowest DCT
coefficients, also when it is turned, mirrored and cropped. The hashes of all pairs are compared, by a few bit
operations. Then each image is laid over its nearest neighbours: blocks of one are searched for in the other, and an
affine map is fitted to where they are found. Details decide, since images of one kind look alike from far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product

import numpy as np
import scipy

from ucseg.machine.pool import for_each
from ucseg.planning.thumbnail import pixels_of
from ucseg.types import Array

NEARLY_THE_SAME = {2: 0.6, 3: 0.75}
"""Correlation of details, by rank. Different images of one kind stay below it: benchmarks/results/duplicates.json."""

_FREQUENCIES = {2: 11, 3: 5}
"""Along each axis: 120 and 124 signs."""
_PARTS = (0.9, 0.8)
"""Edges of the crops that are hashed, in edges of the image."""
_BLOCKS = {2: 4, 3: 3}
"""Along each axis."""
_REACH = {2: 6, 3: 3}
"""How far from its place a block is searched for, in voxels."""
_ROUNDS = 3
_LEAST_OVERLAP = 0.3
_DETAIL = {2: 2.0, 3: 1.2}
"""Standard deviation of a Gaussian in voxels, by rank: wider structures are illumination, or shared by all images."""
_NEIGHBOURS = 3
"""Candidates of each image."""
_ROWS_AT_ONCE = 16
_IMAGES_AT_ONCE = 512

Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""The order of the axes, and for each whether it runs forward (1) or backward (-1)."""


def digest(array: Array) -> str:
    found = hashlib.blake2b(f"{array.shape}{array.dtype.str}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def near_duplicates(
    thumbnails: Sequence[bytes | None], related: Callable[[int, int], bool] = lambda i, j: False
) -> list[tuple[int, int, float]]:
    """(i, j, correlation of details) with i < j of all pairs found that are NEARLY_THE_SAME, or equal.

    Pairs that are `related` are not compared.
    """
    found = []
    images = {i: pixels_of(one) for i, one in enumerate(thumbnails) if one is not None}
    for rank in sorted({image.ndim for image in images.values()}):
        index = [i for i, image in images.items() if image.ndim == rank]
        named = [(index[i], index[j], turn) for i, j, turn in _candidates([images[i] for i in index])]
        pairs = [pair for pair in named if not related(*pair[:2])]
        likeness = for_each(lambda pair: _likeness(_turned(images[pair[0]], pair[2]), images[pair[1]]), pairs)
        found += [
            (min(i, j), max(i, j), value)
            for (i, j, _), value in zip(pairs, likeness, strict=True)
            if value >= NEARLY_THE_SAME[rank]
        ]
    return sorted(found)


def _likeness(one: Array, other: Array) -> float:
    """Correlation of the details of two images once `one` is laid over `other`; 0 if they hardly overlap."""
    rank, edge = one.ndim, len(one)
    axes, size, reach = range(rank, 2 * rank), edge // _BLOCKS[rank], _REACH[rank]
    mine, wanted = _details(one), _details(other)
    window = size + 2 * reach
    places = np.indices((_BLOCKS[rank],) * rank).reshape(rank, -1) * size + (size - 1) / 2
    places = np.vstack([places, np.ones(places.shape[1])])
    blocks = _cut(wanted, size, size)
    blocks = blocks - blocks.mean(axis=tuple(axes), keepdims=True)
    waves = scipy.fft.rfftn(blocks, (window,) * rank, axes).conj()
    fit = np.eye(rank, rank + 1)  # from places in `other` to places in `one`, in voxels
    for _ in range(_ROUNDS):
        seen = np.pad(scipy.ndimage.affine_transform(mine, fit, order=1), reach)
        sums = scipy.fft.irfftn(scipy.fft.rfftn(_cut(seen, window, size), axes=axes) * waves, (window,) * rank, axes)
        sums = sums[(slice(None),) * rank + (slice(2 * reach + 1),) * rank].reshape(places.shape[1], -1)
        moved = np.array(np.unravel_index(sums.argmax(axis=1), (2 * reach + 1,) * rank)) - reach
        sure = sums.max(axis=1).clip(1e-3)  # blocks without details do not count
        step = np.linalg.lstsq((places * sure).T, ((places[:rank] + moved) * sure).T, rcond=None)[0].T
        fit = np.hstack([np.zeros((rank, rank)), fit[:, rank:]]) + fit[:, :rank] @ step
    there = scipy.ndimage.affine_transform(np.ones_like(mine), fit, order=1) > 0.99
    if there.mean() < _LEAST_OVERLAP:
        return 0.0
    seen, wanted = scipy.ndimage.affine_transform(mine, fit, order=1)[there], wanted[there]
    seen, wanted = seen - seen.mean(), wanted - wanted.mean()
    return float((seen * wanted).sum() / (np.sqrt((seen**2).sum() * (wanted**2).sum()) + 1e-6))


def _cut(image: Array, edge: int, step: int) -> Array:
    """Blocks of an image, each so many voxels after the one before: blocks along each axis x S."""
    blocks = np.lib.stride_tricks.sliding_window_view(image, (edge,) * image.ndim)
    return blocks[(slice(None, None, step),) * image.ndim]


def _details(image: Array) -> Array:
    """Fine structure, everywhere of about the same strength."""
    width = _DETAIL[image.ndim]
    fine = image - scipy.ndimage.gaussian_filter(image.astype(np.float32), width)
    return np.asarray(fine / (np.sqrt(scipy.ndimage.gaussian_filter(fine * fine, width)) + 2))


def _candidates(images: Sequence[Array]) -> Iterator[tuple[int, int, Turn]]:
    """Pairs (i, j), each once: j, or nearly, is among the nearest neighbours of i when i is turned."""
    count = len(images)
    # A few at a time: their float copies take sixteen times the memory.
    parts = [_hashes(np.stack(images[at : at + _IMAGES_AT_ONCE])) for at in range(0, count, _IMAGES_AT_ONCE)]
    hashes = [np.concatenate(one) for one in zip(*parts, strict=True)]
    nearest: dict[tuple[int, int], tuple[int, int, int]] = {}
    neighbours = min(_NEIGHBOURS, count - 1)
    starts = range(0, count if neighbours else 0, _ROWS_AT_ONCE)
    for start, found in zip(starts, for_each(lambda at: _nearest(hashes, at, neighbours), starts), strict=True):
        for row, others in enumerate(found):
            for other, apart, variant in others:
                i, j = start + row, int(other)
                pair = (min(i, j), max(i, j))
                if pair not in nearest or apart < nearest[pair][0]:
                    nearest[pair] = (apart, i, variant)
    turns = _turns(images[0].ndim)
    for (low, high), (_, i, variant) in nearest.items():
        yield i, low + high - i, turns[variant if variant < len(turns) else 0]


def _nearest(hashes: Sequence[Array], start: int, neighbours: int) -> Array:
    """_ROWS_AT_ONCE x neighbours x 3, from image `start` on: index of a near one, how many bits differ, variant."""
    plain = hashes[0]
    rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(plain)))
    best = np.full((len(rows), len(plain)), np.iinfo(np.uint16).max, np.uint16)
    for variant, own in enumerate(hashes):
        bits = np.bitwise_count(own[rows, None, 0] ^ plain[:, 0])
        bits += np.bitwise_count(own[rows, None, 1] ^ plain[:, 1])
        # The bits above the variant's number: one minimum finds both.
        np.minimum(best, bits.astype(np.uint16) << 7 | variant, out=best)
    apart, which = best >> 7, best & 127
    apart = apart.astype(np.uint8)
    apart[rows - start, rows] = 255
    near = np.argpartition(apart, neighbours - 1)[:, :neighbours]
    return np.stack([near, *(np.take_along_axis(of, near, 1) for of in (apart, which))], -1)


def _hashes(images: Array) -> list[Array]:
    """N x 2 uint64 for each variant: every turn, the first of which changes nothing, and then the crops."""
    rank, edge = images.ndim - 1, images.shape[1]
    hashes = []
    whole = _coefficients(images)
    waves = np.arange(whole.shape[1])
    for order, signs in _turns(rank):
        turned = whole.transpose(0, *(1 + axis for axis in order))
        for axis, sign in enumerate(signs):  # odd waves change their sign in a mirror
            turned = turned * np.where(waves % 2, sign, 1).reshape([-1] + [1] * (rank - 1 - axis))
        hashes.append(_packed(turned))
    for part in _PARTS:
        size = round(edge * part)
        for corner in product((0, (edge - size) // 2, edge - size), repeat=rank):
            inside = tuple(slice(first, first + size) for first in corner)
            hashes.append(_packed(_coefficients(images[(slice(None), *inside)])))
    return hashes


def _turns(rank: int) -> list[Turn]:
    return list(product(permutations(range(rank)), product((1, -1), repeat=rank)))


def _turned(image: Array, turn: Turn) -> Array:
    order, signs = turn
    return image.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]


def _coefficients(images: Array) -> Array:
    """N x F of the lowest waves; the basis is smooth, so that the number of voxels does not matter."""
    rank = images.ndim - 1
    low = (slice(None),) + (slice(_FREQUENCIES[rank]),) * rank
    return np.asarray(scipy.fft.dctn(images.astype(np.float32), axes=range(1, rank + 1))[low])


def _packed(coefficients: Array) -> Array:
    signs = coefficients.reshape(len(coefficients), -1)[:, 1:] > 0  # the first one is the mean
    bits = np.packbits(signs, axis=1)
    return np.pad(bits, ((0, 0), (0, 16 - bits.shape[1]))).view(np.uint64)
