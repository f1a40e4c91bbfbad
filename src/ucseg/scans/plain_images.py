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


def read(address: Address, palette_indices: bool = False) -> Scan:
    """C x H x W: grey C = 1, colour C = 3. Alpha is dropped, a palette resolved, a 1-bit image is 0 and 1."""
    path = address.file
    with _opened(path) as image:
        pages = []
        for page in range(_pages(path, image)):
            image.seek(page)
            pages.append(native(_pixels(path, image, palette_indices)))
    array = np.ascontiguousarray(np.moveaxis(pages[0], -1, 0))
    if len(pages) > 1:
        if any(page.shape[-1] > 1 for page in pages):
            raise _no_stack(path, len(pages))
        array = np.stack([page[..., 0] for page in pages])[None]
    return Scan(array, Geometry(np.eye(array.ndim), "px"), path)


def read_mask(address: Address) -> Scan:
    """As `read`, but a coloured palette yields its indices: in masks the colours are only there to be looked at."""
    return read(address, palette_indices=True)


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
        "image-pages", f"{path}: its {pages} pages are no stack of grey slices of one size; save each as a file."
    )


def _pixels(path: Path, image: Image.Image, palette_indices: bool) -> Array:
    """H x W x C of the page that is shown."""
    tiles = str(getattr(image, "tile", ""))  # how the pixels are stored; gone once they are loaded
    image.load()
    grey = image.mode in _GREY_MODES or (image.mode in ("P", "PA") and _grey_palette(image))
    if image.mode in _EIGHT_BIT_MODES and ";16" in tiles:
        return _deep(path, str(image.format))[..., : 1 if grey else 3]
    if image.mode in ("P", "PA") and palette_indices and not grey:
        return np.asarray(image.getchannel("P") if image.mode == "PA" else image)[..., None]
    if image.mode in _GREY_MODES:
        return np.asarray(image.getchannel(0) if image.mode in ("LA", "La") else image)[..., None]
    return np.asarray(image.convert("RGB"))[..., : 1 if grey else 3]


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
