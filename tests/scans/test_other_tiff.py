"""TIFF that pillow does not read: more channels than colours, and numbers that are neither 8 nor 16 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

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


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
def test_pages_of_all_numbers_are_slices_however_they_were_written(
    dtype: str, compression: str | None, order: str, tmp_path: Path
) -> None:
    stack = np.moveaxis(picture(dtype, 5), -1, 0)
    file = tmp_path / "scan.tif"
    how: dict[str, Any] = {"photometric": "minisblack", "compression": compression}
    with tifffile.TiffWriter(file, byteorder=order) as writer:
        for page in stack:
            writer.write(page, **how)
    np.testing.assert_array_equal(read_scan(file).array[0], stack)
    for axes in (None, "CYX", "TYX", "QYX"):
        file = saved(tmp_path, stack, byteorder=order, metadata=axes and {"axes": axes}, **how)
        np.testing.assert_array_equal(read_scan(file).array[0], stack)
        assert read_header(file)[::2] == (stack.shape, 1)
    whole = file.read_bytes()
    for part in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(part * len(whole))])
        with refused("scan-damaged", naming=file):
            read_scan(file)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_stacks_of_imagej_keep_their_channels_and_spacing(dtype: str, compression: str | None, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 100, (4, 2, 20, 30)).astype(dtype)
    about = {"axes": "ZCYX", "spacing": 3, "unit": "mm"}
    file = saved(tmp_path, array, imagej=True, compression=compression, resolution=(2, 2), metadata=about)
    np.testing.assert_array_equal(read_scan(file).array, array.swapaxes(0, 1))
    shape, geometry, channels = read_header(file)
    assert (shape, geometry.spacing, geometry.unit, channels) == ((4, 20, 30), (3, 0.5, 0.5), "mm", 2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "I", "F"])
@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", None])
def test_what_pillow_writes_is_read_as_before(mode: str, compression: str | None, tmp_path: Path) -> None:
    """LZW among it, for which tifffile needs another library."""
    array = picture("uint8", 4)
    image = Image.fromarray(array[..., :1].squeeze() if mode in ("1", "L", "P", "I;16", "I", "F") else array)
    image = image.convert("I").convert(mode) if mode in ("I;16", "I", "F") else image.convert(mode)
    file = tmp_path / "scan.tif"
    image.save(file, compression=compression)
    wanted = np.atleast_3d(np.asarray(image.convert("RGB") if mode == "P" else image))[..., :3]
    found = read_scan(file).array
    np.testing.assert_array_equal(found, np.moveaxis(wanted[..., : len(found)], -1, 0))
    assert len(found) == (3 if mode in ("RGB", "RGBA") else 1) and read_header(file)[2] == len(found)
    image.save(file, compression=compression, save_all=True, append_images=[image])
    if mode not in ("RGB", "RGBA", "P"):
        np.testing.assert_array_equal(read_scan(file).array[0], np.stack([wanted[..., 0]] * 2))


def test_a_stack_of_true_and_false_is_of_ones_and_zeros(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 2, (5, 20, 30)).astype(bool)
    file = saved(tmp_path, stack)
    np.testing.assert_array_equal(read_mask(file).array[0], stack)
    np.testing.assert_array_equal(read_scan(file).array[0], ~stack)  # the file says that white is zero


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
        with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
            for edge in (20, 10):
                writer.write(picture(dtype, 1)[:edge, :, 0], photometric="minisblack")
        with refused("image-pages", naming="scan.tif"):
            read_scan(tmp_path / "scan.tif")
    with refused("image-bits", naming="scan.tif"):
        read_scan(saved(tmp_path, picture("bool", 3), photometric="rgb"))
    with refused("image-pages", naming="scan.tif"):
        read_scan(saved(tmp_path, np.zeros((2, 20, 30, 5)), photometric="minisblack", planarconfig="contig"))
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
    Image.fromarray(picture("float32", 1)[..., 0]).save(file, compression="tiff_lzw")
    with tifffile.TiffFile(file) as tiff:
        assert tiff.pages[0].compression == 5
    if importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(ValueError, match="imagecodecs"):  # so it is left to pillow
            tifffile.imread(file)
