"""PNG, JPEG, TIFF, GIF, BMP and PGM: images without a geometry, in pixels. Read by pillow, 16-bit colour of PNG by
SimpleITK, and TIFF that pillow does not read right by tifffile (`other_tiff`).

A TIFF of several grey pages of one size is a stack of slices: pages x rows x columns. As nnU-Net has it, CASE.json
beside CASE.tif or CASE_0000.tif may hold its spacing in mm, in the order of these axes. Stacks of ImageJ say their
spacing and their channels themselves; one of several times is refused.

An image is read as viewers show it: turned by its orientation tag, and inverted where white is zero. Of a mask the
stored numbers count, but it is turned as well, so that both lie alike. FILE#stored leaves the pixels unturned.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ucseg.errors import UserError
from ucseg.scans import imagej, ome, other_tiff, picture_tags, refusals
from ucseg.scans.address import Address
from ucseg.scans.alpha import lies_in_alpha, mask_in_alpha
from ucseg.scans.palette import shows_colours_of
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

TURNED, WHITE_IS_ZERO, ALPHA, PALETTE = "turned", "white-is-zero", "alpha", "palette"
"""How a file may show something else than it stores; see `oddities`."""

# What pillow raises on damaged files of these formats (broken PNG chunks are a SyntaxError, a page of TIFF without a
# size is a TypeError).
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, IndexError, TypeError, KeyError, zlib.error, struct.error)
_FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM")
_NAMES = "PNG, JPEG, TIFF, GIF, BMP or PGM"
_EIGHT_BIT_MODES = ("LA", "RGB", "RGBA", "RGBX")
_GREY_PAGES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "F")
_GREY_MODES = (*_GREY_PAGES, "LA", "La")
_ALPHA_MODES = ("LA", "RGBA")
_WIDTH, _HEIGHT = 256, 257
_PARTS_OF_BYTE = {";2": 85, ";4": 17}
"""Grey levels of 2 and 4 bits are spread over a byte when they are read: by this factor."""


def read(address: Address, mask: bool = False) -> Scan:
    """C x H x W: grey C = 1, colour C = 3. Alpha is dropped, a palette resolved, a 1-bit image is 0 and 1."""
    path = address.file
    if other_tiff.holds(path):
        return _other(address, mask)
    with opened(path) as image:
        if _says_ome(image):
            return ome.read(address)
        pages, count, channels = [], _pages(path, image), imagej.channels_of(path, image)
        refusals.check_size(address, address.said, (count, image.height, image.width), len(image.getbands()))
        for page in range(count):
            image.seek(page)
            pages.append(native(_pixels(path, image, mask, stored=bool(address.part))))
    array = np.ascontiguousarray(np.moveaxis(pages[0], -1, 0))
    if len(pages) > 1:
        if any(page.shape[-1] > 1 for page in pages):
            raise refusals.no_stack(path, len(pages))
        array = _as_stack(np.stack([page[..., 0] for page in pages]), channels)
    return Scan(array, _geometry(path, array.ndim - 1), path)


def _other(address: Address, mask: bool) -> Scan:
    path, pages = address.file, other_tiff.read(address, mask)
    array = pages[0] if len(pages) == 1 else _as_stack(pages[:, 0], _channels_of_other(path, len(pages)))
    return Scan(np.ascontiguousarray(array), _geometry(path, array.ndim - 1), path)


def _channels_of_other(path: Path, pages: int) -> int:
    """How many pages are the channels of one slice, as ImageJ says it."""
    try:
        with opened(path) as image:
            return imagej.channels_of(path, image) if pages > 1 else 1
    except UserError as error:
        if "scan-content" in error.codes or "scan-damaged" in error.codes:
            return 1  # pillow does not read it, and ImageJ has not written it
        raise


def _as_stack(pages: Array, channels: int) -> Array:
    """Pages x H x W -> C x slices x H x W, or C x H x W of one slice: ImageJ keeps channels one after the other."""
    array = np.moveaxis(pages.reshape(-1, channels, *pages.shape[1:]), 1, 0)
    return np.ascontiguousarray(array[:, 0] if len(pages) == channels else array)


def read_mask(address: Address) -> Scan:
    """As `read`, but numbers count as they are stored: indices of a palette, and 0 where white is zero.

    A mask that is of one colour everywhere and lies in the alpha channel is read from there. Where the user says what
    colours mean, those of an indexed picture count, if one of them but black is among them.
    """
    if other_tiff.holds(address.file):
        return _other(address, mask=True)
    with opened(address.file) as image:
        shown = shows_colours_of(image, address.said.palette)
    return read(address, mask=not shown)


def oddities(address: Address, mask: bool) -> frozenset[str]:
    """How an image or a mask shows something else than it stores; empty where it does not, or cannot be read."""
    found = set()
    try:
        if other_tiff.holds(address.file):
            turn, white_is_zero, in_alpha = other_tiff.shown(address, mask)
            return frozenset([TURNED] * (turn != 1) + [WHITE_IS_ZERO] * white_is_zero + [ALPHA] * in_alpha)
        with opened(address.file) as image:
            if picture_tags.orientation_of(address.file, image) != 1 and not address.part:
                found.add(TURNED)
            if image.format == "TIFF" and picture_tags.photometric(image) == 0:
                found.add(WHITE_IS_ZERO)
            if mask and image.mode in ("P", "PA") and _grey_palette(image):
                used = np.unique(np.asarray(image.getchannel(0)))
                greys = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)[used, 0].astype(int)
                found |= {PALETTE} if (np.diff(greys) < 0).any() else set()
            if mask and image.mode in _ALPHA_MODES and lies_in_alpha(np.asarray(image.convert("RGBA"))):
                found.add(ALPHA)
    except (UserError, IndexError):
        return frozenset()  # reading it will report what is wrong
    return frozenset(found)


def spacing_file(path: Path) -> Path | None:
    """CASE.json beside a TIFF, where there is one."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    names = (re.sub(r"_\d{4}$", "", path.stem), path.stem)
    return next((file for name in names if (file := path.with_name(f"{name}.json")).is_file()), None)


def _geometry(path: Path, dims: int) -> Geometry:
    """In px, or of a stack with CASE.json in mm."""
    file = spacing_file(path) if dims == 3 else None
    stated: object = None
    if dims == 3 and file is None:
        try:
            with opened(path) as image:
                stated = imagej.spacing_of(image)
        except UserError:
            stated = None  # pillow does not read it, and ImageJ has not written it
    elif file is not None:
        stated = _stated(file)
    if stated is None:
        return Geometry(np.eye(dims + 1), "px")
    edges = [float(v) for v in stated if isinstance(v, int | float)] if isinstance(stated, list | tuple) else []
    if len(edges) != dims or not all(0 < edge < float("inf") for edge in edges):
        raise UserError(
            "stack-spacing", f"{file}: its spacing {stated} is not {dims} lengths in mm; correct or remove it."
        )
    return Geometry(np.diag([*edges, 1.0]), placed=False)


def _says_ome(image: Image.Image) -> bool:
    """Whether a TIFF of several pages has OME's words, under any name: they say which pages are slices."""
    if image.format != "TIFF" or getattr(image, "n_frames", 1) == 1:
        return False
    description = image.tag_v2.get(imagej.DESCRIPTION)  # type: ignore[attr-defined]
    return isinstance(description, str) and "<OME " in description[:4096]


def _stated(file: Path) -> object:
    """What a JSON file says of a spacing; None where it is about something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refusals.damaged(file, error) from error
    return found.get("spacing") if isinstance(found, dict) else None


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of several pages; False also where it cannot be read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        return len(read_header(Address.of(path))[0]) == 3
    except UserError:
        return False


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape, identity geometry in px, and channels."""
    path = address.file
    if other_tiff.holds(path):
        size, pages, channels = other_tiff.read_header(address)
        each = _channels_of_other(path, pages)
        shape = size if pages == each else (pages // each, *size)
        return shape, _geometry(path, len(shape)), channels * each
    with opened(path) as image:
        if _says_ome(image):
            return ome.read_header(address)
        pages, turned = _pages(path, image), picture_tags.orientation_of(path, image) > 4 and not address.part
        grey = _grey_palette(image) if image.mode in ("P", "PA") else image.mode in _GREY_MODES
        size = image.height, image.width
        if image.format == "TIFF":  # in versions of pillow its size is turned already, or not yet
            size = image.tag_v2[_HEIGHT], image.tag_v2[_WIDTH]  # type: ignore[attr-defined]
        size = size[::-1] if turned else size
        channels = imagej.channels_of(path, image)
        shape = size if pages == channels else (pages // channels, *size)
        return shape, _geometry(path, len(shape)), channels if grey or pages > 1 else 3


def write(array: Array, like: Scan, part: Path) -> None:
    """Write H x W, or a stack of them: uint8 or uint16 as PNG or TIFF, float32 as TIFF. No geometry is written."""
    pages = [Image.fromarray(np.ascontiguousarray(page)) for page in (array if array.ndim == 3 else [array])]
    more = {"save_all": True, "append_images": pages[1:]} if pages[1:] else {}
    pages[0].save(part, format="PNG" if part.suffix == ".png" else "TIFF", **more)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    try:
        # Given a path, pillow maps pixels of TIFF into memory, and scrambles those that a tag turns by a quarter.
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise UserError(
            "image-size", f"{path}: the image is too large to open ({error}); cut it into tiles."
        ) from error
    except UnidentifiedImageError as error:
        raise refusals.other_content(path, f"{_NAMES}, or damaged at its start", "copy it again") from error
    except _BROKEN as error:
        raise refusals.damaged(path, error) from error


def _pages(path: Path, image: Image.Image) -> int:
    """How many pages a file holds, all looked at: only grey ones of one size and depth make a stack."""
    pages = int(getattr(image, "n_frames", 1))
    if pages == 1:
        return 1
    if image.format != "TIFF":
        raise refusals.no_stack(path, pages)
    kinds = set()
    for page in range(pages):
        image.seek(page)
        kinds.add((image.mode, image.size))
    if getattr(image.tag_v2, "next", 0):  # type: ignore[attr-defined]
        raise refusals.damaged(path, "pages are missing")
    image.seek(0)
    if len(kinds) > 1 or image.mode not in (*_GREY_PAGES, "P"):
        raise refusals.no_stack(path, pages)
    return pages


def _pixels(path: Path, image: Image.Image, mask: bool, stored: bool) -> Array:
    """H x W x C of the page that is shown; turned by its orientation tag unless `stored`."""
    orientation = picture_tags.orientation_of(path, image)
    white_is_zero = image.format == "TIFF" and picture_tags.photometric(image) == 0
    greatest, tiles = _greatest(image), str(getattr(image, "tile", ""))  # how pixels are stored; gone once loaded
    image.load()
    turned_already = image.format == "TIFF"
    if turned_already and orientation != 1 and image.mode in _EIGHT_BIT_MODES and ";16" in tiles:
        raise UserError(  # LZW, which tifffile leaves to others: they would cut it down to 8 bits
            "image-deep-turned", f"{path}: has 16-bit colours and an orientation tag; save it without the tag."
        )
    array = _values(path, image, tiles, mask)
    if mask and turned_already and image.mode in ("1", "L") and (white_is_zero or "I'" in tiles):
        array = array ^ (True if image.mode == "1" else np.uint8(255))  # pillow has inverted it
    elif white_is_zero and not mask and array.dtype == np.uint16:
        array = np.uint16(65535) - array
    if mask:
        parts = next((parts for bits, parts in _PARTS_OF_BYTE.items() if f"'L{bits}" in tiles), 1)
        array = array // parts if parts > 1 else array
    if turned_already:
        array = other_tiff.stored_values(image, array)
    if greatest is not None:
        if image.mode == "RGB" and greatest > 255:
            raise UserError(  # pillow cuts it down to 8 bits
                "image-deep-ppm", f"{path}: has colours of 16 bits, not read from PPM; save it as PNG or TIFF."
            )
        most = 65535 if image.mode == "I" else 255  # pillow has scaled the numbers to it
        array = np.rint(array * (greatest / most)).astype(array.dtype)
    if image.format == "PPM" and image.mode == "I":
        array = array.astype(np.uint16)
    if orientation == 1 or turned_already != stored:
        return array
    if turned_already:
        orientation = {6: 8, 8: 6}.get(orientation, orientation)
    return picture_tags.turned(array, orientation)


def _greatest(image: Image.Image) -> int | None:
    """Which number is white in a PGM or PPM, where that is neither 255 nor 65,535."""
    tile: tuple[Any, ...] = next(iter(getattr(image, "tile", ())), ("",))
    return int(tile[3][1]) if tile[0] in ("ppm", "ppm_plain") and len(tile[3]) > 1 and tile[3][0] != "1;I" else None


def _values(path: Path, image: Image.Image, tiles: str, mask: bool) -> Array:
    """H x W x C as pillow gives them; of a mask the indices of a palette, or the alpha channel if it lies there."""
    # Programs number the colours of a GIF as they please: only where they are no greys the numbers can be classes.
    if mask and image.mode in ("P", "PA") and not (image.format == "GIF" and _grey_palette(image)):
        return np.asarray(image.getchannel(0))[..., None]
    grey = image.mode in _GREY_MODES or (image.mode in ("P", "PA") and _grey_palette(image))
    deep = image.mode in _EIGHT_BIT_MODES and ";16" in tiles
    if mask and image.mode in _ALPHA_MODES:
        every = _deep(path, image) if deep else np.asarray(image)
        if (found := mask_in_alpha(path, every)) is not None:
            return found
    if deep:
        return _deep(path, image)[..., : 1 if grey else 3]
    if image.mode in _GREY_MODES:
        return np.asarray(image.getchannel(0) if image.mode in ("LA", "La") else image)[..., None]
    return np.asarray(image.convert("RGB"))[..., : 1 if grey else 3]


def _deep(path: Path, image: Image.Image) -> Array:
    """H x W x C of an image with several channels of 16 bits, which pillow would cut down to 8."""
    import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by; rarely needed, and large

    try:
        array: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO=f"{image.format}ImageIO"))
    except RuntimeError as error:
        raise refusals.damaged(path, "its 16-bit pixels cannot be read") from error
    return array


def _grey_palette(image: Image.Image) -> bool:
    """Whether every colour of the palette is a grey: then the image is a grey one, stored in another way."""
    colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())
