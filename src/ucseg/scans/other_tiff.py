"""TIFF that pillow reads wrongly, or not at all. Read by tifffile.

pillow is right where numbers are unsigned and have 8 bits, or 16 in a single channel. Then channels have to be grey or
colours, stored side by side, with one alpha at most. Several pages of one channel are a stack of slices, unless
tifffile has noted other axes.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.scans import ome, picture_tags, refusals
from ucseg.scans.address import Address
from ucseg.scans.alpha import lies_in_alpha, mask_in_alpha
from ucseg.scans.scan import native
from ucseg.types import Array

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
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
    return _holds(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _holds(path: Path, changed: int, size: int) -> bool:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it warns of is refused, or does no harm
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.is_ome or (page.is_imagej and page.compression == 1):
                return False
            if _right_in_pillow(page):
                return page.is_shaped and len(file.pages) > 1
            return _readable(page) or not _nearly_right_in_pillow(page, file.byteorder)
    except Exception:
        return False  # opening it as any image will report what is wrong


def _right_in_pillow(page: Any) -> bool:
    colours = _COLOURS.get(int(page.photometric))
    if colours is None:
        return True  # others are compressed colours
    beyond, bits = page.samplesperpixel - colours, page.bitspersample
    if beyond > 1 or (beyond == 1 and tuple(page.extrasamples)[:1] not in [(one,) for one in _ALPHA]):
        return False
    if page.samplesperpixel == 1:
        return bool(page.sampleformat == _UNSIGNED and bits <= 16)
    return bool(page.sampleformat == _UNSIGNED and bits == 8 and page.planarconfig == 1)


def _readable(page: Any) -> bool:
    by_itself = page.compression in _READ_BY_ITSELF and page.predictor != _OF_FRACTIONS
    return by_itself or importlib.util.find_spec("imagecodecs") is not None


def _nearly_right_in_pillow(page: Any, order: str) -> bool:
    """What pillow reads right, but not in each layout: LZW, for which tifffile needs another library, is common."""
    kind = page.sampleformat, page.bitspersample
    if page.samplesperpixel == 1:
        return order == "<" and kind in ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))
    return kind == (_UNSIGNED, 16) and page.planarconfig == 1 and not page.is_tiled and page.samplesperpixel <= 4


def read(address: Address, mask: bool) -> Array:
    """C x S, turned by its orientation tag, and of an image inverted where white is zero."""
    turn, white_is_zero, _ = shown(address, mask=False)
    with _opened(address.file) as series:
        shape, channels, alpha = _shape(address.file, series)
        refusals.check_size(address, address.said, shape, channels + alpha)
        array = ome.stored_pages(address, series)
        if array.dtype.kind not in "iufb":
            raise refusals.values(address, array.dtype)
        if array.dtype == np.float16:
            array = array.astype(np.float32)
        axis = next((at for at, letter in enumerate(series.axes) if letter in "SC"), None)
        array = array[None] if axis is None else np.moveaxis(array, axis, 0)
        array = native(array.reshape(channels + alpha, *shape))
    found = mask_in_alpha(address.file, np.moveaxis(array, 0, -1)) if mask and alpha and len(shape) == 2 else None
    array = array[:channels] if found is None else np.moveaxis(found, -1, 0)
    if white_is_zero and not mask and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    plane = picture_tags.turned(np.moveaxis(array, (-2, -1), (0, 1)), turn)
    return np.ascontiguousarray(np.moveaxis(plane, (0, 1), (-2, -1)))


def read_header(address: Address) -> tuple[tuple[int, ...], int]:
    """S and channels."""
    with _opened(address.file) as series:
        shape, channels, _ = _shape(address.file, series)
    return ((*shape[:-2], *shape[:-3:-1]) if shown(address, mask=False)[0] > 4 else shape), channels


def shown(address: Address, mask: bool) -> tuple[int, bool, bool]:
    """The orientation tag, 1 where pixels stay as stored; whether white is zero; whether a mask lies in its alpha."""
    in_alpha = False
    with _opened(address.file) as series:
        tags = series.keyframe.tags
        turn, meaning = tags.valueof(picture_tags.ORIENTATION), tags.valueof(picture_tags.PHOTOMETRIC)
        if mask and _shape(address.file, series)[2] and series.axes == "YXS":
            in_alpha = lies_in_alpha(ome.stored_pages(address, series))
    return 1 if address.part else picture_tags.known_turn(turn), meaning == 0, in_alpha


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The pages of a file, a series of tifffile: all of one size and kind."""
    import tifffile

    with refusals.reading(path), tifffile.TiffFile(path) as file:
        pages = len(file.pages)
        if pages == 0 or not file.series:
            raise refusals.damaged(path, "it has no page")
        series = file.series[0]
        if len(file.series) != 1 or (pages > 1 and any(page.shape != series.keyframe.shape for page in file.pages)):
            raise refusals.no_stack(path, pages)
        yield series


def _shape(path: Path, series: Any) -> tuple[tuple[int, ...], int, int]:
    """S, the channels that are not alpha, and those that are."""
    sizes = {letter: int(size) for letter, size in zip(series.axes, series.shape, strict=False)}
    if len(sizes) < len(series.shape) or {"C", "S"} <= sizes.keys():
        raise refusals.axes(path, series.shape)
    if (times := sizes.pop("T", 1)) > 1:
        raise refusals.film(path, times)
    channels, alpha = sizes.pop("C", 1) * sizes.pop("S", 1), 0
    page = series.keyframe
    if page.bitspersample == 1 and page.samplesperpixel > 1:  # tifffile reads others than it wrote
        raise refusals.one_bit_channels(path)
    beyond = page.samplesperpixel - _COLOURS.get(int(page.photometric), channels)
    if channels == page.samplesperpixel and beyond == len(page.extrasamples) > 0 and page.extrasamples[-1] in _ALPHA:
        alpha = 1
    plane = sizes.pop("Y"), sizes.pop("X")
    slices = [size for size in sizes.values() if size > 1]
    if len(slices) > 1:
        raise refusals.axes(path, series.shape)
    return (*slices, *plane), channels - alpha, alpha
