"""How alike are two images once one is laid over the other? By gradient descent on their difference.

The first axis of all arrays is that of the pairs: one pair at a time would be mostly Python.
"""

from __future__ import annotations

import numpy as np
import scipy

from ucseg.types import Array

_STEPS = 12
_DETAIL = {2: 2.0, 3: 1.2}
"""Standard deviation of a Gaussian in voxels, by rank: wider structures are illumination, or shared by all images."""
_WORTH_A_CLOSER_LOOK = 0.35
"""Likeness at half the size, after turn, scale and shift. Below it the search for a better fit stops."""
_LEAST_OVERLAP = 0.3


def likeness_of_details(one: Array, other: Array, fit: Array) -> Array:
    """Correlation of the details of two images where they overlap, once laid over each other; 0 when they cannot be.

    Args:
        one, other: N x S uint8, at least 8 along each axis: a pair an index.
        fit: N x n x n+1, about where each place of `other` lies in `one`; each axis runs from -1 to 1.

    Returns:
        N values.
    """
    rank = one.ndim - 1
    half = 2 if rank == 2 else 1  # volumes are small already
    fine = one.astype(np.float32), other.astype(np.float32)
    coarse = _halved(fine[0], half), _halved(fine[1], half)
    fit = _laid(*coarse, fit, _similarities(rank))
    likely = _correlation(*coarse, fit) >= _WORTH_A_CLOSER_LOOK
    found = np.zeros(len(one))
    if likely.any():
        near = fine[0][likely], fine[1][likely]
        found[likely] = _correlation(*near, _laid(*near, fit[likely], np.eye(fit[0].size)))
    return found


def _laid(one: Array, other: Array, fit: Array, moves: Array) -> Array:
    """The fit after Gauss-Newton steps (inverse compositional Lucas-Kanade; Baker & Matthews 2004), where brightness
    and contrast may differ.

    Args:
        moves: n (n+1) x p, the changes of the map that are allowed.
    """
    count, shape, rank = len(other), other.shape[1:], other.ndim - 1
    places = _places(shape)
    slopes = np.stack([np.gradient(other, axis=1 + a) * (n / 2) for a, n in enumerate(shape)], 1)
    effect = moves.T @ (slopes.reshape(count, rank, 1, -1) * places).reshape(count, len(moves), -1)
    its, its_shown, shown = other.reshape(count, -1), _shown(other).reshape(count, -1), _shown(one)
    fit, going = fit.copy(), np.arange(count)
    for _ in range(_STEPS):
        seen, there = _seen(one, shown, fit[going], places)
        there &= its_shown
        mine = _standard(seen, there)
        missing = _mean(mine * its, there) * mine - _centred(its, there)
        total = effect @ there[:, :, None].astype(float)
        square = (effect * there[:, None]) @ effect.swapaxes(1, 2)
        square -= total @ total.swapaxes(1, 2) / _count(there)[:, None]
        square *= 1 + 0.01 * np.eye(moves.shape[1])  # damped
        # The pseudo-inverse: also where no direction changes the image.
        step = moves @ (np.linalg.pinv(square, hermitian=True) @ (effect @ missing[:, :, None]))
        moved = _square(step.reshape(-1, rank, rank + 1)) + np.diag([1.0] * rank + [0.0])
        enough = there.mean(axis=1) >= _LEAST_OVERLAP
        fit[going[enough]] = (_square(fit[going]) @ np.linalg.pinv(moved))[enough, :rank]
        on = enough & (np.abs(step).max(axis=(1, 2)) >= 1e-3)
        if not on.any():
            break
        if not on.all():
            going, one, shown, its, its_shown, effect = (of[on] for of in (going, one, shown, its, its_shown, effect))
    return fit


def _correlation(one: Array, other: Array, fit: Array) -> Array:
    seen, there = _seen(_details(one), _shown(one), fit, _places(other.shape[1:]))
    there &= _shown(other).reshape(there.shape)
    both = _standard(seen, there) * _standard(_details(other).reshape(there.shape), there)
    return np.where(there.mean(axis=1) < _LEAST_OVERLAP, 0.0, _mean(both, there)[:, 0])


def _seen(image: Array, shown: Array, fit: Array, places: Array) -> tuple[Array, Array]:
    """N x V: the values of `image` at places of the other one, and whether it shows something there."""
    edges = np.array(image.shape[1:])[:, None]
    strides = [stride // image.itemsize for stride in image.strides[1:]]
    at = fit @ places
    there = (np.abs(at) <= 1).all(axis=1)
    voxels = (at * (edges / 2) + (edges - 1) / 2).clip(0, edges - 1)
    low = np.minimum(voxels.astype(np.int32), edges.astype(np.int32) - 2)
    part = (voxels - low).astype(np.float32)
    corner = np.arange(len(image))[:, None] * image[0].size + sum(
        low[:, a] * stride for a, stride in enumerate(strides)
    )
    there &= shown.reshape(-1)[corner + sum((part[:, a] >= 0.5) * stride for a, stride in enumerate(strides))]
    values = image.reshape(-1)

    def between(corner: Array, axis: int = 0) -> Array:
        if axis == len(strides):
            return np.asarray(values[corner])
        first, second = between(corner, axis + 1), between(corner + strides[axis], axis + 1)
        return np.asarray(first + part[:, axis] * (second - first))

    return between(corner), there


def _shown(image: Array) -> Array:
    """What is not the black frame or the air around, which images of one device share; all of it if little is left."""
    each = scipy.ndimage.generate_binary_structure(image.ndim - 1, 1)[None]
    shown = ~scipy.ndimage.binary_dilation(image < 25, each, iterations=2)
    little = shown.mean(axis=tuple(range(1, image.ndim)), keepdims=True) <= 0.4
    return np.asarray(shown | little)


def _details(image: Array) -> Array:
    width = (0.0, *[_DETAIL[image.ndim - 1]] * (image.ndim - 1))
    fine = image - scipy.ndimage.gaussian_filter(image, width)
    return np.asarray(fine / (np.sqrt(scipy.ndimage.gaussian_filter(fine * fine, width)) + 2))


def _standard(values: Array, there: Array) -> Array:
    """Mean 0 and deviation 1 over the places that are there; 0 at the others."""
    values = _centred(values, there)
    return np.asarray(values / (np.sqrt(_mean(values**2, there)) + 1e-6))


def _centred(values: Array, there: Array) -> Array:
    return np.asarray((values - _mean(values * there, there)) * there)


def _mean(values: Array, there: Array) -> Array:
    """N x 1, of values that are 0 where nothing is there."""
    return np.asarray(values.sum(axis=1, keepdims=True, dtype=np.float64) / _count(there))


def _count(there: Array) -> Array:
    return np.asarray(there.sum(axis=1, keepdims=True).clip(1))


def _places(shape: tuple[int, ...]) -> Array:
    """n+1 x V: where the voxels lie, each axis from -1 to 1, and a 1."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    return np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones(shape)]).reshape(len(shape) + 1, -1)


def _square(maps: Array) -> Array:
    """N x n x n+1 with the last row of homogeneous coordinates."""
    rank = maps.shape[1]
    return np.concatenate([maps, np.broadcast_to(np.eye(rank + 1)[-1:], (len(maps), 1, rank + 1))], axis=1)


def _similarities(rank: int) -> Array:
    """Scaling, turning and shifting, as columns."""
    turns = [(i, j) for i in range(rank) for j in range(i)]
    moves = np.zeros((1 + len(turns) + rank, rank, rank + 1))
    moves[0, range(rank), range(rank)] = 1
    for move, (i, j) in zip(moves[1:], turns, strict=False):
        move[i, j], move[j, i] = 1, -1
    moves[1 + len(turns) + np.arange(rank), range(rank), -1] = 1
    return np.asarray(moves.reshape(len(moves), -1).T)


def _halved(images: Array, by: int) -> Array:
    shape = [len(images), *(part for edge in images.shape[1:] for part in (edge // by, by))]
    return np.asarray(images.reshape(shape).mean(axis=tuple(range(2, len(shape), 2))))
