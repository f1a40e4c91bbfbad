"""How does a scan come to the network's grid and intensities, and back? The same way in training and prediction.

A scan is turned to the orientation closest to RAS+, normalised, and resampled to the plan's spacing. The network's
grid covers the same physical box as the scan's voxels (scans/resampling.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.machine.memory import free_memory, in_gib
from ucseg.machine.room import pieces
from ucseg.planning.plan import Plan
from ucseg.planning.sizing import ENLARGED, network_shape
from ucseg.scans.address import Address
from ucseg.scans.channels import missing_channels
from ucseg.scans.colours import are_colours, brightest
from ucseg.scans.orientation import canonical_axes, from_canonical, to_canonical
from ucseg.scans.resampling import made_of, resample, resample_box, resample_label
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array


@dataclass(frozen=True)
class Grid:
    """How a scan's voxels became the network's, with all that is needed to go back.

    Attributes:
        source_shape: S of the scan, in its own axes.
        order: canonical axis i is the scan's axis order[i].
        flips: whether canonical axis i runs against the scan's axis.
        shape: S on the network's grid, in canonical axes.
        spacing: edge lengths of a voxel of the network's grid: the plan's, except for rounding to whole voxels.
    """

    source_shape: tuple[int, ...]
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """S of the scan in canonical axes, before resampling."""
        return tuple(self.source_shape[axis] for axis in self.order)

    def from_axis(self, axis: int) -> Grid:
        """The same grid with another one of its axes as the first."""
        axes = (axis, *(other for other in range(len(self.order)) if other != axis))
        moved = {
            name: tuple(getattr(self, name)[one] for one in axes) for name in ("order", "flips", "shape", "spacing")
        }
        return replace(self, **moved)


def grid_of(shape: tuple[int, ...], geometry: Geometry, plan: Plan, source: Path) -> Grid:
    """The network's grid for a scan of S = `shape`; a UserError if its rank or unit is not the plan's."""
    if plan.is_stack(geometry.dims, geometry.unit):
        slice_grid = grid_of(shape[1:], Geometry(geometry.affine[1:, 1:], "px"), plan, source)
        return Grid(shape, (0, 1, 2), (False,) * 3, (shape[0], *slice_grid.shape), (1.0, *slice_grid.spacing))
    if geometry.dims != len(plan.spacing):
        raise UserError(
            "scan-not-plan-rank",
            f"{source}: this is a {geometry.dims}D scan, but the plan is for {len(plan.spacing)}D scans; leave it out.",
        )
    if geometry.unit != plan.unit:
        kinds = {"mm": "scans with a spacing in mm", "px": "plain images without a spacing"}
        fix = "give its --spacing, or leave it out" if plan.unit == "mm" else "leave it out"
        raise UserError(
            "scan-not-plan-unit", f"{source}: the plan is for {kinds[plan.unit]}, and this is not one; {fix}."
        )
    order, flips = canonical_axes(geometry, source)
    before, edges = tuple(shape[axis] for axis in order), tuple(geometry.spacing[axis] for axis in order)
    after = network_shape(before, edges, plan.spacing, plan.size, plan.slice_axis)
    _refuse_wrong_spacing(before, edges, after, plan, source)
    spacing = tuple(n * edge / m for n, edge, m in zip(before, edges, after, strict=True))
    return Grid(shape, order, flips, after, spacing)


def _refuse_wrong_spacing(
    shape: tuple[int, ...], edges: tuple[float, ...], after: tuple[int, ...], plan: Plan, source: Path
) -> None:
    """By arithmetic, before anything is allocated."""
    voxels = math.prod(after)
    if plan.most_voxels is not None and voxels > max(plan.most_voxels, ENLARGED * math.prod(shape)):
        stated, grid = (" x ".join(f"{v:.4g}" for v in values) for values in (edges, after))
        raise UserError(
            "grid-too-large",
            f"{source}: by its spacing of {stated} {plan.unit} its grid has {grid} voxels, more than "
            f"{plan.most_voxels:.3g}; correct its header, or raise most_voxels of the plan if it is right.",
        )


class NetworkImage:
    """An image as the network sees it, made part by part: the scan stays in its own type, and no copy is as large.

    Each part is C x S float32, oriented, normalised and linearly resampled (smoothed first if voxels become larger):
    the same numbers whatever the part.

    Attributes:
        grid: for the way back.
        shape: C x S on the network's grid.

    Raises:
        UserError: rank, unit or channels differ from the plan's, or the image has NaN or infinite values.
    """

    def __init__(self, scan: Scan, plan: Plan) -> None:
        self.grid = grid_of(scan.array.shape[1:], scan.geometry, plan, scan.source)
        self.shape = (plan.channels, *self.grid.shape)
        self._image = to_canonical(_with_channels(scan, plan.channels), self.grid.order, self.grid.flips)
        self._stack = plan.is_stack(scan.geometry.dims, scan.geometry.unit)
        # Each slice of a stack is one image, as it was in training.
        images = [self._image[:, index] for index in range(self._image.shape[1])] if self._stack else [self._image]
        self._intensities = [Intensities(image, plan, scan.source) for image in images]

    def __getitem__(self, part: tuple[slice, ...]) -> Array:
        """All channels of a box: `image[:, a:b, c:d]`."""
        before, after = self.grid.canonical_shape, self.grid.shape
        box = tuple(slice(*one.indices(n)[:2]) for one, n in zip(part[1:], after, strict=True))
        old = tuple(made_of(n, m, one) for n, m, one in zip(before, after, box, strict=True))
        voxels = self._image[:, *old]
        if self._stack:
            of_slices = self._intensities[old[0]]
            seen = np.stack([one(voxels[:, index]) for index, one in enumerate(of_slices)], axis=1)
        else:
            seen = self._intensities[0](voxels)
        return resample_box(seen, before, after, box)

    def from_axis(self, axis: int) -> NetworkImage:
        """The same image with another one of its axes as the first."""
        moved = copy(self)
        moved.grid, moved._image = self.grid.from_axis(axis), np.moveaxis(self._image, 1 + axis, 1)
        moved.shape = (self.shape[0], *moved.grid.shape)
        return moved

    def whole(self) -> Array:
        """All of it at once."""
        return self[:, *(slice(0, n) for n in self.grid.shape)]


def to_network_grid(scan: Scan, plan: Plan) -> tuple[Array, Grid]:
    """An image as the network sees it, all of it: `NetworkImage`, and the grid for the way back.

    Raises:
        UserError: as `NetworkImage`, or there is not enough memory for it.
    """
    grid = grid_of(scan.array.shape[1:], scan.geometry, plan, scan.source)
    numbers = math.prod(grid.source_shape) + (math.prod(grid.shape) if grid.shape != grid.canonical_shape else 0)
    require_memory(scan.source, 4.0 * plan.channels * numbers, grid)
    return NetworkImage(scan, plan).whole(), grid


def require_memory(source: Path, need: float, grid: Grid) -> None:
    """Raise a UserError if work on a scan takes more bytes than are free, which would end the process."""
    free = free_memory()
    if need > free:
        shape = " x ".join(map(str, grid.shape))
        raise UserError(
            "scan-needs-memory",
            f"{source}: on the network's grid of {shape} it needs at least {in_gib(need)}, and {in_gib(free)} are "
            "free; cut it, or use a machine with more memory.",
        )


def label_to_network_grid(label: Array, grid: Grid) -> Array:
    """A label, S uint8 in the scan's axes, on the network's grid: each voxel gets the class that fills most of it."""
    return resample_label(to_canonical(label[None], grid.order, grid.flips)[0], grid.shape)


def from_network_grid(array: Array, grid: Grid) -> Array:
    """Values on the network's grid, C x S float32, resampled linearly to the scan's axes and shape, C x S."""
    array = resample(array, grid.canonical_shape)
    return np.ascontiguousarray(from_canonical(array, grid.order, grid.flips))


def _with_channels(scan: Scan, channels: int) -> Array:
    array, found = scan.array, scan.array.shape[0]
    if found == channels:
        return array
    if channels == 1 and all(np.array_equal(array[0], other) for other in array[1:]):
        return array[:1]  # a grey image saved as RGB
    # A grey image repeated three times would have the right shape, but the model has seen nothing like it.
    if missing := missing_channels(Address.of(scan.source), channels):
        raise UserError("scan-channels", f"{scan.source}: {missing}; put it beside the others.")
    fix = "convert it or leave it out"
    if found == 1 and channels == 3 and Address.of(scan.source).plain:
        fix = "the model knows pictures in colours: give it in colours, or leave it out"
    elif found == 1:
        fix = "if its channels are several files, name them as one, 'X_{a,b}.nii.gz' (--images for a folder)"
    raise UserError(
        "scan-channels",
        f"{scan.source}: has {found} channel{'s' * (found != 1)}, the model's images have {channels}; {fix}.",
    )


class Intensities:
    """How intensities become those of the plan: found on a whole image before resampling, applied to any part of it.

    Args:
        image: C x S of any dtype.

    Raises:
        UserError: there are NaN or infinite values, or colours out of their range.
    """

    def __init__(self, image: Array, plan: Plan, source: Path) -> None:
        self._plan, self._full_scale = plan, brightest(image)
        if image.dtype.kind == "f" and not all(
            np.isfinite(part).all() for channel in image for part in _parts(channel)
        ):
            raise UserError(
                "voxels-not-finite", f"{source}: has NaN or infinite values; fix the image or leave it out."
            )
        self._scales: list[tuple[float, float]] = []
        if plan.normalisation == "rgb":
            if not are_colours(image):
                raise UserError(
                    "colour-range",
                    f"{source}: colours are neither whole numbers of 8 or 16 bits nor within 0..1; convert the image.",
                )
        elif plan.normalisation != "ct" or plan.ct_window is None:
            self._scales = [self._scale(channel) for channel in image]

    def _scale(self, channel: Array) -> tuple[float, float]:
        if self._plan.normalisation == "unit":
            low, high = (np.float32(value) for value in (channel.min(), channel.max()))
            return float(low), float(high - low)
        nonzero = self._plan.nonzero and any(part.any() for part in _parts(channel))
        count, total, squares = 0, 0.0, 0.0
        for part in _parts(channel):
            voxels = part[part != 0] if nonzero else part
            count, total = count + voxels.size, total + float(voxels.sum(dtype=np.float64))
        for part in _parts(channel):
            away = (part[part != 0] if nonzero else part) - np.float64(total / count)
            squares += float(np.square(away, out=away).sum())
        return total / count, math.sqrt(squares / count)

    def __call__(self, part: Array) -> Array:
        """C x S of the image's dtype, of any box -> C x S float32."""
        image = part.astype(np.float32)
        if self._plan.normalisation == "rgb":
            return (image / self._full_scale - 0.5) / 0.25
        if not self._scales:
            window = self._plan.ct_window
            assert window is not None
            return (image.clip(window.low, window.high) - window.mean) / window.std
        for index, (shift, scale) in enumerate(self._scales):
            # A constant image becomes zero: of others the scale is above what float32 keeps of the mean.
            image[index] = (image[index] - shift) / (scale if scale > 1e-7 * abs(shift) else 1.0)
        return image


def _parts(array: Array) -> Iterator[Array]:
    """S as float32, a few rows at a time."""
    for rows in pieces(array.shape):
        yield array[rows].astype(np.float32)


def normalise(image: Array, plan: Plan, source: Path) -> Array:
    """Intensities as in the plan, from the scan's voxels before resampling: C x S of any dtype to C x S float32.

    A UserError if there are NaN or infinite values.
    """
    return Intensities(image, plan, source)(image)
