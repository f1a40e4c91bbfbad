"""Which images are there twice? Equal to the last voxel, or nearly: saved again, resized, turned, mirrored, cropped.

Near-duplicates are found in two steps. First each thumbnail gets perceptual hashes: the signs of its lowest DCT
coefficients, also when it is turned, mirrored and cropped. The hashes of all pairs are compared, by a few bit
operations. Then each image is laid over its nearest neighbours (`overlay.py`). The details that remain decide, since
images of one kind look alike from far. `before_training.py` and `check.py` report what is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, permutations, product

import numpy as np
import scipy

from ucseg.machine.pool import for_each
from ucseg.planning.thumbnail import pixels_of
from ucseg.soundness.overlay import likeness_of_details
from ucseg.types import Array

NEARLY_THE_SAME = {2: 0.55, 3: 0.75}
"""Correlation of details, by rank. Different images of one kind stay below it: benchmarks/results/duplicates.json."""

_FREQUENCIES = {2: 11, 3: 5}
"""Along each axis: 120 and 124 signs."""
_PARTS = (0.9, 0.8)
"""Edges of the crops that are hashed, in edges of the image."""
_NEIGHBOURS = 3
"""Candidates of each image."""
_ROWS_AT_ONCE = 16
_COLUMNS_AT_ONCE = 4096
"""So many hashes and what is counted of them stay in the processor's cache."""
_COPIES_AT_ONCE = 512
_PAIRS_AT_ONCE = {2: 16, 3: 4}


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
    copies = [None if one is None else pixels_of(one) for one in thumbnails]
    found = []
    for rank in sorted({copy.ndim for copy in copies if copy is not None}):
        chosen = {i: copy for i, copy in enumerate(copies) if copy is not None and copy.ndim == rank}
        index = list(chosen)
        pairs = [
            (index[i], index[j], fit)
            for i, j, fit in _candidates(list(chosen.values()))
            if not related(index[i], index[j])
        ]
        laid_over = [(chosen[i], chosen[j], fit) for i, j, fit in pairs]
        some = _PAIRS_AT_ONCE[rank]
        batches = [laid_over[at : at + some] for at in range(0, len(pairs), some)]
        likeness = for_each(lambda these: likeness_of_details(*map(np.stack, zip(*these, strict=True))), batches)
        found += [
            (min(i, j), max(i, j), value)
            for (i, j, _), value in zip(pairs, chain(*likeness), strict=True)
            if value >= NEARLY_THE_SAME[rank]
        ]
    return sorted(found)


def _candidates(copies: Sequence[Array]) -> Iterator[tuple[int, int, Array]]:
    """Pairs (i, j) of which j is among the nearest neighbours of i, each once, and how j's places lie in i."""
    count = len(copies)
    # A few at a time: their float copies take sixteen times the memory.
    parts = [_variants(np.stack(copies[at : at + _COPIES_AT_ONCE])) for at in range(0, count, _COPIES_AT_ONCE)]
    hashes = [np.concatenate(one) for one in zip(*(hashed for hashed, _ in parts), strict=True)]
    fits = parts[0][1]
    nearest: dict[tuple[int, int], tuple[int, int, Array]] = {}
    neighbours = min(_NEIGHBOURS, count - 1)
    starts = range(0, count if neighbours else 0, _ROWS_AT_ONCE)
    for start, found in zip(starts, for_each(lambda at: _nearest(hashes, at, neighbours), starts), strict=True):
        for row, others in enumerate(found):
            for other, apart, variant in others:
                i, j = start + row, int(other)
                pair = (min(i, j), max(i, j))
                if pair not in nearest or apart < nearest[pair][0]:
                    nearest[pair] = (apart, i, fits[variant])
    for (low, high), (_, i, fit) in nearest.items():
        yield i, low + high - i, fit


def _nearest(hashes: Sequence[Array], start: int, neighbours: int) -> Array:
    """_ROWS_AT_ONCE x neighbours x 3, images from `start` on: of the nearest others the index, how many bits differ,
    and in which variant."""
    plain = hashes[0]
    words = np.ascontiguousarray(plain.T)
    rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(plain)))
    best = np.full((len(rows), len(plain)), np.iinfo(np.uint16).max, np.uint16)
    for first in range(0, len(plain), _COLUMNS_AT_ONCE):
        columns = slice(first, first + _COLUMNS_AT_ONCE)
        some = best[:, columns]
        for variant, own in enumerate(hashes):
            bits = np.bitwise_count(own[rows, None, 0] ^ words[0, columns])
            bits += np.bitwise_count(own[rows, None, 1] ^ words[1, columns])
            # Bits above the variant's number: one minimum finds both.
            np.minimum(some, bits.astype(np.uint16) << 7 | variant, out=some)
    apart, which = best >> 7, best & 127
    apart = apart.astype(np.uint8)
    apart[rows - start, rows] = 255
    near = np.argpartition(apart, neighbours - 1)[:, :neighbours]
    return np.stack([near, *(np.take_along_axis(of, near, 1) for of in (apart, which))], -1)


def _variants(copies: Array) -> tuple[list[Array], list[Array]]:
    """Hashes (N x 2 uint64) of the images, also turned, mirrored and cropped; and for each variant a map.

    The map (n x n+1) leads from places in the variant to those in the image. Each axis runs from -1 to 1.
    """
    rank, edge = copies.ndim - 1, copies.shape[1]
    hashes, fits = [], []
    whole = _coefficients(copies)
    waves = np.arange(whole.shape[1])
    for order in permutations(range(rank)):
        for signs in product((1, -1), repeat=rank):
            mirrored = whole.transpose(0, *(1 + axis for axis in order))
            for axis, sign in enumerate(signs):  # odd waves change their sign in a mirror
                mirrored = mirrored * np.where(waves % 2, sign, 1).reshape([-1] + [1] * (rank - 1 - axis))
            fit = np.zeros((rank, rank + 1))
            fit[list(order), range(rank)] = signs
            hashes.append(_packed(mirrored))
            fits.append(fit)
    for part in _PARTS:
        size = round(edge * part)
        for corner in product((0, (edge - size) // 2, edge - size), repeat=rank):
            inside = tuple(slice(first, first + size) for first in corner)
            hashes.append(_packed(_coefficients(copies[(slice(None), *inside)])))
            middle = [[(2 * first + size) / edge - 1] for first in corner]
            fits.append(np.hstack([np.eye(rank) * size / edge, middle]))
    return hashes, fits


def _coefficients(images: Array) -> Array:
    """N x F of the lowest waves; the basis is smooth, so that the number of voxels does not matter."""
    rank = images.ndim - 1
    low = (slice(None),) + (slice(_FREQUENCIES[rank]),) * rank
    return np.asarray(scipy.fft.dctn(images.astype(np.float32), axes=range(1, rank + 1))[low])


def _packed(coefficients: Array) -> Array:
    signs = coefficients.reshape(len(coefficients), -1)[:, 1:] > 0  # the first one is the mean
    bits = np.packbits(signs, axis=1)
    return np.pad(bits, ((0, 0), (0, 16 - bits.shape[1]))).view(np.uint64)
