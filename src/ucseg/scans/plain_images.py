"""PNG, JPEG and TIFF: images without a geometry, in pixels. Read by pillow, 16-bit colour by SimpleITK.

A TIFF of several grey pages of one size is a stack of slices: pages x rows x columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

# What pillow raises on damaged files of these formats (broken PNG chunks are a SyntaxError).
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, IndexError, zlib.error)
_EIGHT_BIT_MODES = ("LA", "RGB", "RGBA", "RGBX")
_GREY_PAGES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "F")
_GREY_MODES = (*_GREY_PAGES, "LA", "La")


def read(address: Address) -> Scan:
    """C x H x W: grey C = 1, colour C = 3. Alpha is dropped, a palette resolved, a 1-bit image is 0 and 1."""
    return _scan(address.file, palette_indices=False)


def read_mask(address: Address) -> Scan:
    """As `read`, but a coloured palette yields its indices: in masks the colours are only there to be looked at."""
    return _scan(address.file, palette_indices=True)


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of several pages; False also where it cannot be read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with _opened(path) as image:
            return _pages(path, image) > 1
    except UserError:
        return False


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape, identity geometry in px, and channels."""
    path = address.file
    with _opened(path) as image:
        pages = _pages(path, image)
        grey = _grey_palette(image) if image.mode in ("P", "PA") else image.mode in _GREY_MODES
        shape = (image.height, image.width) if pages == 1 else (pages, image.height, image.width)
        return shape, Geometry(np.eye(1 + len(shape)), "px"), 1 if grey or pages > 1 else 3


def write(array: Array, like: Scan, part: Path) -> None:
    """Write H x W, or a stack of them: uint8 or uint16 as PNG or TIFF, float32 as TIFF. No geometry is written."""
    pages = [Image.fromarray(np.ascontiguousarray(page)) for page in (array if array.ndim == 3 else [array])]
    more = {"save_all": True, "append_images": pages[1:]} if pages[1:] else {}
    pages[0].save(part, format="PNG" if part.suffix == ".png" else "TIFF", **more)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise UserError(
            "image-size", f"{path}: the image is too large to open ({error}); cut it into tiles."
        ) from error
    except UnidentifiedImageError as error:
        raise refusals.other_content(path, "PNG, JPEG or TIFF, or damaged at its start", "copy it again") from error
    except _BROKEN as error:
        raise refusals.damaged(path, error) from error


def _scan(path: Path, palette_indices: bool) -> Scan:
    array = _read_array(path, palette_indices)
    return Scan(array, Geometry(np.eye(array.ndim), "px"), path)


def _pages(path: Path, image: Image.Image) -> int:
    """How many pages a file holds, all looked at: only grey ones of one size and depth make a stack."""
    pages = int(getattr(image, "n_frames", 1))
    if pages == 1:
        return 1
    if image.format != "TIFF":
        raise _no_stack(path, pages)
    kinds = set()
    for page in range(pages):
        image.seek(page)
        kinds.add((image.mode, image.size))
    image.seek(0)
    if len(kinds) > 1 or image.mode not in (*_GREY_PAGES, "P"):
        raise _no_stack(path, pages)
    return pages


def _no_stack(path: Path, pages: int) -> UserError:
    return UserError(
        "image-pages",
        f"{path}: the file holds {pages} pages that are no stack of grey slices of one size; save each page as a file.",
    )


def _read_array(path: Path, palette_indices: bool) -> Array:
    with _opened(path) as image:
        pages = _pages(path, image)
        if pages > 1:
            return _read_stack(path, image, pages, palette_indices)
        tiles = str(getattr(image, "tile", ""))  # how the pixels are stored; gone once they are loaded
        image.load()
        if image.mode in ("P", "PA") and palette_indices and not _grey_palette(image):
            return np.asarray(image.getchannel("P") if image.mode == "PA" else image)[None]
        array: Array
        if image.mode in ("P", "PA"):
            array = np.asarray(image.convert("RGB"))
            array = array[..., :1] if _grey_palette(image) else array
        elif image.mode in _EIGHT_BIT_MODES and ";16" in tiles:
            array = _deep(path, str(image.format))
            array = array[..., :1] if image.mode in _GREY_MODES else array[..., :3]
        elif image.mode in _GREY_MODES:
            array = np.asarray(image.getchannel(0) if image.mode in ("LA", "La") else image)[..., None]
        else:
            array = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(np.moveaxis(native(array), -1, 0))


def _read_stack(path: Path, image: Image.Image, pages: int, palette_indices: bool) -> Array:
    """1 x pages x H x W."""
    slices = []
    for page in range(pages):
        image.seek(page)
        image.load()
        if image.mode == "P" and not _grey_palette(image) and not palette_indices:
            raise _no_stack(path, pages)
        grey = image.convert("L") if image.mode == "P" and _grey_palette(image) else image
        slices.append(np.asarray(grey))
    return native(np.stack(slices)[None])


def _deep(path: Path, kind: str) -> Array:
    """H x W x C of an image with several channels of 16 bits, which pillow would cut down to 8."""
    import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by; rarely needed, and large

    try:
        array: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO=f"{kind}ImageIO"))
    except RuntimeError as error:
        raise refusals.damaged(path, "its 16-bit pixels cannot be read") from error
    return array


def _grey_palette(image: Image.Image) -> bool:
    """Whether every colour of the palette is a grey: then the image is a grey one, stored in another way."""
    colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())
