"""Regions of ImageJ's ROI Manager are masks, and its TIFF stacks are read as they say themselves."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.masks import read_label
from ucseg.scans import drawings
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_mask, read_scan, segment_names
from ucseg.scans.scan import Geometry

needs_roifile = pytest.mark.skipif(importlib.util.find_spec("roifile") is None, reason="roifile is not there")
GRID = ((12, 16), Geometry(np.eye(3), "px"))
CELL, OTHER, SPOT = (
    [[3, 2], [9, 2], [9, 7], [3, 7]],
    [[12, 8], [15, 8], [15, 11], [12, 11]],
    [[5, 4], [7, 4], [7, 6], [5, 6]],
)
TRUE = np.zeros(GRID[0], np.uint8)
TRUE[2:7, 3:9], TRUE[8:11, 12:15], TRUE[4:6, 5:7] = 1, 1, 2
PIXELS = np.random.default_rng(0).integers(0, 60000, (5, 2, 12, 16)).astype(np.uint16)


def region(name: str, points: list[list[int]], page: int = 0) -> Any:
    from roifile import ImagejRoi

    made = ImagejRoi.frompoints(points)
    made.name, made.position = name, page
    return made


def save(path: Path, *regions: Any) -> Path:
    """As the ROI Manager saves them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, one in enumerate(regions):
            archive.writestr(f"{one.name or number}.roi", one.tobytes())
    return path


@needs_roifile
def test_a_folder_of_pictures_and_regions_becomes_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for i in range(6):
        Image.fromarray(PIXELS[i % 5, 0].astype(np.uint8) + i).save(tmp_path / f"s/p{i}.png")
        if i < 5:
            save(tmp_path / f"s/p{i}_RoiSet.zip", region("cell", CELL), region("cell-1", OTHER), region("spot", SPOT))
    with zipfile.ZipFile(tmp_path / "s/others.zip", "w") as other:
        other.writestr("notes.txt", "none")
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d", validation="1", test="1")
    assert dataset.config.classes == {0: "background", 1: "cell", 2: "spot"}
    assert {case.case for case in dataset.cases if case.mask is None} == {"p5"}
    for case in dataset.cases:
        if case.mask is not None:
            assert np.array_equal(read_label(case.mask, GRID[0], dataset.config, GRID[1]), TRUE)


@needs_roifile
def test_a_set_without_a_name_is_of_the_only_stack_beside_it(tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"s{n}").mkdir()
        tifffile.imwrite(tmp_path / f"s{n}/cells{n}.tif", PIXELS[:, 0], imagej=True, metadata={"axes": "ZYX"})
        save(tmp_path / f"s{n}/RoiSet.zip", region("", CELL, 2), region("", OTHER, 5))
    dataset = ucseg.init(tmp_path, out=tmp_path / "d", validation="0", test="0")
    assert dataset.config.dims == 3
    for case in dataset.cases:
        assert case.mask is not None
        label = read_mask(case.mask, read_header(case.image)[:2]).array[0]
        assert {int(page) for page in np.argwhere(label)[:, 0]} == {1, 4}
        assert np.array_equal(label[1] > 0, (TRUE > 0) & (np.arange(16) < 10))
    tifffile.imwrite(tmp_path / "s0/second.tif", PIXELS[:, 0], imagej=True)
    with refused("regions-of-no-picture", naming=["RoiSet.zip", " 2 "]):
        drawings.pictures_of(tmp_path / "s0/RoiSet.zip")


@needs_roifile
def test_ovals_holes_and_what_is_no_region(tmp_path: Path) -> None:
    from roifile import ROI_TYPE, ImagejRoi

    oval, frame, box = ImagejRoi(), ImagejRoi(), ImagejRoi()
    oval.roitype, frame.roitype, box.roitype = ROI_TYPE.OVAL, ROI_TYPE.RECT, ROI_TYPE.RECT
    for one in (oval, frame, box):
        one.left, one.top, one.right, one.bottom = 2, 2, 10, 8
    oval.name, oval.group = "0004-0006", 3
    outer, inner = [2, 2, 10, 2, 10, 8, 2, 8], [4, 4, 8, 4, 8, 6, 4, 6]
    path = [n for ring in (outer, inner) for k in range(4) for n in (k > 0, *ring[2 * k : 2 * k + 2])]
    frame.multi_coordinates = np.array(path, np.float32)
    frame.shape_roi_size, frame.name = len(path), "frame"
    found = Address.of(f"{save(tmp_path / 'a.zip', frame, box)}#a.tif")
    assert segment_names(found) == {1: "frame"}
    expected = np.zeros(GRID[0], bool)
    expected[2:8, 2:10], expected[4:6, 4:8] = True, False
    assert np.array_equal(read_mask(found, GRID).array[0] > 0, expected)
    (tmp_path / "b.roi").write_bytes(oval.tobytes())
    found = Address.of(f"{tmp_path / 'b.roi'}#b.tif")
    assert segment_names(found) == {1: "group_3"}
    rows, columns = np.mgrid[:12, :16] + 0.5
    inside = ((rows - 5) / 3) ** 2 + ((columns - 6) / 4) ** 2 <= 1
    assert np.array_equal(read_mask(found, GRID).array[0] > 0, inside)


@needs_roifile
def test_regions_on_slices_that_are_not_there(tmp_path: Path) -> None:
    stack = (3, 12, 16), Geometry(np.eye(4), "px")
    for page, grid in ((4, stack), (0, stack), (2, GRID)):
        address = Address.of(f"{save(tmp_path / f'{page}.zip', region('cell', CELL, page))}#{page}.tif")
        with refused("annotation-slice", naming=[address, "'cell'"]):
            read_mask(address, grid)


@needs_roifile
def test_damaged_regions(tmp_path: Path) -> None:
    content = region("cell", CELL).tobytes()
    for number, broken in enumerate((content[:40], content[:70], b"Iout")):
        (tmp_path / f"{number}.roi").write_bytes(broken)
        with refused("scan-damaged", naming=f"{number}.roi"):
            drawings.pictures_of(tmp_path / f"{number}.roi")
    (tmp_path / "c.roi").write_bytes(b"none of ImageJ's")
    assert drawings.pictures_of(tmp_path / "c.roi") is None


@pytest.mark.skipif(importlib.util.find_spec("roifile") is not None, reason="roifile is there")
def test_without_the_library(tmp_path: Path) -> None:
    (tmp_path / "a.roi").write_bytes(b"Iout")
    with refused("regions-need-library", naming=["a.roi", "ucseg[imagej]"]):
        drawings.pictures_of(tmp_path / "a.roi")


def test_a_stack_says_its_spacing_and_its_channels(tmp_path: Path) -> None:
    about = {"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(tmp_path / "h.tif", PIXELS, imagej=True, metadata=about, resolution=(4, 2))
    scan = read_scan(tmp_path / "h.tif")
    assert np.array_equal(scan.array, PIXELS.transpose(1, 0, 2, 3))
    assert scan.geometry.spacing == pytest.approx((0.002, 0.0005, 0.00025))
    shape, geometry, channels = read_header(tmp_path / "h.tif")
    assert (shape, channels, geometry.unit) == ((5, 12, 16), 2, "mm")
    tifffile.imwrite(tmp_path / "c.tif", PIXELS[0], imagej=True, metadata={"axes": "CYX"})
    assert read_header(tmp_path / "c.tif")[::2] == ((12, 16), 2)
    assert np.array_equal(read_scan(tmp_path / "c.tif").array, PIXELS[0])
    tifffile.imwrite(tmp_path / "z.tif", PIXELS[:, 0], imagej=True, metadata={"axes": "ZYX"})  # without a unit
    assert read_scan(tmp_path / "z.tif").geometry.unit == "px"


def test_films_and_stacks_that_are_cut(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", PIXELS[:, 0], imagej=True, metadata={"axes": "TYX"})
    with refused("image-times", naming=["t.tif", "5 times"]):
        read_scan(tmp_path / "t.tif")
    description = "ImageJ=1.54f\nimages=900\nslices=900\n"
    Image.fromarray(PIXELS[0, 0]).save(tmp_path / "large.tif", tiffinfo={270: description})
    for read in (read_scan, read_header):
        with refused("stack-pages", naming=["large.tif", "900", "1 are there"]):
            read(tmp_path / "large.tif")
