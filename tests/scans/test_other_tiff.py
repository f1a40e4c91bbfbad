"""TIFF that pillow does not read: more channels than colours, and numbers that are neither 8 nor 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refusals import refused
from ucseg.scans.address import Address
from ucseg.scans.reading import oddities, read_header, read_mask, read_scan
from ucseg.types import Array


def picture(dtype: str, channels: int) -> Array:
    random, shape = np.random.default_rng(0), (20, 30, channels)
    if np.dtype(dtype).kind in "iu":
        made: Array = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        return made
    return (100 * random.normal(size=shape)).astype(dtype)


def saved(tmp_path: Path, array: Array, **how: Any) -> Path:
    file = tmp_path / "scan.tif"
    tifffile.imwrite(file, array, **how)
    return file


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "uint32", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_numbers_and_channels_are_as_stored(dtype: str, channels: int, planes: str, tmp_path: Path) -> None:
    array = picture(dtype, channels)
    stored = array[..., 0] if channels == 1 else array if planes == "contig" else np.moveaxis(array, -1, 0)
    file = saved(tmp_path, stored, photometric="minisblack", planarconfig=planes if channels > 1 else None)
    scan = read_scan(file)
    np.testing.assert_array_equal(scan.array, np.moveaxis(array, -1, 0))
    shape, geometry, count = read_header(file)
    assert (shape, geometry.unit, count) == ((20, 30), "px", channels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": 16}])
@pytest.mark.parametrize("colours", [False, True])
def test_in_each_byte_order_and_layout(
    dtype: str, order: str, how: dict[str, Any], colours: bool, tmp_path: Path
) -> None:
    if how.get("predictor") and dtype == "float32":
        pytest.skip("tifffile writes it with another library alone")
    array = picture(dtype, 3 if colours else 1)
    more = {"photometric": "rgb"} if colours else {"photometric": "minisblack"}
    more |= {key: (value, value) if key == "tile" else value for key, value in how.items()}
    file = saved(tmp_path, array if colours else array[..., 0], byteorder=order, **more)
    np.testing.assert_array_equal(read_scan(file).array, np.moveaxis(array, -1, 0))
    if colours:
        more = {key: value for key, value in more.items() if key != "tile"}
        file = saved(tmp_path, np.moveaxis(array, -1, 0), byteorder=order, planarconfig="separate", **more)
        np.testing.assert_array_equal(read_scan(file).array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize(("extra", "kept"), [("unassalpha", 3), ("unspecified", 5)])
def test_alpha_is_dropped_and_other_channels_are_not(extra: str, kept: int, tmp_path: Path) -> None:
    array = picture("float32", kept + (extra == "unassalpha"))
    more = [extra] * (array.shape[-1] - 3)
    file = saved(tmp_path, array, photometric="rgb", extrasamples=more)
    np.testing.assert_array_equal(read_scan(file).array, np.moveaxis(array[..., :kept], -1, 0))
    assert read_header(file)[2] == kept


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_channel_beyond_colours_is_kept_unless_it_is_alpha(dtype: str, tmp_path: Path) -> None:
    array = picture(dtype, 4)
    for extra, kept in (("unassalpha", 3), ("unspecified", 4)):
        file = saved(tmp_path, array, photometric="rgb", extrasamples=[extra])
        np.testing.assert_array_equal(read_scan(file).array, np.moveaxis(array[..., :kept], -1, 0))
        assert read_header(file)[2] == kept


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_mask_may_lie_in_the_alpha_channel(dtype: str, tmp_path: Path) -> None:
    array = np.ones((20, 30, 4), dtype)
    array[..., 3] = np.arange(30) % 2
    file = saved(tmp_path, array, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_mask(file).array[0], array[..., 3])
    assert oddities(Address.of(file), mask=True) == {"alpha"}
    array[:10, :, 0] = 0  # another mask
    file = saved(tmp_path, array, photometric="rgb", extrasamples=["unassalpha"])
    with refused("mask-alpha", naming=file):
        read_mask(file)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize(("axes", "shape"), [("CYX", (5, 1)), ("ZYX", (1, 5)), ("ZCYX", (2, 4)), ("CZYX", (4, 2))])
def test_axes_that_tifffile_notes_mean_the_same_for_all_numbers(
    dtype: str, axes: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    channels, slices = shape
    array = np.random.default_rng(0).integers(0, 100, (channels, slices, 20, 30)).astype(dtype)
    stored = array.swapaxes(0, 1) if axes == "ZCYX" else array
    file = saved(tmp_path, np.squeeze(stored), photometric="minisblack", metadata={"axes": axes})
    np.testing.assert_array_equal(read_scan(file).array, array[:, 0] if slices == 1 else array)
    assert read_header(file)[::2] == (array.shape[1 + (slices == 1) :], channels)


def test_pages_are_slices(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((6, 20, 30))
    file = saved(tmp_path, array, photometric="minisblack")
    np.testing.assert_array_equal(read_scan(file).array[0], array)
    (tmp_path / "scan.json").write_text('{"spacing": [3, 1, 2]}')
    shape, geometry, channels = read_header(file)
    assert (shape, geometry.spacing, channels) == (array.shape, (3, 1, 2), 1)
    assert read_scan(file).geometry.spacing == geometry.spacing


@pytest.mark.parametrize("turn", range(1, 9))
def test_it_is_turned_and_inverted_as_other_pictures_are(turn: int, tmp_path: Path) -> None:
    """A picture of 8 bits, which pillow reads, looks the same as its copy in 32 bits."""
    array = picture("uint8", 1)[..., 0]
    how: dict[str, Any] = {"photometric": "minisblack", "extratags": [(274, "H", 1, turn, True)]}
    file = saved(tmp_path, array, **how)
    wanted, masked = read_scan(file).array, read_mask(file).array
    saved(tmp_path, array.astype("int64"), **how)
    np.testing.assert_array_equal(read_scan(file).array, wanted)
    np.testing.assert_array_equal(read_mask(file).array, masked)
    assert read_header(file)[0] == wanted.shape[1:]
    assert oddities(Address.of(file), mask=False) == ({"turned"} if turn > 1 else set())


def test_where_white_is_zero_an_image_is_inverted_and_a_mask_is_not(tmp_path: Path) -> None:
    array = picture("uint64", 1)[..., 0]
    file = saved(tmp_path, array, photometric="miniswhite")
    np.testing.assert_array_equal(read_scan(file).array[0], np.iinfo(np.uint64).max - array)
    np.testing.assert_array_equal(read_mask(file).array[0], array)
    assert oddities(Address.of(file), mask=False) == {"white-is-zero"}


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for dtype in ("uint8", "float64"):
        with refused("image-times", naming="scan.tif"):
            stack = picture(dtype, 5).transpose(2, 0, 1)
            read_scan(saved(tmp_path, stack, photometric="minisblack", metadata={"axes": "TYX"}))
        with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
            for edge in (20, 10):
                writer.write(picture(dtype, 1)[:edge, :, 0], photometric="minisblack")
        with refused("image-pages", naming="scan.tif"):
            read_scan(tmp_path / "scan.tif")
    with refused("image-bits", naming="scan.tif"):
        read_scan(saved(tmp_path, picture("bool", 3), photometric="rgb"))
    with refused("scan-axes", naming="scan.tif"):
        read_scan(saved(tmp_path, np.zeros((2, 3, 20, 30)), photometric="minisblack"))
    with refused("scan-values", naming="complex"):
        read_scan(saved(tmp_path, picture("complex64", 1)[..., 0]))
    file = saved(tmp_path, picture("float64", 1)[..., 0])
    file.write_bytes(file.read_bytes()[:4000])
    with refused("scan-damaged", naming="scan.tif"):
        read_scan(file)
    file = saved(tmp_path, picture("uint16", 5), photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tiff.pages[0].tags[258].overwrite((16, 16, 16, 16, 8))
    with refused("scan-damaged", naming="scan.tif"):
        read_scan(file)
    file.write_bytes(b"II*\0" + b"junk" * 50)
    with refused("scan-content", naming="scan.tif"):
        read_scan(file)
