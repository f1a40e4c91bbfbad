"""HDF5 and NumPy files: bare arrays by name, as the semi-supervised literature distributes them (`image`, `label`).

The geometry is `spacing`, in mm along the array's axes: an array of the file or, in HDF5, an attribute of the dataset,
the file or a dataset of the same shape. Without one the unit is the pixel. H x W x 3 bytes are a colour image.

MedSAM and its challenges share files with `imgs`, `gts` and `spacing`. Their arrays run z, y, x, and their spacing is
ITK's, x, y, z: it is turned.
"""

# h5py is not annotated:
# mypy: disable-error-code="attr-defined, no-untyped-call"

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.npy import open_npy, read_npy, read_npy_header
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

IMAGE_NAMES = ("image", "images", "img", "imgs", "data", "volume", "raw", "x")
MASK_NAMES = ("label", "labels", "mask", "masks", "seg", "segs", "segmentation", "gt", "gts", "y")
_XYZ_NAMES = ("imgs", "gts", "segs")
"""Arrays of files whose `spacing` is x, y, z where the array runs z, y, x."""
_SPACING_NAMES = ("spacing", "voxel_size", "voxelsize", "pixdim", "element_size_um")
_NUMBERS = "biufc"
_BAD_TEXT = (SyntaxError, tokenize.TokenError)  # headers of .npy are Python
_BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error, *_BAD_TEXT)


@dataclass(frozen=True)
class _Entry:
    """An array of a file before its voxels are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spacing: tuple[float, ...] | None
    data: Any  # to be indexed with [...]
    lost: str | None = None  # of a name that leads nowhere: what is wrong, and what to do


def read(address: Address, first: tuple[str, ...] = IMAGE_NAMES) -> Scan:
    """C x S; the part that the address names, else the image, else the only array."""
    with _entries(address) as entries:
        entry = _chosen(address, entries, first)
        shape, channels = _shape(address, entry)
        refusals.check_size(address, address.said, shape, channels)
        geometry = _geometry(address, entry, len(shape))
        array = np.array(entry.data[...])  # a copy: mapped voxels would crash if the file changed under them
    if array.dtype == np.float16 or array.dtype.itemsize > 8:
        array = array.astype(np.float32)
    array = native(array)
    array = np.moveaxis(array[..., :3], -1, 0) if channels == 3 else array[None]
    return Scan(np.ascontiguousarray(array).reshape(channels, *shape), geometry, address.path)


def read_mask(address: Address) -> Scan:
    """As `read`, but without a named part the mask comes first."""
    return read(address, MASK_NAMES)


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    with _entries(address) as entries:
        entry = _chosen(address, entries, IMAGE_NAMES)
        shape, channels = _shape(address, entry)
        return shape, _geometry(address, entry, len(shape)), channels


def parts(address: Address) -> tuple[str | None, str | None]:
    """Names of the image and of the mask in a file; None where it has none (a lone array counts as the image)."""
    with _entries(address) as entries:
        image, mask = _named(entries, IMAGE_NAMES), _named(entries, MASK_NAMES)
        if image is None and mask is None:
            image = _lone(entries)
            if image is None:
                raise _unclear(address, entries, IMAGE_NAMES)
        return image, mask


def files_of(file: Path) -> list[Path]:
    """The files that hold the voxels of an HDF5 file: itself, and those to which its arrays lead, as far as there."""
    found = [file]
    if file.suffix.lower() in (".npy", ".npz"):
        return found
    with _entries(Address(file, (file,))) as entries:
        for one in entries.values():
            if one.lost is None:
                found += [Path(one.data.file.filename), *(path for path, _ in _sources(one.data))]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def write(array: Array, like: Scan, part: Path) -> None:
    """Write S: as the array of a .npy file, or as `label` (masks) or `map` (floats) with its spacing."""
    name = "map" if array.dtype.kind == "f" else "label"
    spacing = like.geometry.spacing if like.geometry.unit == "mm" else None
    if part.suffix == ".npy":
        np.save(part, array)
    elif part.suffix == ".npz":
        more = {} if spacing is None else {"spacing": np.array(spacing)}
        np.savez_compressed(part, **{name: array}, **more)  # type: ignore[arg-type]
    else:
        import h5py

        with h5py.File(part, "w") as file:
            written = file.create_dataset(name, data=array, compression="gzip")
            if spacing is not None:
                written.attrs["spacing"] = spacing


@contextmanager
def _entries(address: Address) -> Iterator[dict[str, _Entry]]:
    """The arrays of numbers in a file, by name, open for reading."""
    file = address.file
    try:
        if file.suffix.lower() == ".npy":
            yield {"array": _npy_entry(file)}
        elif file.suffix.lower() == ".npz":
            with zipfile.ZipFile(file) as archive:
                yield _npz_entries(archive)
        else:
            import h5py

            with h5py.File(file, "r") as found:
                yield _hdf5_entries(found)
    except _BROKEN as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise refusals.values(address, "object") from error
        raise refusals.damaged(address.path, error) from error


def _npy_entry(file: Path) -> _Entry:
    with file.open("rb") as opened:
        zipped = opened.read(4) == b"PK\x03\x04"
    if zipped:
        raise refusals.other_content(file, ".npy but .npz", "give it that ending")
    array = open_npy(file)
    if array.dtype.kind not in _NUMBERS or array.ndim < 2:
        raise UserError(
            "array-axes", f"{file}: holds {array.ndim}D {array.dtype}; save numbers along two or three axes."
        )
    return _Entry(array.shape, array.dtype, None, array)


class _Member:
    """An array of an .npz file, read only when needed: an image is read without its label."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._name = archive, name
        with archive.open(name) as file:
            self.shape, _, self.dtype = read_npy_header(file)

    def __getitem__(self, key: Any) -> Array:
        with self._archive.open(self._name) as file:
            array: Array = read_npy(file)[key]
            return array


def _npz_entries(archive: zipfile.ZipFile) -> dict[str, _Entry]:
    members = {name.removesuffix(".npy"): _Member(archive, name) for name in archive.namelist()}
    stated = next((members.pop(name) for name in _SPACING_NAMES if name in members), None)
    spacing = None if stated is None else tuple(float(v) for v in np.ravel(stated[...]))
    return {
        name: _Entry(member.shape, member.dtype, None if spacing is None else _along_axes(name, spacing), member)
        for name, member in members.items()
        if member.dtype.kind in _NUMBERS and len(member.shape) > 1
    }


def _hdf5_entries(file: Any) -> dict[str, _Entry]:
    found: dict[str, Any] = {}
    lost: dict[str, str] = {}
    _walk(file["/"], "", (file["/"],), found, lost)
    lengths = {_last(name): item for name, item in found.items() if item.ndim == 1 and item.dtype.kind in "iuf"}
    shared = next((tuple(map(float, lengths[name][...])) for name in _SPACING_NAMES if name in lengths), None)
    arrays = {name: item for name, item in found.items() if item.ndim > 1}
    own = {name: _stated(item.attrs) for name, item in arrays.items()}
    entries = {}
    for name, item in arrays.items():
        same = (own[other] for other in arrays if arrays[other].shape == item.shape)
        spacing = own[name] or _stated(file.attrs) or next((stated for stated in same if stated), None)
        if spacing is None and shared is not None and len(shared) <= item.ndim:
            spacing = _along_axes(name, shared)
        gone = next((f"{path}{part}" for path, part in _sources(item) if not _holds(path, part)), None)
        entries[name] = _Entry(item.shape, item.dtype, spacing, item, gone and _gone(gone))
    return entries | {name: _Entry((), np.dtype(float), None, None, why) for name, why in lost.items()}


def _gone(place: str) -> str:
    return f"lies in {place}, which is not there; copy that file too"


def _walk(group: Any, prefix: str, above: tuple[Any, ...], found: dict[str, Any], lost: dict[str, str]) -> None:
    """Every array of numbers by each of its names; names that lead nowhere, with the reason. Circles end."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        full = f"{prefix}{name}"
        try:
            item = group[name]
        except (KeyError, OSError):
            if isinstance(link, h5py.ExternalLink):
                lost[full] = _gone(f"{link.filename}#{link.path}")
            else:
                lost[full] = f"is a link to {getattr(link, 'path', '?')}, which the file does not hold; save it again"
            continue
        if isinstance(item, h5py.Group):
            if item not in above:
                _walk(item, f"{full}/", (*above, item), found, lost)
        elif isinstance(item, h5py.Dataset) and item.ndim > 0 and item.dtype.kind in _NUMBERS:
            found[full] = item


def _sources(item: Any) -> list[tuple[Path, str]]:
    """Where the voxels of an array lie, if elsewhere: files, and `#NAME` of the array there; "" for bare bytes."""
    file = Path(item.file.filename)
    found = [(file.parent / name, "") for name, *_ in item.external or ()]
    for one in item.virtual_sources() if item.is_virtual else ():
        name, part = (text.replace("%b", "0") for text in (one.file_name, one.dset_name))  # %b stands for a number
        found.append((file if name == "." else file.parent / name, f"#{part}"))
    return found


def _holds(path: Path, part: str) -> bool:
    import h5py

    if not part:
        return path.is_file()
    try:
        with h5py.File(path, "r") as file:
            return part[1:] in file and all(_holds(*source) for source in _sources(file[part[1:]]))
    except (OSError, KeyError):
        return False


def _along_axes(name: str, spacing: tuple[float, ...]) -> tuple[float, ...]:
    """The spacing that lies in a file as an array, in the order of another array's axes."""
    return spacing[::-1] if _last(name) in _XYZ_NAMES else spacing


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _stated(attributes: Any) -> tuple[float, ...] | None:
    for name in _SPACING_NAMES:
        if name in attributes:
            scale = 0.001 if name.endswith("_um") else 1.0
            return tuple(scale * float(v) for v in np.ravel(attributes[name]))
    return None


def _named(entries: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    """The array whose name, without its groups, comes first among the wanted ones."""
    known = {_last(name): name for name in reversed([*entries])}
    return next((known[name] for name in wanted if name in known), None)


def _lone(entries: Mapping[str, _Entry]) -> str | None:
    """The name of the only array, which may have several names; None if there are several arrays."""
    first = next(iter(entries), None)
    alone = len(entries) == 1 or all(one.data == entries[first].data for one in entries.values() if first)
    return first if alone else None


def _chosen(address: Address, entries: Mapping[str, _Entry], wanted: tuple[str, ...]) -> _Entry:
    name = address.part.strip("/") or _named(entries, wanted) or _lone(entries)
    if name is None:
        raise _unclear(address, entries, wanted)
    if name not in entries:
        listed = ", ".join(sorted(entries)[:6]) or "none"
        raise UserError("array-missing", f"{address}: there is no array '{name}' in the file; choose one of: {listed}.")
    if entries[name].lost is not None:
        raise UserError("array-lost", f"{address}: its array '{name}' {entries[name].lost}.")
    return entries[name]


def _unclear(address: Address, entries: Mapping[str, _Entry], wanted: tuple[str, ...]) -> UserError:
    if not entries:
        return UserError(
            "array-none", f"{address}: no array in it holds numbers with two or more axes; save image and label in it."
        )
    names = sorted(entries)
    return UserError(
        "array-unclear",
        f"{address}: none of its arrays ({', '.join(names[:6])}) is called {wanted[0]}; "
        f"name the one that is meant, as {address.name}#{names[0]}.",
    )


def _shape(address: Address, entry: _Entry) -> tuple[tuple[int, ...], int]:
    if entry.dtype.kind == "c":
        raise refusals.values(address, entry.dtype)
    shape = tuple(int(n) for n in entry.shape)
    while len(shape) > 3 and 1 in (shape[0], shape[-1]):
        shape = shape[1:] if shape[0] == 1 else shape[:-1]
    if len(shape) > 3:
        raise refusals.axes(address, shape)
    if len(shape) == 3 and shape[0] == 1:
        return shape[1:], 1
    if len(shape) == 3 and shape[2] in (3, 4) and entry.dtype == np.uint8 and min(shape[:2]) > 4:
        return shape[:2], 3
    return shape, 1


def _geometry(address: Address, entry: _Entry, dims: int) -> Geometry:
    spacing = entry.spacing
    if spacing is None:
        return Geometry(np.eye(dims + 1), "px")
    if len(spacing) != dims or not np.isfinite(spacing).all() or min(spacing) <= 0:
        raise UserError(
            "array-spacing",
            f"{address}: its spacing {list(spacing)} is not {dims} lengths in mm; correct or remove it.",
        )
    return Geometry(np.diag([*spacing, 1.0]), placed=False)
