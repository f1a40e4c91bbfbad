"""DICOM segmentations as masks: their frames are laid on the grid of the image that they were drawn on.

A SEG file holds the slices in which there is something, in any order. Segments are numbered, and named by their labels.

    BINARY       a frame a segment
    LABELMAP     a frame holds the segments' numbers
    FRACTIONAL   a frame a segment, as parts of a maximum: a voxel belongs to a segment from half of it on, and to the
                 greater of two

An image without a place in the patient has a segmentation without one: it lies on the image's pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.dicom.image import stored_frames
from ucseg.scans.dicom.series import DicomFile, Slice, dataset, read_file
from ucseg.scans.dicom.volume import geometry_of
from ucseg.scans.refusals import damage_of, segments_overlap
from ucseg.scans.scan import LPS, Geometry, Scan
from ucseg.types import Array

_OFF_GRID = 0.1
"""How far, in voxels, a segment's pixel may lie from a voxel of the image: headers round."""
_SAME_HEIGHT = 1e-3
"""mm between two frames of one slice, at most."""


def is_segmentation(path: Path) -> bool:
    """Whether a file is a SEG; False also where it cannot be read."""
    try:
        return path.is_file() and read_file(path).kind == "segmentation"
    except (UserError, OSError):
        return False


def segment_names(path: Path) -> dict[int, str]:
    with damage_of(path):
        header = _header(path)
        named = {int(one.SegmentNumber): str(one.get("SegmentLabel") or "") for one in header.SegmentSequence}
        return {number: name for number, name in named.items() if number not in (0, _background(header))}


def holds_fractions(path: Path) -> bool:
    """Whether a file is a FRACTIONAL segmentation; False also where it cannot be read."""
    return is_segmentation(path) and str(dataset(path, ["SegmentationType"]).get("SegmentationType")) == "FRACTIONAL"


def referred_series(path: Path) -> str:
    """SeriesInstanceUID of the images on which a SEG was drawn; "" where it does not say."""
    return read_file(path).refers


def common_grid(paths: Sequence[Path]) -> tuple[tuple[int, ...], Geometry]:
    """The smallest grid that holds the frames of several SEG of one image; with pixels of other kinds, `read` refuses.

    Raises:
        UserError: a file cannot be read, or does not say where its frames lie.
    """
    files = [_placed(path) for path in paths]
    return _own_grid([one for file in files for one in file.slices], files[0].shape)


def _placed(path: Path) -> DicomFile:
    """A segmentation whose frames have a place."""
    file = read_file(path)
    if file.kind != "segmentation":
        raise UserError("seg-kind", f"{path}: this is no DICOM segmentation with a grid; name its image too.")
    if not file.slices:
        raise UserError("seg-no-place", f"{path}: the segmentation does not say where its frames lie; export it again.")
    return file


def read(path: Path, grid: tuple[tuple[int, ...], Geometry] | None = None) -> Scan:
    """1 x S, unsigned: segment numbers, 0 elsewhere.

    Args:
        path: of the file.
        grid: S and geometry of the image; None: the smallest grid that holds the file's own frames.

    Raises:
        UserError: segments overlap or have one number, or lie on another grid than the image.
    """
    file = read_file(path)
    if not file.slices and (grid is None or grid[1].unit == "px"):
        grid = (file.shape, Geometry(np.eye(3), "px")) if grid is None else grid
        return _on_pixels(path, file, grid)
    file = _placed(path)
    shape, geometry = grid or _own_grid(file.slices, file.shape)
    if len(shape) != 3 or geometry.unit != "mm":
        raise UserError(
            "seg-of-plain-image",
            f"{path}: this DICOM segmentation needs a volume as its image; check that they belong together.",
        )
    into_voxels = np.linalg.inv(geometry.affine)
    layers = _Layers(path, shape)
    for one, (frame, values) in zip(file.slices, _frames(path, len(file.slices)), strict=True):
        inside, places = _places(path, shape, frame, one, into_voxels)
        layers.add(tuple(places.T), values[tuple(inside.T)], frame[tuple(inside.T)])
    return Scan(layers.narrow()[None], geometry, path)


def _on_pixels(path: Path, file: DicomFile, grid: tuple[tuple[int, ...], Geometry]) -> Scan:
    """A segmentation without a place, on the rows and columns of its image."""
    shape, geometry = grid
    if shape != file.shape:
        raise UserError(
            "seg-size", f"{path}: has {file.shape} pixels, its image {shape}; check that they belong together."
        )
    layers = _Layers(path, shape)
    seen: set[int] = set()
    for frame, values in _frames(path, file.frames):
        numbers = set(np.unique(values).tolist()) - {0}
        if seen & numbers:
            raise UserError(
                "seg-film", f"{path}: it has several frames a segment, so it is of a film; save each frame as a file."
            )
        seen |= numbers
        layers.add(np.nonzero(frame), values[frame > 0], frame[frame > 0])
    return Scan(layers.narrow()[None], geometry, path)


class _Layers:
    """Segment numbers, S; where two segments meet, the greater part of the voxel counts."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.numbers = np.zeros(shape, np.uint16)
        self._parts = np.zeros(shape, np.float32)

    def add(self, index: tuple[Array, ...], numbers: Array, parts: Array) -> None:
        """Write the voxels at `index` of one frame: a number and the part of the voxel, 0.5 to 1, for each.

        Raises:
            UserError: a voxel belongs to two segments by more than half.
        """
        before = self._parts[index]
        if ((before > 0.5) & (parts > 0.5) & (self.numbers[index] != numbers)).any():
            raise segments_overlap(self.path)
        more = parts > before
        better = tuple(axis[more] for axis in index)
        self.numbers[better], self._parts[better] = numbers[more], parts[more]

    def narrow(self) -> Array:
        return self.numbers.astype(np.uint8) if self.numbers.max(initial=0) < 256 else self.numbers


def _places(path: Path, shape: tuple[int, ...], frame: Array, one: Slice, into_voxels: Array) -> tuple[Array, Array]:
    """N x 2 rows and columns of a frame's pixels that are not empty, and N x 3 voxels in which they lie."""
    steps = np.stack([np.array(one.columns) * one.spacing[1], np.array(one.rows) * one.spacing[0]], 1) * LPS[:, None]
    steps = into_voxels[:3, :3] @ steps  # voxels from row to row, from column to column
    if np.abs(np.abs(steps).max(axis=0) - 1).max() > 0.02 or np.abs(steps - np.rint(steps)).max() > 0.02:
        raise UserError(
            "seg-pixels",
            f"{path}: its pixels are not those of its image in size or direction; resample it to its image.",
        )
    start = into_voxels @ [*(np.array(one.position) * LPS), 1.0]
    if np.abs(start - np.rint(start)).max() > _OFF_GRID:
        raise UserError(
            "seg-between", f"{path}: its frames lie between the voxels of its image; resample it to its image."
        )
    inside = np.argwhere(frame != 0)
    places = np.rint(start[:3]).astype(int) + inside @ np.rint(steps).astype(int).T
    if len(places) and (places.min() < 0 or (places >= shape).any()):
        raise UserError(
            "seg-outside", f"{path}: some of its pixels lie outside its image; check that they belong together."
        )
    return inside, places


def _frames(path: Path, count: int) -> Iterator[tuple[Array, Array]]:
    """Of each frame, rows x columns: which part of a pixel is a segment's (0 where less than half), and its number."""
    header = _header(path)
    stored = stored_frames(path)
    if len(stored) != count:
        raise UserError("seg-frames", f"{path}: describes {count} frames but holds {len(stored)}; export it again.")
    kind = str(header.get("SegmentationType"))
    if kind == "LABELMAP":
        background = _background(header)
        with damage_of(path):
            known = [int(one.SegmentNumber) for one in header.SegmentSequence]
        for frame in stored:
            numbers = np.where(frame == background, 0, frame).astype(np.uint16)
            if not np.isin(numbers, [0, *known]).all():
                raise UserError(
                    "seg-segments", f"{path}: holds numbers of segments that it does not describe; export it again."
                )
            yield (numbers > 0).astype(np.float32), numbers
        return
    if kind not in ("BINARY", "FRACTIONAL"):
        raise UserError("seg-type", f"{path}: its type of segmentation '{kind}' is not known; export a binary one.")
    most = 1.0
    if kind == "FRACTIONAL":
        most = float(header.get("MaximumFractionalValue") or 0)
        if most <= 0:
            raise UserError("seg-maximum", f"{path}: does not say which fraction is the whole; export it again.")
    for frame, number in zip(stored, _numbers(path, header, count), strict=True):
        parts = frame.astype(np.float32) / most
        yield np.where(parts >= 0.5, parts, 0), np.full(frame.shape, number, np.uint16)


def _numbers(path: Path, header: Any, frames: int) -> list[int]:
    """The segment that each frame shows."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    numbers = []
    with damage_of(path):
        for group in header.get("PerFrameFunctionalGroupsSequence") or []:
            found = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            numbers.append(int(found[0].ReferencedSegmentNumber) if found else 0)
    if len(numbers) != frames or not all(0 < number < 65536 for number in numbers):
        raise UserError("seg-segments", f"{path}: does not say which segment each frame shows; export it again.")
    return numbers


def _background(header: Any) -> int:
    """The number that a LABELMAP gives to pixels of no segment."""
    return int(header.get("PixelPaddingValue") or 0)


def _own_grid(slices: Sequence[Slice], size: tuple[int, int]) -> tuple[tuple[int, ...], Geometry]:
    first = slices[0]
    places = np.array([one.position for one in slices])
    heights = places @ first.normal
    gaps = np.diff(np.sort(heights))
    gaps = gaps[gaps > _SAME_HEIGHT]
    step = float(gaps.min()) if len(gaps) else first.thickness or 1.0
    count = round(float(np.ptp(heights)) / step) + 1
    return (size[1], size[0], count), geometry_of(first, first.normal * step, places[np.argmin(heights)])


def _header(path: Path) -> Any:
    header = dataset(path)
    if not header.get("SegmentSequence"):
        raise UserError("seg-no-segment", f"{path}: the segmentation names no segment; export it again.")
    return header
