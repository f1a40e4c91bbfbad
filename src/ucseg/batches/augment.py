"""How is a training patch changed? Its geometry and its intensities, in any rank.

`sample_spatial` and `sample_intensity` draw parameters from a generator; `apply_spatial` and `apply_intensity` are
plain functions of these parameters. So several views of an image, and its label, can share one geometry.

Intensities are changed relative to the image's mean, spread and minimum, so the settings mean the same with every
normalisation. Sums run in numpy and scipy and do not depend on the number of threads: the same parameters give the
same bits in every loader worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg.planning.augmentation import AugmentationConfig
from ucseg.types import Array

ROTATION_SPACING = 3.0  # a plane whose voxel edges differ more is not rotated: too much would be interpolated; nnU-Net
QUARTER_TURN_SPACING = 1.1  # a quarter turn swaps two axes: only sensible where their voxel edges are about equal


@dataclass(frozen=True)
class SpatialParams:
    """One geometry.

    Attributes:
        turn: (axis, axis, number of quarter turns) or None.
        flips: axes that are reversed, after the turn.
        matrix: n x n, position in the new patch -> position in the old one, in voxels about the centre; None: identity.
        shift: n, added to it.
        displacement: n x (cells + 3)^n coefficients of a cubic B-spline in voxels, added to it; None: none.
    """

    turn: tuple[int, int, int] | None = None
    flips: tuple[int, ...] = ()
    matrix: Array | None = None
    shift: Array | None = None
    displacement: Array | None = None

    @property
    def resamples(self) -> bool:
        """Whether voxels are interpolated; otherwise they are only moved, exactly."""
        return self.matrix is not None or self.displacement is not None


@dataclass(frozen=True)
class IntensityParams:
    """One look. None and () leave the image as it is; see `AugmentationConfig` for the units."""

    blur_sigma: float | None = None
    gain: float = 1.0
    offset: float = 0.0
    gamma: float | None = None
    channel_gains: tuple[float, ...] = ()
    noise_std: float = 0.0
    noise_seed: int = 0
    boxes: tuple[tuple[slice, ...], ...] = ()
    inverted_gamma: float | None = None
    zoom: float | None = None


def sample_spatial(
    rng: np.random.Generator,
    config: AugmentationConfig,
    patch: tuple[int, ...],
    spacing: tuple[float, ...] | None = None,
) -> SpatialParams:
    """Draw a geometry for patches of shape S = `patch`.

    `spacing`: edge lengths of a voxel; rotations are rigid in these units. None: isotropic.
    """
    dims = len(patch)
    edges = np.ones(dims) if spacing is None else np.asarray(spacing, dtype=float)
    axes = range(dims) if config.flip_axes is None else [axis for axis in config.flip_axes if axis < dims]
    flips = tuple(axis for axis in axes if rng.random() < config.flip)
    turn = matrix = shift = displacement = None
    planes = [
        (a, b)
        for a, b in combinations(axes, 2)
        if patch[a] == patch[b] and max(edges[a], edges[b]) <= QUARTER_TURN_SPACING * min(edges[a], edges[b])
    ]
    if planes and rng.random() < config.rotate90:
        a, b = planes[rng.integers(len(planes))]
        turn = (a, b, int(rng.integers(1, 4)))
    if rng.random() < config.affine:
        rotation = np.eye(dims)
        for a, b in combinations(range(dims), 2):
            angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
            if max(edges[a], edges[b]) > ROTATION_SPACING * min(edges[a], edges[b]):
                continue
            plane = np.eye(dims)
            plane[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
            rotation = rotation @ plane
        rotation = rotation * edges / edges[:, None]  # voxels -> world, turn, world -> voxels
        matrix = rotation / rng.uniform(1 - config.scale, 1 + config.scale)
        shift = rng.uniform(-config.shift, config.shift, dims) * np.asarray(patch)
    if rng.random() < config.distortion:
        cell = np.asarray(patch) / config.distortion_cells
        nodes = rng.uniform(-1, 1, (dims, *(config.distortion_cells + 3,) * dims))
        strength = rng.uniform(0, config.distortion_strength) * cell
        displacement = nodes * strength.reshape(-1, *(1,) * dims)
    return SpatialParams(turn, flips, matrix, shift, displacement)


def apply_spatial(params: SpatialParams, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Move an image and its label in the same way.

    Args:
        image: C x S float32, interpolated linearly.
        label: S, integer classes, taken from the nearest voxel; or None.

    Returns:
        Both in their shapes and dtypes. Outside the patch is its mirror image, as in the published code.
    """
    image = _move(params, image)
    label = None if label is None else _move(params, label[None])[0]
    if not params.resamples:
        return image.contiguous(), None if label is None else label.contiguous()
    grid = _sampling_grid(params, tuple(image.shape[1:]))
    if label is not None:
        label = _resample(label[None].float(), grid, "nearest")[0].to(label.dtype)
    return _resample(image, grid, "bilinear"), label


def _resample(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(image[None], grid, mode=mode, padding_mode="reflection", align_corners=False)[0]


def _move(params: SpatialParams, image: Tensor) -> Tensor:
    if params.turn is not None:
        a, b, times = params.turn
        image = torch.rot90(image, times, (a + 1, b + 1))
    return image.flip([axis + 1 for axis in params.flips]) if params.flips else image


def _sampling_grid(params: SpatialParams, shape: tuple[int, ...]) -> Tensor:
    """1 x S x n: where each voxel of the new patch looks, in grid_sample's coordinates (-1 to 1, last axis first)."""
    dims = len(shape)
    half = np.asarray(shape) / 2  # voxels about the centre = grid_sample's coordinates * half
    position = _positions(shape)
    if params.matrix is not None and params.shift is not None:
        matrix = params.matrix * half / half[:, None]
        position = matrix.astype(np.float32) @ position + (params.shift / half).astype(np.float32)[:, None]
    if params.displacement is not None:
        field = params.displacement.astype(np.float32)
        cells = field.shape[1] - 3
        for size in shape:  # one axis after the other: its nodes become its voxels
            field = np.tensordot(field, _spline_weights(size, cells), axes=(1, 1))
        position = position + field.reshape(dims, -1) / half.astype(np.float32)[:, None]
    return torch.from_numpy(np.ascontiguousarray(position[::-1].T)).view(1, *shape, dims)


@lru_cache(maxsize=16)
def _positions(shape: tuple[int, ...]) -> Array:
    """n x voxels: the voxels' centres in grid_sample's coordinates."""
    lines = [((2 * np.arange(size) + 1) / size - 1).astype(np.float32) for size in shape]
    return np.stack(np.meshgrid(*lines, indexing="ij")).reshape(len(shape), -1)


@lru_cache(maxsize=16)
def _spline_weights(size: int, cells: int) -> Array:
    """size x (cells + 3): weights of the uniform cubic B-spline's control points at each voxel of an edge."""
    place = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(place.astype(int), cells - 1)
    t = place - cell
    weights = np.zeros((size, cells + 3), dtype=np.float32)
    cubic = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for offset, weight in enumerate(cubic):
        weights[np.arange(size), cell + offset] = weight / 6
    return weights


def sample_intensity(
    rng: np.random.Generator, config: AugmentationConfig, patch: tuple[int, ...], channels: int
) -> IntensityParams:
    """Draw a look for images of `channels` x S with S = `patch`."""
    blur = rng.uniform(*config.blur_sigma) if rng.random() < config.blur else None
    gain, offset = 1.0, 0.0
    if rng.random() < config.contrast:
        gain = rng.uniform(1 - config.gain, 1 + config.gain)
        offset = rng.uniform(-config.offset, config.offset)
    gamma = rng.uniform(*config.gamma_range) if rng.random() < config.gamma else None
    gains: tuple[float, ...] = ()
    if rng.random() < config.channel:
        gains = tuple(rng.uniform(1 - config.channel_gain, 1 + config.channel_gain, channels))
    low, high = config.noise_std
    noise = float(np.sqrt(rng.uniform(low**2, high**2))) if rng.random() < config.noise else 0.0
    seed = int(rng.integers(2**62))
    boxes: list[tuple[slice, ...]] = []
    if rng.random() < config.dropout:
        for _ in range(rng.integers(config.dropout_boxes[0], config.dropout_boxes[1] + 1)):
            edges = [max(1, round(size * rng.uniform(*config.dropout_edge))) for size in patch]
            starts = [int(rng.integers(size - edge + 1)) for size, edge in zip(patch, edges, strict=True)]
            boxes.append(tuple(slice(start, start + edge) for start, edge in zip(starts, edges, strict=True)))
    inverted = rng.uniform(*config.gamma_range) if rng.random() < config.inverted_gamma else None
    zoom = rng.uniform(*config.low_resolution_zoom) if rng.random() < config.low_resolution else None
    return IntensityParams(blur, gain, offset, gamma, gains, noise, seed, tuple(boxes), inverted, zoom)


def apply_intensity(params: IntensityParams, image: Tensor) -> Tensor:
    """A new look for an image, C x S float32 on the CPU; the given tensor is left as it is.

    Order: blur, gain and offset, low resolution, inverted gamma, gamma, channel gains, noise, dropout.
    DEVIATION: the published code also sets the label to background inside dropped boxes, which teaches holes. Here
    dropout changes only the image.
    """
    x: Array = image.numpy().copy()
    axes = tuple(range(1, x.ndim))
    if params.blur_sigma is not None:
        x = scipy.ndimage.gaussian_filter(x, (0.0, *(params.blur_sigma,) * len(axes)), mode="nearest", truncate=3.0)
    if params.gain != 1 or params.offset != 0:
        mean, spread = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
        x = (x - mean) * np.float32(params.gain) + mean + np.float32(params.offset) * spread
    if params.zoom is not None:
        x = _coarser(x, params.zoom)
    if params.inverted_gamma is not None:
        x = -_gamma(-x, params.inverted_gamma, axes)
    if params.gamma is not None:
        x = _gamma(x, params.gamma, axes)
    if params.channel_gains:
        low = x.min(axes, keepdims=True)
        x = (x - low) * np.asarray(params.channel_gains, dtype=np.float32).reshape(-1, *(1,) * len(axes)) + low
    if params.noise_std > 0:
        noise = np.random.default_rng(params.noise_seed).standard_normal(x.shape, dtype=np.float32)
        x = x + noise * (np.float32(params.noise_std) * x.std(axes, keepdims=True))
    if params.boxes:
        low = x.min(axes, keepdims=True)
        for box in params.boxes:
            x[(slice(None), *box)] = low
    return torch.from_numpy(x)


def _gamma(x: Array, power: float, axes: tuple[int, ...]) -> Array:
    low = x.min(axes, keepdims=True)
    extent = np.maximum(x.max(axes, keepdims=True) - low, np.float32(1e-6))
    changed: Array = ((x - low) / extent) ** np.float32(power) * extent + low
    return changed


def _coarser(x: Array, zoom: float) -> Array:
    """Each image as a grid of `zoom` times as many voxels along an edge shows it, interpolated back to its own."""
    shape = x.shape[1:]
    image = torch.from_numpy(np.ascontiguousarray(x))[None]
    coarse = F.interpolate(image, [max(1, round(edge * zoom)) for edge in shape], mode="nearest-exact")
    back = F.interpolate(coarse, shape, mode="bilinear" if len(shape) == 2 else "trilinear")
    fine: Array = back[0].numpy()
    return fine
