"""How does a scan come to the network's grid and intensities, and back? The same way in training and prediction.

A scan is turned to the orientation closest to RAS+, normalised, and resampled to the plan's spacing. The network's
grid covers the same physical box as the scan's voxels (scans/resampling.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.machine.memory import free_memory, in_gib
from ucseg.planning.plan import Plan
from ucseg.planning.sizing import ENLARGED, network_shape
from ucseg.scans.address import Address
from ucseg.scans.channels import missing_channels
from ucseg.scans.orientation import canonical_axes, from_canonical, to_canonical
from ucseg.scans.resampling import resample, resample_label
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


def to_network_grid(scan: Scan, plan: Plan) -> tuple[Array, Grid]:
    """An image as the network sees it.

    Returns:
        C x S float32, oriented, normalised and linearly resampled (smoothed first if voxels become larger), and the
        grid for the way back.

    Raises:
        UserError: rank, unit or channels differ from the plan's, the image has NaN or infinite values, or there is not
            enough memory for it.
    """
    grid = grid_of(scan.array.shape[1:], scan.geometry, plan, scan.source)
    numbers = math.prod(grid.source_shape) + (math.prod(grid.shape) if grid.shape != grid.canonical_shape else 0)
    require_memory(scan.source, 4.0 * plan.channels * numbers, grid)
    image = to_canonical(_with_channels(scan, plan.channels), grid.order, grid.flips)
    if plan.is_stack(scan.geometry.dims, scan.geometry.unit):  # as each slice was in training
        slices = [normalise(image[:, index], plan, scan.source) for index in range(image.shape[1])]
        return resample(np.stack(slices, axis=1), grid.shape), grid
    return resample(normalise(image, plan, scan.source), grid.shape), grid


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
    raise UserError(
        "scan-channels",
        f"{scan.source}: has {found} channel{'s' * (found != 1)}, the model's images have {channels}; "
        "convert it or leave it out.",
    )


def normalise(image: Array, plan: Plan, source: Path) -> Array:
    """Intensities as in the plan, from the scan's voxels before resampling: C x S of any dtype to C x S float32.

    A UserError if there are NaN or infinite values.
    """
    unsigned = np.issubdtype(image.dtype, np.unsignedinteger)
    full_scale = float(np.iinfo(image.dtype).max) if unsigned else 1.0
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise UserError("voxels-not-finite", f"{source}: has NaN or infinite values; fix the image or leave it out.")
    if plan.normalisation == "rgb":
        if image.max(initial=0) > full_scale or image.min(initial=0) < 0:
            raise UserError(
                "colour-range",
                f"{source}: colours are neither unsigned integers nor within 0..1; convert the image.",
            )
        return (image / full_scale - 0.5) / 0.25
    if plan.normalisation == "ct" and plan.ct_window is not None:
        window = plan.ct_window
        return (image.clip(window.low, window.high) - window.mean) / window.std
    for index, channel in enumerate(image):
        if plan.normalisation == "unit":
            shift, scale = float(channel.min()), float(np.ptp(channel))
        else:
            voxels = channel[channel != 0] if plan.nonzero and channel.any() else channel
            shift, scale = float(voxels.mean(dtype=np.float64)), float(voxels.std(dtype=np.float64))
        image[index] = (channel - shift) / (scale if scale > 1e-8 else 1.0)  # a constant image becomes zero
    return image
