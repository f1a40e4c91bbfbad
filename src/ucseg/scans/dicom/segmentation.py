"""DICOM segmentations as masks: their frames are laid on the grid of the image that they were drawn on.

A SEG file holds the slices in which there is something, in any order, a frame a segment. Segments are numbered, and
named by their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.dicom.image import stored_frames
from ucseg.scans.dicom.series import DicomFile, Slice, damage_of, dataset, read_file
from ucseg.scans.dicom.volume import geometry_of
from ucseg.scans.refusals import segments_overlap
from ucseg.scans.scan import LPS, Geometry, Scan
from ucseg.types import Array

_OFF_GRID = 0.1
"""How far, in voxels, a segment's pixel may lie from a voxel of the image: headers round."""


def is_segmentation(path: Path) -> bool:
    """Whether a file is a SEG; False also where it cannot be read."""
    try:
        return path.is_file() and read_file(path).is_segmentation
    except (UserError, OSError):
        return False


def segment_names(path: Path) -> dict[int, str]:
    with damage_of(path):
        return {int(one.SegmentNumber): str(one.get("SegmentLabel") or "") for one in _header(path).SegmentSequence}


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
    if not file.is_segmentation:
        raise UserError("seg-kind", f"{path}: this is not a DICOM segmentation; use it as an image.")
    if not file.slices:
        raise UserError("seg-no-place", f"{path}: the segmentation does not say where its frames lie; export it again.")
    return file


def read(path: Path, grid: tuple[tuple[int, ...], Geometry] | None = None) -> Scan:
    """1 x S uint8: segment numbers, 0 elsewhere.

    Args:
        path: of the file.
        grid: S and geometry of the image; None: the smallest grid that holds the file's own frames.

    Raises:
        UserError: segments overlap or are no binary ones, or lie on another grid than the image.
    """
    file = _placed(path)
    shape, geometry = grid or _own_grid(file.slices, file.shape)
    numbers = _segments(path, len(file.slices))
    if len(shape) != 3 or geometry.unit != "mm":
        raise UserError(
            "seg-of-plain-image",
            f"{path}: a DICOM segmentation needs a volume as its image; check that they belong together.",
        )
    frames = stored_frames(path)
    if len(frames) != len(numbers):
        raise UserError(
            "seg-frames", f"{path}: describes {len(numbers)} frames but holds {len(frames)}; export it again."
        )
    out = np.zeros(shape, np.uint8)
    into_voxels = np.linalg.inv(geometry.affine)
    for one, frame, number in zip(file.slices, frames, numbers, strict=True):
        _lay(path, out, frame, one, number, into_voxels)
    return Scan(out[None], geometry, path)


def _lay(path: Path, out: Array, frame: Array, one: Slice, number: int, into_voxels: Array) -> None:
    """Write a frame's pixels to the voxels in which they lie."""
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
    if len(places) and (places.min() < 0 or (places >= out.shape).any()):
        raise UserError(
            "seg-outside", f"{path}: some of its pixels lie outside its image; check that they belong together."
        )
    index = tuple(places.T)
    if np.logical_and(out[index] != 0, out[index] != number).any():
        raise segments_overlap(path)
    out[index] = number


def _segments(path: Path, frames: int) -> list[int]:
    header = _header(path)
    kind = str(header.get("SegmentationType"))
    if kind != "BINARY":
        raise UserError("seg-not-binary", f"{path}: its segments are {kind}, not BINARY; export binary ones.")
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    numbers = []
    with damage_of(path):
        for group in header.get("PerFrameFunctionalGroupsSequence") or []:
            found = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            numbers.append(int(found[0].ReferencedSegmentNumber) if found else 0)
    if len(numbers) != frames or not all(0 < number < 256 for number in numbers):
        raise UserError("seg-segments", f"{path}: does not say which segment each frame shows; export it again.")
    return numbers


def _own_grid(slices: Sequence[Slice], size: tuple[int, int]) -> tuple[tuple[int, ...], Geometry]:
    first = slices[0]
    places = np.array([one.position for one in slices])
    heights = places @ first.normal
    along = np.unique(np.round(heights, 3))
    step = float(np.diff(along).min()) if len(along) > 1 else first.thickness or 1.0
    count = round(float(along[-1] - along[0]) / step) + 1
    return (size[1], size[0], count), geometry_of(first, first.normal * step, places[np.argmin(heights)])


def _header(path: Path) -> Any:
    header = dataset(path)
    if not header.get("SegmentSequence"):
        raise UserError("seg-no-segment", f"{path}: the segmentation names no segment; export it again.")
    return header
