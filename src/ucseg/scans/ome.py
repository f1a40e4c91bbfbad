"""OME-TIFF and OME-Zarr (0.4 and 0.5), the formats of microscopes: the axes and the sizes of voxels are in the file.

Of a pyramid, the finest level is read. A volume is channels x slices x rows x columns, with its spacing in mm where the
file states all three. A picture of one slice is in pixels. SCAN.zarr#labels/NAME is one of the masks in an OME-Zarr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

_MM = {
    **dict.fromkeys(("µm", "μm", "um", "micrometer", "micron"), 1e-3),
    **dict.fromkeys(("mm", "millimeter"), 1.0),
    **dict.fromkeys(("nm", "nanometer"), 1e-6),
    **dict.fromkeys(("cm", "centimeter"), 10.0),
    **dict.fromkeys(("m", "meter"), 1000.0),
    **dict.fromkeys(("Å", "angstrom"), 1e-7),
}
"""Units of length, as both formats call them -> mm."""


@dataclass(frozen=True)
class _Stored:
    """An array that is not read yet.

    Attributes:
        axes: a letter for each: t, c, z, y, x, s (colours of a pixel), or another.
        edges: letter -> mm, of the axes that state it.
        load: reads the voxels.
    """

    shape: tuple[int, ...]
    axes: str
    edges: Mapping[str, float]
    load: Callable[[], Array]


def read(address: Address) -> Scan:
    """C x S; see the module's docstring."""
    with _opened(address) as stored:
        shape, geometry, channels = _header(address, stored)
        refusals.check_size(address, address.said, shape, channels)
        array = stored.load()
    if array.dtype.kind not in "iufb":
        raise refusals.values(address, array.dtype)
    wanted = [letter for letter in "cszyx" if letter in stored.axes]
    kept = [letter for letter in stored.axes if letter in wanted]
    array = array.reshape([stored.shape[stored.axes.index(letter)] for letter in kept])
    array = array.transpose([kept.index(letter) for letter in wanted]).reshape(channels, *shape)
    return Scan(native(np.ascontiguousarray(array)), geometry, address.path)


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape S, geometry and number of channels."""
    with _opened(address) as stored:
        return _header(address, stored)


def labels_of(path: Path) -> list[str]:
    """The names of the masks that an OME-Zarr holds; none where it cannot be read."""
    try:
        import zarr

        found = _about(zarr.open_group(path, mode="r", path="labels")).get("labels", [])
    except Exception:  # no library, no such group, or damaged: reading the image will say what is wrong
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def write(array: Array, like: Scan, part: Path) -> None:
    """Write S as OME-TIFF, with the spacing of `like`."""
    import tifffile

    about: dict[str, Any] = {"axes": "ZYX"[-array.ndim :]}
    if like.geometry.unit == "mm":
        for letter, edge in zip(about["axes"], like.geometry.spacing, strict=True):
            about |= {f"PhysicalSize{letter}": edge * 1000, f"PhysicalSize{letter}Unit": "µm"}
    tifffile.imwrite(part, np.ascontiguousarray(array), ome=True, metadata=about, photometric="minisblack")


def _header(address: Address, stored: _Stored) -> tuple[tuple[int, ...], Geometry, int]:
    sizes = dict(zip(stored.axes, stored.shape, strict=True))
    times = sizes.pop("t", 1)
    if times > 1:
        raise refusals.film(address, times)
    channels = sizes.pop("c", 1) * sizes.pop("s", 1)
    slices, rows, columns = sizes.pop("z", 1), sizes.pop("y", 0), sizes.pop("x", 0)
    if any(size > 1 for size in sizes.values()):
        raise refusals.axes(address, stored.shape)
    if slices == 1:
        return (rows, columns), Geometry(np.eye(3), "px"), channels
    edges = [stored.edges.get(letter, 0.0) for letter in "zyx"]
    if not all(0 < edge < float("inf") for edge in edges):
        return (slices, rows, columns), Geometry(np.eye(4), "px"), channels
    return (slices, rows, columns), Geometry(np.diag([*edges, 1.0]), placed=False), channels


@contextmanager
def _opened(address: Address) -> Iterator[_Stored]:
    opened = _opened_zarr if address.file.is_dir() else _opened_tiff
    with refusals.damage_of(address.file), opened(address) as stored:
        yield stored


@contextmanager
def _opened_tiff(address: Address) -> Iterator[_Stored]:
    import tifffile

    with tifffile.TiffFile(address.file) as file:
        if not file.is_ome or not file.series:
            raise refusals.other_content(address.file, "OME-TIFF", "rename it if it is another TIFF")
        series = file.series[0]
        if any(page is None for page in series.pages):  # the library would give zeros for them
            raise UserError(
                "ome-pages",
                f"{address}: names pages in files that are not there; copy all its files, or save it as one.",
            )
        yield _Stored(
            series.shape, series.axes.lower(), _edges(file.ome_metadata or ""), lambda: stored_pages(address, series)
        )


def stored_pages(address: Address, series: Any) -> Array:
    """The pages of a TIFF as one array."""
    try:
        array: Array = series.asarray()
    except (ValueError, ImportError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        raise UserError(
            "ome-needs-library", f"{address}: how it is stored needs a library; pip install 'ucseg[ome]'."
        ) from None
    return array


def _edges(text: str) -> dict[str, float]:
    """What OME-XML says of the first image: edges of a voxel in mm."""
    pixels = next((one for one in ElementTree.fromstring(text).iter() if one.tag.endswith("}Pixels")), None)
    found = {}
    for letter in "XYZ":
        size = None if pixels is None else pixels.get(f"PhysicalSize{letter}")
        unit = _MM.get("µm" if pixels is None else pixels.get(f"PhysicalSize{letter}Unit", "µm"))
        if size is not None and unit is not None:
            found[letter.lower()] = float(size) * unit
    return found


@contextmanager
def _opened_zarr(address: Address) -> Iterator[_Stored]:
    try:
        import zarr
    except ImportError:
        raise UserError(
            "ome-needs-library", f"{address}: OME-Zarr needs a library; pip install 'ucseg[ome]'."
        ) from None

    group = zarr.open_group(address.file, mode="r", path=address.part)
    scales = _about(group).get("multiscales")
    if not scales:
        raise refusals.other_content(address.path, "an image of OME-Zarr 0.4 or 0.5", "name the folder of one image")
    first = scales[0]
    finest = first["datasets"][0]
    array = group[finest["path"]]
    axes = [one if isinstance(one, dict) else {"name": str(one)} for one in first.get("axes", [])]
    if len(axes) != array.ndim:
        raise refusals.other_content(
            address.path, "OME-Zarr with a name for each axis", "convert it to version 0.4 or 0.5"
        )
    factors = np.ones(array.ndim)
    for transform in (*first.get("coordinateTransformations", ()), *finest.get("coordinateTransformations", ())):
        if transform.get("type") == "scale":
            factors *= np.asarray(transform["scale"], float)
    units = [_MM.get(str(one.get("unit", ""))) for one in axes]
    letters = "".join(_letter(one) for one in axes)
    edges = {
        letter: float(factor) * unit
        for letter, factor, unit in zip(letters, factors, units, strict=True)
        if unit is not None
    }

    def load() -> Array:
        _refuse_cut_pieces(address.file / address.part / finest["path"], array)
        return np.asarray(array[...])

    yield _Stored(tuple(array.shape), letters, edges, load)


def _refuse_cut_pieces(folder: Path, array: Any) -> None:
    """Of a Blosc file that is cut short, the library reads beyond its end, and gives what lies there in memory."""
    if not array.compressors or "blosc" not in type(array.compressors[-1]).__name__.lower():
        return
    for file in files_of(folder):
        if file.name.startswith(".z") or file.name == "zarr.json":
            continue
        with file.open("rb") as piece:
            stated = int.from_bytes(piece.read(16)[12:], "little")
        if stated > file.stat().st_size:
            raise refusals.damaged(file, f"{file.stat().st_size} bytes, its head says {stated}")


def _letter(axis: Mapping[str, Any]) -> str:
    kinds = {"time": "t", "channel": "c"}
    return kinds.get(str(axis.get("type")), str(axis.get("name", "?"))[:1].lower() or "?")


def _about(group: Any) -> Mapping[str, Any]:
    """What a group says of itself; from version 0.5 on it lies under "ome"."""
    found: dict[str, Any] = dict(group.attrs)
    newer: Mapping[str, Any] = found.get("ome", found)
    return newer


def files_of(path: Path) -> Sequence[Path]:
    """All files of an OME-Zarr, in a fixed order."""
    return sorted(file for file in path.rglob("*") if file.is_file())
