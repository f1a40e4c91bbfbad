"""Pictures that show something else than they store: turned by a tag, inverted, transparent, of few bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from refusals import refused
from ucseg.scans.address import Address
from ucseg.scans.reading import oddities, read_header, read_mask, read_scan
from ucseg.types import Array

LABEL = np.random.default_rng(0).integers(0, 3, (10, 16), dtype=np.uint8)
TURNS = [
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.T,
    lambda a: np.rot90(a, -1),
    lambda a: a[::-1, ::-1].T,
    lambda a: np.rot90(a, 1),
]
"""What a viewer shows, by orientation tag: 1, 2, ..., 8."""


def with_tag(path: Path, array: Array, orientation: int) -> Path:
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[274] = orientation
    more = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif}
    image.save(path, **more)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_one_rule_turns_pictures_of_all_formats(tmp_path, ending, orientation):
    with_tag(tmp_path / f"plain{ending}", 80 * LABEL, 1)
    stored = read_scan(tmp_path / f"plain{ending}").array[0]  # JPEG changes values
    path = with_tag(tmp_path / f"x{ending}", 80 * LABEL, orientation)
    shown, unturned = TURNS[orientation - 1](stored), Address.of(f"{path}#stored")
    for read in (read_scan, read_mask):
        assert np.array_equal(read(path).array[0], shown)
        assert np.array_equal(read(unturned).array[0], stored)
    assert (read_header(path)[0], read_header(unturned)[0]) == (shown.shape, stored.shape)
    assert oddities(Address.of(path)) == ({"turned"} if orientation > 1 else set())
    assert not oddities(unturned)


def test_deep_turned_and_paged_tiffs(tmp_path):
    deep = LABEL.astype(np.uint16) * 20000
    assert np.array_equal(read_scan(with_tag(tmp_path / "deep.tif", deep, 8)).array[0], TURNS[7](deep))
    tag = [(274, "H", 1, 6, False)]
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([deep, deep // 2]), extratags=tag, photometric="minisblack")
    assert np.array_equal(read_scan(tmp_path / "pages.tif").array[0, 1], TURNS[5](deep // 2))
    assert read_header(tmp_path / "pages.tif")[0] == (2, 16, 10)
    tifffile.imwrite(tmp_path / "colour.tif", np.dstack([deep] * 3), photometric="rgb", extratags=tag)
    assert np.array_equal(read_scan(tmp_path / "colour.tif").array[2], TURNS[5](deep))


def test_a_tag_behind_the_pixels_of_a_png_counts(tmp_path):
    whole = with_tag(tmp_path / "x.png", LABEL, 6).read_bytes()
    start = whole.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(whole[start : start + 4], "big")
    (tmp_path / "x.png").write_bytes(whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:])
    assert read_header(tmp_path / "x.png")[0] == (16, 10)
    assert np.array_equal(read_mask(tmp_path / "x.png").array[0], TURNS[5](LABEL))


def raw_tiff(path: Path, data: bytes, bits: int, photometric: int) -> Path:
    """An uncompressed TIFF of LABEL's size with samples stored as they are."""
    rows, columns = LABEL.shape
    tags = [(256, columns), (257, rows), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, rows)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0) + data)
    return path


@pytest.mark.parametrize("photometric", [0, 1])
def test_the_stored_numbers_of_a_mask_count_where_white_is_zero(tmp_path, photometric):
    path, odd = tmp_path / "mask.tif", {"white-is-zero"} if photometric == 0 else set()
    for kind in (np.uint8, np.uint16):
        raw_tiff(path, LABEL.astype(kind).tobytes(), 8 * np.dtype(kind).itemsize, photometric)
        assert np.array_equal(read_mask(path).array[0], LABEL)
        most = np.iinfo(kind).max
        assert np.array_equal(read_scan(path).array[0], LABEL if photometric else most - LABEL.astype(kind)), (
            "an image as shown"
        )
        assert oddities(Address.of(path), mask=True) == odd
    raw_tiff(path, np.packbits(LABEL > 0, axis=1).tobytes(), 1, photometric)
    assert np.array_equal(read_mask(path).array[0], LABEL > 0)
    raw_tiff(path, (LABEL[:, ::2] << 4 | LABEL[:, 1::2]).tobytes(), 4, photometric)
    assert np.array_equal(read_mask(path).array[0], LABEL)
    name = "miniswhite" if photometric == 0 else "minisblack"
    tifffile.imwrite(path, np.stack([LABEL, LABEL]), photometric=name, compression="zlib")
    assert np.array_equal(read_mask(path).array[0], np.stack([LABEL, LABEL]))


def test_class_numbers_of_two_bits_stay_numbers(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = LABEL[:, ::4] << 6 | LABEL[:, 1::4] << 4 | LABEL[:, 2::4] << 2 | LABEL[:, 3::4]
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 10, 2, 0, 0, 0, 0))
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert np.array_equal(read_mask(tmp_path / "mask.png").array[0], LABEL)
    assert np.array_equal(read_scan(tmp_path / "mask.png").array[0], 85 * LABEL)


@pytest.mark.parametrize("colour", [0, 77, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_may_lie_in_the_alpha_channel(tmp_path, colour, channels):
    alpha = 255 * (LABEL > 0)
    array = np.dstack([np.full((*LABEL.shape, channels), colour), alpha]).astype(np.uint8)
    for name in ("mask.png", "mask.tif"):
        Image.fromarray(array).save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name).array[0], alpha)
        assert oddities(Address.of(tmp_path / name), mask=True) == {"alpha"}
        assert not oddities(Address.of(tmp_path / name)), "an image's alpha says nothing"


def test_alpha_that_agrees_is_dropped_and_one_that_does_not_is_refused(tmp_path):
    for alpha in (np.full_like(LABEL, 200), 255 * (LABEL > 0).astype(np.uint8)):
        Image.fromarray(np.dstack([LABEL, alpha])).save(tmp_path / "agrees.png")
        assert np.array_equal(read_mask(tmp_path / "agrees.png").array[0], LABEL)
        assert not oddities(Address.of(tmp_path / "agrees.png"), mask=True)
    Image.fromarray(np.dstack([LABEL, 255 * (LABEL > 1).astype(np.uint8)])).save(tmp_path / "other.png")
    with refused("mask-alpha", naming="other.png"):
        read_mask(tmp_path / "other.png")


@pytest.mark.parametrize("ending", [".bmp", ".ppm"])
def test_pictures_of_rarer_formats(tmp_path, ending):
    colours = np.random.default_rng(0).integers(0, 255, (10, 16, 3), dtype=np.uint8)
    grey = colours[..., 0]
    for array, name in ((colours, f"c{ending}"), (grey, f"g{ending if ending == '.bmp' else '.pgm'}")):
        Image.fromarray(array).save(tmp_path / name)
        wanted = np.moveaxis(np.atleast_3d(array), -1, 0)
        np.testing.assert_array_equal(read_scan(tmp_path / name).array, wanted)
        assert read_header(tmp_path / name)[::2] == ((10, 16), len(wanted))


@pytest.mark.parametrize("greatest", [1, 2, 3, 100, 255, 256, 1000, 4095, 65534, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_numbers_of_a_pgm_are_those_that_it_holds(tmp_path, greatest, plain):
    """Its header says which number is white: the greatest of a mask's classes, or of the detector."""
    array = np.random.default_rng(0).integers(0, greatest + 1, (10, 16))
    numbers = array.astype(">u2" if greatest > 255 else "u1").tobytes()
    text = " ".join(map(str, array.ravel())).encode()
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P%d\n# by hand\n16 10\n%d\n" % (2 if plain else 5, greatest) + (text if plain else numbers))
    for read in (read_scan, read_mask):
        np.testing.assert_array_equal(read(path).array[0], array)
        assert read(path).array.dtype == (np.uint16 if greatest > 255 else np.uint8)


def test_deep_colours_of_a_ppm_are_refused(tmp_path):
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6\n16 10\n4095\n" + np.zeros((10, 16, 3), ">u2").tobytes())
    with refused("image-deep-ppm", naming=path):
        read_scan(path)
