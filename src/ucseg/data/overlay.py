"""Two small images laid over each other, by gradient descent on the difference of their intensities."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ucseg.types import Array

_STEPS = 12
_DETAIL = {2: 2.0, 3: 1.2}
"""Gaussian's deviation in voxels, by rank: what is wider is illumination, and the coarse looks of a kind of image."""
_WORTH_A_CLOSER_LOOK = 0.35
"""Likeness at half the size, turned, scaled and shifted only; below it two images are not fitted any further."""
_LEAST_OVERLAP = 0.3


def likeness_of_details(one: Array, other: Array, fit: Array) -> float:
    """Correlation of the details of two images where they overlap, once laid over each other; 0 when they cannot be.

    Args:
        one, other: S uint8 of equal shape, at least 8 along each axis.
        fit: n x n+1, about where each place of `other` lies in `one`; each axis runs from -1 to 1.
    """
    half = 2 if one.ndim == 2 else 1  # volumes are small already
    coarse_one, coarse_other = (_halved(image.astype(np.float32), half) for image in (one, other))
    fit = _laid(coarse_one, coarse_other, fit, _similarities(one.ndim))
    if _correlation(coarse_one, coarse_other, fit) < _WORTH_A_CLOSER_LOOK:
        return 0.0
    fine = (one.astype(np.float32), other.astype(np.float32))
    return _correlation(*fine, _laid(*fine, fit, np.eye(fit.size)))


def _laid(one: Array, other: Array, fit: Array, moves: Array) -> Array:
    """The fit after Gauss-Newton steps (inverse compositional Lucas-Kanade; Baker & Matthews 2004), where brightness
    and contrast may differ.

    Args:
        moves: n (n+1) x p, the changes of the map that are allowed.
    """
    rank = other.ndim
    places = _places(other.shape)
    slopes = np.stack([np.gradient(other, axis=a) * (other.shape[a] / 2) for a in range(rank)], -1).reshape(-1, rank)
    effect = (slopes[:, :, None] * places[:, None, :]).reshape(len(places), -1) @ moves
    shows = _shown(one), _shown(other)
    for _ in range(_STEPS):
        seen, there = _seen(one, shows[0], fit, places)
        there &= shows[1].ravel()
        if there.mean() < _LEAST_OVERLAP:
            return fit
        mine, its = _standard(seen[there]), other.ravel()[there]
        change = effect[there] - effect[there].mean(axis=0)
        missing = (mine @ its / len(its)) * mine - (its - its.mean())
        square = change.T @ change
        square[np.diag_indices(len(square))] *= 1.01  # damped; also where nothing tells a move
        step = (moves @ np.linalg.lstsq(square, change.T @ missing, rcond=None)[0]).reshape(rank, rank + 1)
        moved = np.eye(rank + 1)
        moved[:rank] += step
        fit = (np.vstack([fit, np.eye(rank + 1)[-1]]) @ np.linalg.pinv(moved))[:rank]
        if np.abs(step).max() < 1e-3:
            break
    return fit


def _correlation(one: Array, other: Array, fit: Array) -> float:
    seen, there = _seen(_details(one), _shown(one), fit, _places(other.shape))
    there &= _shown(other).ravel()
    if there.mean() < _LEAST_OVERLAP:
        return 0.0
    return float(np.mean(_standard(seen[there]) * _standard(_details(other).ravel()[there])))


def _seen(image: Array, shown: Array, fit: Array, places: Array) -> tuple[Array, Array]:
    """The values of `image` at places of the other one, and whether it shows something there."""
    at = places @ fit.T
    voxels = ((at + 1) / 2 * image.shape - 0.5).T
    there = np.all(np.abs(at) <= 1, axis=1)
    there &= ndimage.map_coordinates(shown.astype(np.uint8), voxels, order=0, mode="nearest") > 0
    return ndimage.map_coordinates(image, voxels, order=1, mode="nearest"), there


def _shown(image: Array) -> Array:
    """What is not the black frame or the air around, which images of one device share; all of it if little is left."""
    shown = ~ndimage.binary_dilation(image < 25, iterations=2)
    return shown if shown.mean() > 0.4 else np.ones_like(shown)


def _details(image: Array) -> Array:
    width = _DETAIL[image.ndim]
    fine = image - ndimage.gaussian_filter(image, width)
    return np.asarray(fine / (np.sqrt(ndimage.gaussian_filter(fine * fine, width)) + 2))


def _standard(values: Array) -> Array:
    return np.asarray((values - values.mean()) / (values.std() + 1e-6))


def _places(shape: tuple[int, ...]) -> Array:
    """V x n+1: where the voxels lie, each axis from -1 to 1, and a 1."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    return np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones(shape)], -1).reshape(-1, len(shape) + 1)


def _similarities(rank: int) -> Array:
    """Scaling, turning and shifting, as columns."""
    turns = [(i, j) for i in range(rank) for j in range(i)]
    moves = np.zeros((1 + len(turns) + rank, rank, rank + 1))
    moves[0, range(rank), range(rank)] = 1
    for move, (i, j) in zip(moves[1:], turns, strict=False):
        move[i, j], move[j, i] = 1, -1
    moves[1 + len(turns) + np.arange(rank), range(rank), -1] = 1
    return np.asarray(moves.reshape(len(moves), -1).T)


def _halved(image: Array, by: int) -> Array:
    shape = [part for edge in image.shape for part in (edge // by, by)]
    return np.asarray(image.reshape(shape).mean(axis=tuple(range(1, 2 * image.ndim, 2))))
