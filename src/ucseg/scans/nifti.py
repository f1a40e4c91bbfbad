"""NIfTI-1 and -2 (one file or a .hdr/.img pair), MGH and MINC, by nibabel: any affine and byte order, scaled integers.

MINC's world is RAS, as NIfTI's, and its arrays often run z, y, x: the affine says so. Its masks become NIfTI.
"""

# nibabel is only partly annotated:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import html
import importlib.util
import io
import math
import re
import sys
import zlib
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError, MGHHeader, MGHImage
from nibabel.minc1 import Minc1Image, MincError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

_BROKEN = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, MGHError, MincError)
_SAME_STEPS = 0.01
"""Headers round: to three digits, in files that were seen."""
_AFTER_VOXELS = 2**24
"""Bytes that may follow the voxels: MGH files have their history there."""
_PIECE = 2**16
_KEPT = 1024
"""Headers of a few KiB each."""
_TABLE_CODES = (0, 30)
"""Of header extensions: without a kind, and those of Caret."""
_LABEL = re.compile(r'<Label\s[^>]*?\bKey="(\d{1,5})"[^>]*>(?:\s*<!\[CDATA\[(.*?)\]\]>|([^<]*))\s*</Label>', re.DOTALL)
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


def read(address: Address) -> Scan:
    """C x X x Y x Z. A file of rank 2 is one slice; a fourth axis of length one is dropped.

    C is 1, or the length of the fourth axis where the address ends in #channels.
    """
    image = _load(address.file)
    shape, channels = _shape(address, image)
    refusals.check_size(address, address.said, shape, channels)
    try:
        if address.file.name.lower().endswith((".gz", ".mgz", ".zst")):
            voxels = _voxels(image.dataobj, _unpacked(address.file, image, math.prod(shape) * channels))
        else:
            voxels = image.dataobj
        array = np.asanyarray(voxels)
        array = array.astype(np.float32) if isinstance(image, Minc1Image) else array  # scaled, in twice the width
    except _BROKEN as error:
        raise refusals.damaged(address.path, error) from error
    if array.dtype.kind not in "biuf":
        raise refusals.values(address, image.get_data_dtype())
    array = np.moveaxis(array, 3, 0) if address.part else array[None]
    array = np.ascontiguousarray(native(array)).reshape(channels, *shape)
    geometry = _geometry(image, address.said.geometry)
    # What is kept for the next reading is not the caller's to change.
    own = replace(geometry, affine=geometry.affine.copy())
    return Scan(array, own, address.path, _one_file(image.header.copy()))


def _unpacked(path: Path, image: Any, voxels: int) -> bytes:
    """The whole stream, which checks its checksum; reading up to the last voxel does not.

    Raises:
        UserError: it holds much more than its header says, which could fill any memory.
    """
    expected = voxels * int(image.get_data_dtype().itemsize) + int(image.dataobj.offset)
    with ImageOpener(str(path)) as stream:
        unpacked = stream.read(expected)
        # What follows is thrown away, piece by piece: room for all that may follow is more than most scans take.
        after = iter(lambda: len(stream.read(_PIECE)), 0)
        if any(so_far > _AFTER_VOXELS for so_far in accumulate(after)):
            raise refusals.damaged(path, "it holds more bytes than its header says")
    return unpacked


def _voxels(stored: Any, unpacked: bytes) -> Any:
    """The voxels of a file that was unpacked, as its header stores them."""
    spec = (stored.shape, stored.dtype, stored.offset, stored.slope, stored.inter)
    return type(stored)(io.BytesIO(unpacked), spec)


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    image = _load(address.file)
    shape, channels = _shape(address, image)
    return shape, _geometry(image, address.said.geometry), channels


def segment_names(path: Path) -> dict[int, str]:
    """Value -> name, of the table of labels that TotalSegmentator and Connectome Workbench put into the header."""
    names: dict[int, str] = {}
    for extension in getattr(_load(path).header, "extensions", []):
        content = extension.get_content()
        if extension.get_code() in _TABLE_CODES and isinstance(content, bytes) and b"<LabelTable" in content:
            for value, quoted, plain in _LABEL.findall(content.decode("utf-8", "replace")):
                names[int(value)] = html.unescape(plain).strip() if plain else quoted.strip()
    return {value: name for value, name in names.items() if value and name and name != "???"}


def write(array: Array, like: Scan, part: Path) -> None:
    """Write X x Y x Z with the header of `like` if that is of the same format, else with its affine alone."""
    mgh = part.suffix in (".mgz", ".mgh")
    affine = np.eye(4)  # of the format's own header, where `like` brings none
    dims = like.geometry.dims
    affine[:dims, :dims], affine[:dims, 3] = like.geometry.affine[:dims, :dims], like.geometry.affine[:dims, dims]
    nib.save(_mgh(array, like.header, affine) if mgh else _nifti(array, like.header, affine), part)


def _nifti(array: Array, header: Any, affine: Array) -> Any:
    shape = (*array.shape, 1)[:3]
    own = isinstance(header, nib.Nifti1Header)
    if own:
        header = header.copy()
        shape = shape[: header["dim"][0]] if header["dim"][0] < 3 else shape
    else:
        header = nib.Nifti1Header()
        header.set_xyzt_units("mm")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(shape)
    header.set_intent("none")
    header.extensions.clear()  # they belong to the image, and may name the patient
    header["cal_min"] = header["cal_max"] = 0  # the display window of the image
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # Without an affine nibabel leaves sform, qform and their codes as they stand in the header.
    image = kind(array.reshape(shape), None if own else affine, header)
    if not own:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
    return image


def _mgh(array: Array, header: Any, affine: Array) -> Any:
    own = isinstance(header, MGHHeader)
    made = header.copy() if own else MGHHeader()
    if array.dtype not in (np.uint8, np.int16, np.int32, np.float32):
        array = array.astype(np.int32)
    shape = (*array.shape, 1)[:3]
    made.set_data_dtype(array.dtype)
    made.set_data_shape(shape)
    image = MGHImage(array.reshape(shape), None if own else affine, made)
    if own:  # as they stand in the file: an affine would go through float32 once more
        for name in ("goodRASFlag", "delta", "Mdc", "Pxyz_c"):
            image.header[name] = header[name]
    return image


def _one_file(header: Any) -> Any:
    """The header of a .hdr/.img pair as that of one file: masks are written so."""
    if header.__class__ in (nib.nifti1.Nifti1PairHeader, nib.nifti2.Nifti2PairHeader):
        kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
        header = kind(header.binaryblock, header.endianness, check=False)
        header["magic"] = kind.single_magic
        header["vox_offset"] = kind.single_vox_offset
    return header


def _load(path: Path) -> Any:
    """The header of a file, and where its voxels lie. Those of the last files are kept: one scan is asked for often."""
    if path.suffix.lower() in (".hdr", ".img"):
        return _opened(path)
    try:
        state = path.stat()
    except OSError as error:
        raise refusals.damaged(path, error) from error
    return _kept(path, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=_KEPT)
def _kept(path: Path, state: tuple[int, ...]) -> Any:
    """`state`: a file that was written again has another one."""
    return _opened(path)


def _opened(path: Path) -> Any:
    if path.suffix.lower() in (".hdr", ".img"):
        pair = [path.with_suffix(ending) for ending in (".hdr", ".img", ".HDR", ".IMG")]
        if sum(file.is_file() for file in {p.resolve() for p in pair}) < 2:
            raise UserError(
                "nifti-pair", f"{path}: .hdr and .img belong together and one is missing; put both into one folder."
            )
    if path.suffix.lower() == ".zst" and not _has_zstd():
        raise UserError("nifti-zstd", f"{path}: nothing here unpacks Zstandard; run pip install 'ucseg[zstd]'.")
    try:
        image = nib.load(path, mmap=False)  # mapped voxels would crash if the file changed under them
    except ImageFileError as error:
        fix = "give it the right ending (.nii.gz if compressed, .nii if not), or export it again"
        raise refusals.other_content(path, "NIfTI", fix) from error
    except _BROKEN as error:
        raise refusals.damaged(path, error) from error
    except KeyError as error:  # MGH: no type of voxels has this code
        raise refusals.damaged(path, f"its header holds an unknown code, {error}") from error
    # All of NIfTI, 1 and 2, are subclasses of its pair; Analyze 7.5 does not say how the patient lies.
    if not isinstance(image, MGHImage | Minc1Image | nib.nifti1.Nifti1Pair):
        fix = "convert it with a program that knows how the scanner's axes lie"
        raise refusals.other_content(path, f"NIfTI but {type(image).__name__}", fix)
    return image


def _has_zstd() -> bool:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # there is no package "backports" at all
        return False


def _shape(address: Address, image: Any) -> tuple[tuple[int, ...], int]:
    part = address.part
    shape = tuple(int(n) for n in image.shape)
    if part and len(shape) != 4:
        raise refusals.no_channel_axis(address, shape)
    if any(n != 1 for n in shape[3:]) and not part:
        raise refusals.perhaps_channels(address, address.name, shape)
    return (*shape, 1, 1)[:3], shape[3] if part else 1


@lru_cache(maxsize=_KEPT)
def _geometry(image: Any, wanted: str | None) -> Geometry:
    """Where the voxels lie. A NIfTI holds sform, qform and edges (pixdim), of which some may be missing.

    The sform counts. Where its steps are not the edges that pixdim holds, the qform, whose steps are these, counts: a
    program has left one of them out, more likely the steps. The user can say which is right.
    """
    affine = np.array(image.affine, dtype=np.float64)
    header = image.header
    if isinstance(header, MGHHeader):
        return Geometry(affine, placed=bool(header["goodRASFlag"]), columns_first=True)
    if isinstance(image, Minc1Image):
        return Geometry(affine, columns_first=True)
    # No stated unit: mm, as every viewer takes it.
    scale = np.array([[_MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)]] * 3 + [[1.0]])
    both = {"sform": header.get_sform(coded=True)[0], "qform": header.get_qform(coded=True)[0]}
    stated = {name: np.array(found, np.float64) for name, found in both.items() if found is not None and _usable(found)}
    affine = stated.get("sform", stated.get("qform", affine))
    if not _usable(affine):  # which is refused
        return Geometry(affine, columns_first=True)
    own = _steps(affine)
    edges = _edges(header, own)
    doubt = ""
    if wanted is None:
        differ = bool((np.abs(own - edges) > _SAME_STEPS * edges).any())
        set_by_hand = not np.array_equal(edges, np.ones(3))
        wanted = "pixdim" if differ and set_by_hand else "sform"
        if differ and (set_by_hand or "qform" in stated):
            taken, left = (wanted, "sform") if wanted == "pixdim" else (wanted, "pixdim")
            steps = {"sform": scale[0] * own, "pixdim": scale[0] * edges}
            doubt = f"{left} says {_words(steps[left])}, {taken} says {_words(steps[taken])}"
    chosen = stated.get(wanted, affine)
    if wanted == "pixdim":
        chosen = stated["qform"] if "qform" in stated else affine @ np.diag([*(edges / own), 1.0])
    others = [(f"the {name} of the header", scale * found) for name, found in stated.items() if found is not chosen]
    if scale[0, 0] != 1:
        others += [(f"the {name} of the header without its unit", found) for name, found in stated.items()]
    others = [(name, found) for name, found in others if not np.array_equal(found, scale * chosen)]
    return Geometry(scale * chosen, placed=bool(stated), others=tuple(others), doubt=doubt, columns_first=True)


def _usable(affine: Array) -> bool:
    """Some programs mark a part of the header as set, and leave zeros in it."""
    return bool(np.isfinite(affine).all() and np.linalg.det(affine) != 0)


def _edges(header: Any, steps: Array) -> Array:
    """What pixdim says of each axis; where it says nothing, the steps of the affine."""
    edges = np.abs(np.array(header["pixdim"][1:4], np.float64))
    edges[int(header["dim"][0]) :] = 0  # axes that the file does not have
    return np.where(np.isfinite(edges) & (edges > 0), edges, steps)


def _steps(affine: Array) -> Array:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _words(steps: Array) -> str:
    return " x ".join(f"{step:.3g}" for step in steps) + " mm"
