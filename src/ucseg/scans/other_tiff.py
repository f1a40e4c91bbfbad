"""TIFF that pillow reads wrongly, or not at all: its pages are read by tifffile.

pillow is right where a page is grey, of colours or of a palette, with at most one alpha: one channel of whole numbers
(`stored_values` sets their sign right), or several of 8 bits side by side. What tifffile reads only with another
library (LZW), is left to pillow where that is right.
"""

from __future__ import annotations

import importlib.util
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ucseg.scans import ome, picture_tags, refusals
from ucseg.scans.address import Address
from ucseg.scans.alpha import lies_in_alpha, mask_in_alpha
from ucseg.scans.scan import native
from ucseg.types import Array

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _FORMAT = 258, 339
"""Tags of TIFF: bits of a channel, and whether its numbers have a sign or are fractions."""
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}
"""Channels by the photometric tag: grey, red-green-blue, palette."""
_ALPHA = (1, 2)
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_READ_BY_ITSELF = (1, 8, 32946, 34925)
"""Kinds of compression that tifffile reads without another library: none, deflate, LZMA."""
_OF_FRACTIONS = 3
"""A predictor that it reads with that library alone."""


def holds(path: Path) -> bool:
    """Whether a file is such a TIFF; False where it cannot be opened at all."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _STARTS:
                return False
        about = path.stat()
    except OSError:
        return False
    return _holds(path, about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _holds(path: Path, *version: int) -> bool:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of is refused, or does no harm
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.is_ome and len(file.pages) > 1:
                return False
            order = file.byteorder
            return not (_right(page, order) or (_nearly_right(page, order) and not _readable(page)))
    except Exception:
        return False  # opening it as any image will report what is wrong


def _right(page: Any, order: str) -> bool:
    """Whether pillow reads a page as it is."""
    colours = _COLOURS.get(int(page.photometric))
    if colours is None:
        return True  # others are compressed colours
    beyond, kinds = page.samplesperpixel - colours, tuple(page.extrasamples)
    if beyond > 1 or (beyond == 1 and kinds and kinds[0] not in _ALPHA):
        return False
    kind = page.sampleformat, page.bitspersample
    if page.samplesperpixel == 1:
        if kind in ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32)):
            return bool(page.compression == 1)
        return kind == (_SIGNED, 8) or (kind[0] == _UNSIGNED and (kind[1] <= 16 or (kind[1] == 32 and order == "<")))
    return bool(kind == (_UNSIGNED, 8) and page.planarconfig == 1)


def _nearly_right(page: Any, order: str) -> bool:
    """Whether pillow reads a page as it is in this layout, though not in all."""
    kind = page.sampleformat, page.bitspersample
    if page.samplesperpixel == 1:
        return order == "<" and kind in ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))
    if page.samplesperpixel > 4 or page.photometric != 2 or 0 in page.extrasamples:
        return False
    return kind == (_UNSIGNED, 8) or (kind == (_UNSIGNED, 16) and page.planarconfig == 1 and not page.is_tiled)


def _readable(page: Any) -> bool:
    by_itself = page.compression in _READ_BY_ITSELF and page.predictor != _OF_FRACTIONS
    return by_itself or importlib.util.find_spec("imagecodecs") is not None


def stored_values(image: Image.Image, array: Array) -> Array:
    """What pillow has read of a TIFF, with the sign that the file says: it takes -1 for 255, and 2^32 - 1 for -1."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    kind = tags.get(_FORMAT, (_UNSIGNED,))[0], tags.get(_BITS, (1,))[0]
    if kind == (_SIGNED, 8) and array.dtype == np.uint8:
        return array.view(np.int8)
    return array.view(np.uint32) if kind == (_UNSIGNED, 32) and array.dtype == np.int32 else array


def read(address: Address, mask: bool) -> Array:
    """Pages x C x H x W, turned by its orientation tag, and of an image inverted where white is zero."""
    turn, white_is_zero, _ = shown(address, mask=False)
    with _opened(address.file) as pages:
        first = pages[0]
        channels = _channels(first)
        refusals.check_size(address, address.said, (len(pages), *_plane(first)), first.samplesperpixel)
        made = []
        for page in pages:
            array = ome.stored_pages(address, page)
            if array.dtype.kind not in "iufb":
                raise refusals.values(address, array.dtype)
            array = native(array.astype(np.float32) if array.dtype == np.float16 else array)
            array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else np.atleast_3d(array)
            found = mask_in_alpha(address.file, array) if mask and _has_alpha(first) else None
            made.append(array[..., channels] if found is None else found)
    array = np.stack([np.moveaxis(picture_tags.turned(one, turn), -1, 0) for one in made])
    if white_is_zero and not mask and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    return array


def read_header(address: Address) -> tuple[tuple[int, int], int, int]:
    """H x W, pages and channels."""
    with _opened(address.file) as pages:
        plane, channels = _plane(pages[0]), _channels(pages[0])
    return (plane[::-1] if shown(address, mask=False)[0] > 4 else plane), len(pages), len(channels)


def shown(address: Address, mask: bool) -> tuple[int, bool, bool]:
    """The orientation tag, 1 where pixels stay as stored; whether white is zero; whether a mask lies in its alpha."""
    with _opened(address.file) as pages:
        page = pages[0]
        turn, meaning = page.tags.valueof(picture_tags.ORIENTATION), page.tags.valueof(picture_tags.PHOTOMETRIC)
        in_alpha = mask and _has_alpha(page) and page.axes == "YXS" and lies_in_alpha(ome.stored_pages(address, page))
    return 1 if address.part else picture_tags.known_turn(turn), meaning == 0, in_alpha


@contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    """The pages of a file: all of one size and kind, and of one channel if they are several."""
    import tifffile

    with refusals.damage_of(path), tifffile.TiffFile(path) as file:
        pages = [page.aspage() for page in file.pages]
        if not pages or _offset_of_next(file, pages[-1]):
            raise refusals.damaged(path, "pages are missing")
        first = pages[0]
        if len({(page.shape, page.dtype, page.axes, page.photometric) for page in pages}) > 1:
            raise refusals.no_stack(path, len(pages))
        if first.axes not in ("YX", "YXS", "SYX") or (len(pages) > 1 and first.samplesperpixel > 1):
            raise refusals.no_stack(path, len(pages))
        if first.bitspersample == 1 and first.samplesperpixel > 1:  # tifffile reads others than it wrote
            raise refusals.one_bit_channels(path)
        if any(0 in page.databytecounts for page in pages):
            raise refusals.damaged(path, "a part of it is empty")
        yield pages


def _offset_of_next(file: Any, page: Any) -> int:
    """Where the file says that one more page is; 0: it is the last one."""
    tags, entry, place = ("Q", 20, "Q") if file.is_bigtiff else ("H", 12, "I")
    file.filehandle.seek(page.offset)
    (count,) = struct.unpack(file.byteorder + tags, file.filehandle.read(struct.calcsize("=" + tags)))
    file.filehandle.seek(entry * count, 1)
    (found,) = struct.unpack(file.byteorder + place, file.filehandle.read(struct.calcsize("=" + place)))
    return int(found)


def _plane(page: Any) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)


def _kinds(page: Any) -> tuple[int, ...]:
    """What the channels beyond the colours are; without a word, a single one is alpha."""
    beyond = page.samplesperpixel - _COLOURS.get(int(page.photometric), page.samplesperpixel)
    return tuple(map(int, page.extrasamples)) or ((_ALPHA[-1],) if beyond == 1 else ())


def _channels(page: Any) -> list[int]:
    """Those that are not alpha."""
    kinds = _kinds(page)
    colours = page.samplesperpixel - len(kinds)
    return [at for at in range(page.samplesperpixel) if at < colours or kinds[at - colours] not in _ALPHA]


def _has_alpha(page: Any) -> bool:
    """Whether its last channel is alpha, and no other is."""
    return [kind in _ALPHA for kind in _kinds(page)] == [True]
