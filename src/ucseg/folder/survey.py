"""What the files of a folder hold, before anything is decided: sizes, channels, mask values, drawn outlines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from ucseg.dataset.case import Case
from ucseg.dataset.masks import is_lossy
from ucseg.errors import UserError
from ucseg.folder.objects import MOST as MOST_OBJECTS
from ucseg.folder.objects import pieces_of
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import is_drawn, oddities, read_header, read_mask, read_scan, segment_names
from ucseg.scans.scan import Geometry
from ucseg.types import Array

MANY = 256
"""A mask with more distinct values than this holds no class numbers; its values are not listed."""

_OUTLINE_SAMPLE = 40
_OUTLINE_SHARE = 0.8
SMALLEST_OUTLINE = 12
"""Pixels across. A smaller ring may be one by nature, such as the wall of a vessel, and not a drawn line."""
_FEW_VALUES = 4


@dataclass(frozen=True)
class ImageFacts:
    """Of an image's header: S, geometry, channels, and how it shows something else than it stores."""

    shape: tuple[int, ...]
    geometry: Geometry
    channels: int
    odd: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MaskFacts:
    """Of a mask file's voxels.

    Attributes:
        counts: value -> number of voxels, ascending; None when there are more than MANY values.
        whole: all values are whole numbers.
        lossy: the format (JPEG) does not keep values.
        outline: whether the mask is a thin closed contour; None when not looked at.
        small_ring: it would be one, but for its size.
        names: value -> name, of files that name their segments.
        odd: how it shows something else than it stores.
        pieces: value -> connected pieces, of foreground in whole numbers; None when not looked at.
        unknown: voxels that are not annotated; `counts`, `low` and `high` leave them out.
    """

    mask: Address
    shape: tuple[int, ...]
    geometry: Geometry
    counts: dict[float, int] | None
    low: float
    high: float
    whole: bool
    lossy: bool
    outline: bool | None
    names: dict[int, str] = field(default_factory=dict)
    odd: frozenset[str] = frozenset()
    pieces: dict[int, int] | None = None
    unknown: int = 0
    small_ring: bool = False

    def without(self, none: Iterable[float]) -> MaskFacts | None:
        """The same mask without the values that mean "not annotated"; None if it holds no other."""
        if self.counts is None or not (found := set(none) & self.counts.keys()):
            return self
        counts = {value: count for value, count in self.counts.items() if value not in found}
        if not counts:
            return None
        unknown = self.unknown + sum(self.counts[value] for value in found)
        pieces = None if self.pieces is None else {v: n for v, n in self.pieces.items() if v not in found}
        low, high, whole = min(counts), max(counts), all(value == round(value) for value in counts)
        return replace(self, counts=counts, low=low, high=high, whole=whole, pieces=pieces, unknown=unknown)


@dataclass(frozen=True)
class Surveyed:
    """A case's facts; a text in place of a mask's says why it cannot be used."""

    case: Case
    image: ImageFacts
    mask: MaskFacts | str | None


def survey_cases(
    cases: Sequence[Case], done: Callable[[], None] | None = None, wanted: Sequence[str] | None = None
) -> tuple[list[Surveyed], list[tuple[Case, str]]]:
    """Look into every image's header and every mask's voxels, in parallel; `done` is called after each case.

    Args:
        wanted: names of classes, of which masks that are drawn may hold more.

    Returns:
        the cases whose image can be read, and the others with the reason: broken files are no errors.
    """
    masked = [case.case for case in cases if case.mask is not None]
    sample = set(masked[:: _step(masked)])

    def look(case: Case) -> Surveyed | tuple[Case, str]:
        try:
            image = ImageFacts(*read_header(case.image), oddities(case.image))
        except UserError as error:
            return case, reason_of(error, case.image)
        if case.mask is None:
            return Surveyed(case, image, None)
        grid = (image.shape, image.geometry) if is_drawn(case.mask) else None
        mask = _mask_facts(case.mask, case.case in sample, grid, wanted, flat=len(image.shape) == 2)
        if isinstance(mask, str) and (channels := _channels_of(case.mask)) is not None:
            found = _mask_facts(channels, case.case in sample, grid, wanted)
            if isinstance(found, MaskFacts):
                return Surveyed(replace(case, mask=channels), image, found)
        return Surveyed(case, image, mask)

    looked_at = for_each(look, cases, done)
    unreadable = [one for one in looked_at if not isinstance(one, Surveyed)]
    return [one for one in looked_at if isinstance(one, Surveyed)], unreadable


def is_stack_to_measure(case: Case, geometry: Geometry, dims: int) -> bool:
    """Whether a volume belongs to a dataset of slices: one to validate or test on (see Plan.is_stack)."""
    return case.split in ("validation", "test") and (dims, geometry.dims, geometry.unit) == (2, 3, "px")


def lowest_values(images: Sequence[Address], most: int = 8) -> list[float]:
    """The 1st percentile of some images, evenly picked: air is about -1000 in CT. Unreadable files are left out."""
    found = []
    for path in images[:: max(1, len(images) // most)][:most]:
        try:
            values = read_scan(path).array
        except UserError:
            continue  # reported by `ucseg check`; this is only a guess of the modality
        found.append(float(np.percentile(values[np.isfinite(values)], 1)) if np.isfinite(values).any() else 0.0)
    return found


def reason_of(error: UserError, address: Address) -> str:
    """An error's sentence without the file name that leads it, for lists that show the file beside it."""
    return str(error).removeprefix(f"{address}: ")


def is_outline(foreground: Array, smallest: int = SMALLEST_OUTLINE) -> bool:
    """Whether a 2D mask (H x W bool) is a closed line, at most ten pixels thick, around as much area again.

    Vessels are thin too and cross each other. So each connected line must be around one region for the most part.

    Args:
        smallest: lines that are shorter and narrower than so many pixels do not count.
    """
    area = int(foreground.sum())
    if area == 0 or area > 0.25 * foreground.size:
        return False
    rows, columns = scipy.ndimage.find_objects(foreground.astype(np.uint8))[0]
    cut = np.pad(foreground[rows, columns], 1)
    inside = scipy.ndimage.binary_fill_holes(cut) & ~cut
    if int(inside.sum()) < area:
        return False
    regions, _ = scipy.ndimage.label(inside)
    lines, _ = scipy.ndimage.label(cut, np.ones((3, 3)))
    extents = [max(side.stop - side.start for side in box) for box in scipy.ndimage.find_objects(lines)]
    largest: dict[int, int] = {}
    for number, box in enumerate(scipy.ndimage.find_objects(regions), start=1):
        region = regions[box] == number
        row, column = np.argwhere(region)[0] + (box[0].start, box[1].start)
        line = int(lines[row - 1, column])  # the one around it, even if it has other lines inside
        if extents[line - 1] >= smallest:
            largest[line] = max(largest.get(line, 0), int(region.sum()))
    if sum(largest.values()) < _OUTLINE_SHARE * int(inside.sum()):
        return False
    return bool(scipy.ndimage.distance_transform_edt(cut).max() <= 5)


def are_outlines(masks: Sequence[Address]) -> bool:
    """Whether nearly all of a sample of masks are outlines. Only plain images can be."""
    plain = [mask for mask in masks if mask.plain]
    return nearly_all_outlines(for_each(lambda mask: _mask_facts(mask, True), plain[:: _step(plain)]))


def small_rings(masks: Iterable[MaskFacts | str | None]) -> bool:
    """Whether most masks would be outlines if they were not so small, of those that were looked at."""
    looked_at = [one for one in masks if isinstance(one, MaskFacts) and one.outline is not None]
    return 2 * sum(one.small_ring for one in looked_at) > len(looked_at)


def nearly_all_outlines(masks: Iterable[MaskFacts | str | None]) -> bool:
    """Whether four of five masks are outlines, of those that were looked at and are not empty."""
    looked_at = [one.outline for one in masks if isinstance(one, MaskFacts) and one.outline is not None]
    return bool(looked_at) and sum(looked_at) >= _OUTLINE_SHARE * len(looked_at)


def outlines_noted(masks: Collection[MaskFacts], notes: list[str]) -> bool:
    """Whether masks are outlines, to be filled; what a user should know about it goes to `notes`."""
    lines = nearly_all_outlines(masks)
    if lines:
        notes.append("masks are thin closed outlines (--no-fill-outlines keeps the lines).")
    elif small_rings(masks):
        notes.append("masks are small rings, which keep their holes; if they are outlines, give --fill-outlines.")
    return lines


def _step(masks: Sequence[object]) -> int:
    """Of so many masks, one is looked at for outlines."""
    return max(1, len(masks) // _OUTLINE_SAMPLE)


def _mask_facts(
    address: Address,
    closely: bool,
    grid: tuple[tuple[int, ...], Geometry] | None = None,
    wanted: Sequence[str] | None = None,
    flat: bool = False,
) -> MaskFacts | str:
    try:
        scan = read_mask(address, grid, wanted)
        values = only_channel(scan)
        names = segment_names(address)
    except UserError as error:
        return reason_of(error, address)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return "the mask holds NaN or infinite values; export it again."
    whole = True
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        whole = bool(np.abs(values - rounded).max() <= 1e-3)
        values = rounded if whole else values
    found, counts = _distinct(values)
    outline, small_ring = None, False
    slice_ = values[..., 0] if flat and values.ndim == 3 and values.shape[2] == 1 else values  # ITK-SNAP's of a PNG
    if closely and slice_.ndim == 2 and len(found) > 1:
        foreground = slice_ > (found[0] + found[-1]) / 2
        outline = is_outline(foreground)
        small_ring = not outline and is_outline(foreground, 0)
    return MaskFacts(
        mask=address,
        shape=values.shape,
        geometry=scan.geometry,
        counts={float(v): int(n) for v, n in zip(found, counts, strict=True)} if len(found) <= MANY else None,
        low=float(found[0]),
        high=float(found[-1]),
        whole=whole,
        lossy=is_lossy(address),
        outline=outline,
        small_ring=small_ring,
        names=names,
        odd=oddities(address, mask=True),
        pieces=_pieces(values, found) if whole and closely and not is_lossy(address) else None,
    )


def _channels_of(mask: Address) -> Address | None:
    """The address of a mask's channels, one a class, where it is a file with a fourth axis."""
    try:
        read_header(mask)
    except UserError as error:
        if error.code == "scan-axes" and mask.format == "nifti" and not mask.several:
            return Address.of(mask.path.with_name(f"{mask.name}#channels"))
    return None


def _pieces(values: Array, found: Array) -> dict[int, int] | None:
    """The pieces are only counted where a mask holds more values than most classes have."""
    if len(found) <= _FEW_VALUES:
        return {int(value): 1 for value in found if value != 0}
    return pieces_of(values) if len(found) <= MOST_OBJECTS else None


def _distinct(values: Array) -> tuple[Array, Array]:
    """Sorted distinct values and their numbers; counting beats sorting for bytes."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        found = np.flatnonzero(counts)
        return found, counts[found]
    return np.unique(values, return_counts=True)
