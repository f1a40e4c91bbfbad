"""TIFF that pillow does not read, or not whole: other channels than colours, and other numbers (float64, colour in
float32). Read by tifffile.

Several pages of one channel are a stack of slices, as in plain_images. Alpha is dropped where the file names it so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ucseg.errors import UserError
from ucseg.scans import ome, picture_tags, refusals
from ucseg.scans.address import Address
from ucseg.scans.scan import native
from ucseg.types import Array

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SAMPLES, _KINDS = 277, 338
"""Tags of TIFF: channels of a pixel, and what those beyond the colours are."""
_ALPHA = (1, 2)
_COLOURS = {0: 1, 1: 1, 2: 3}
"""Channels by the photometric tag: grey, red-green-blue."""


def holds(path: Path) -> bool:
    """Whether a file is such a TIFF; False where it cannot be opened at all."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _STARTS:
                return False
            file.seek(0)
            with Image.open(file, formats=("TIFF",)) as image:
                tags = image.tag_v2  # type: ignore[attr-defined]
                colours = _COLOURS.get(tags.get(picture_tags.PHOTOMETRIC), 3)
                beyond = int(tags.get(_SAMPLES, 1)) - colours
                return beyond > 1 or (beyond == colours == 1 and tags.get(_KINDS) == (0,))
    except UnidentifiedImageError:
        return True
    except Exception:
        return False  # opening it as any image will report what is wrong


def read(address: Address, mask: bool) -> Array:
    """C x S, turned by its orientation tag, and of an image inverted where white is zero."""
    turn, white_is_zero = shown(address)
    with _opened(address.file) as series:
        shape, channels = _shape(address.file, series)
        refusals.check_size(address, address.said, shape, channels)
        array = ome.stored_pages(address, series)
        axis = next((at for at, letter in enumerate(series.axes) if letter in "SC"), None)
    if array.dtype.kind not in "iufb":
        raise refusals.values(address, array.dtype)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    array = array[None] if axis is None else np.moveaxis(array, axis, 0)[:channels]
    array = native(array.reshape(channels, *shape))
    if white_is_zero and not mask and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    plane = picture_tags.turned(np.moveaxis(array, (-2, -1), (0, 1)), turn)
    return np.ascontiguousarray(np.moveaxis(plane, (0, 1), (-2, -1)))


def read_header(address: Address) -> tuple[tuple[int, ...], int]:
    """S and channels."""
    with _opened(address.file) as series:
        shape, channels = _shape(address.file, series)
    return ((*shape[:-2], *shape[:-3:-1]) if shown(address)[0] > 4 else shape), channels


def shown(address: Address) -> tuple[int, bool]:
    """The orientation tag, 1 where pixels stay as stored, and whether white is zero."""
    with _opened(address.file) as series:
        turn, meaning = (
            series.keyframe.tags.valueof(tag) for tag in (picture_tags.ORIENTATION, picture_tags.PHOTOMETRIC)
        )
    return 1 if address.part else picture_tags.known_turn(turn), meaning == 0


@contextmanager
def _opened(path: Path) -> Iterator[TiffPageSeries]:
    """The pages of a file, which are all of one size and kind."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if len(file.series) != 1:
                raise refusals.no_stack(path, len(file.pages))
            yield file.series[0]
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of damaged files the library raises whatever its parts do
        raise refusals.damaged(path, error) from error


def _shape(path: Path, series: Any) -> tuple[tuple[int, ...], int]:
    """S and the channels that are not alpha."""
    sizes = {letter: int(size) for letter, size in zip(series.axes, series.shape, strict=False)}
    if len(sizes) < len(series.shape) or {"C", "S"} <= sizes.keys():
        raise refusals.axes(path, series.shape)
    if (times := sizes.pop("T", 1)) > 1:
        raise refusals.film(path, times)
    channels = sizes.pop("C", 1) * sizes.pop("S", 1)
    page = series.keyframe
    if page.bitspersample == 1 and page.samplesperpixel > 1:  # tifffile reads others than it wrote
        raise UserError("image-bits", f"{path}: has several channels of one bit; save them with 8 bits each.")
    kinds = tuple(page.extrasamples or ())
    colours = _COLOURS.get(int(page.photometric), channels)
    if channels == page.samplesperpixel > colours and len(kinds) == channels - colours:
        while kinds and kinds[-1] in _ALPHA:
            channels, kinds = channels - 1, kinds[:-1]
    plane = sizes.pop("Y"), sizes.pop("X")
    slices = [size for size in sizes.values() if size > 1]
    if len(slices) > 1:
        raise refusals.axes(path, series.shape)
    return (*slices, *plane), channels
