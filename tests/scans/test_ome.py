"""OME-TIFF and OME-Zarr: axes and sizes as the file states them, the finest level, masks inside."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import ucseg
from refusals import refused
from ucseg.folder.inputs import find_inputs
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.reading import read_header, read_mask, read_scan
from ucseg.scans.writing import mask_ending, write_like

needs_zarr = pytest.mark.skipif(importlib.util.find_spec("zarr") is None, reason="zarr is not there")
VOXELS = np.random.default_rng(0).integers(0, 60000, (2, 5, 12, 16)).astype(np.uint16)
"""Channels, slices, rows, columns."""
SIZES = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm",
         "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"}  # fmt: skip
SPACING = (0.002, 0.0005, 0.00025)


def save_zarr(
    path: Path, array: Any, axes: str, version: str, scale: list[float] | None = None, compressors: str = ""
) -> Path:
    """As the specification of 0.4 or 0.5 has it, with a coarser level before none."""
    import numcodecs
    import zarr

    blosc = zarr.codecs.BloscCodec() if version == "0.5" else numcodecs.Blosc()
    kinds = {"t": "time", "c": "channel"}
    about = [{"name": letter, "type": kinds.get(letter, "space")} for letter in axes]
    for one in about:
        if one["type"] == "space" and scale is not None:
            one["unit"] = "micrometer"
    transforms = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    half = [{"type": "scale", "scale": [2.0 * edge for edge in scale or [1.0] * len(axes)]}]
    levels = [{"path": "0", "coordinateTransformations": transforms}, {"path": "1", "coordinateTransformations": half}]
    said = {"multiscales": [{"version": version, "axes": about, "datasets": levels}]}
    group = zarr.open_group(path, mode="a", zarr_format=2 if version == "0.4" else 3)
    for level, content in (("0", array), ("1", array[..., ::2, ::2])):
        chunks = tuple(min(8, n) for n in content.shape)
        group.create_array(level, data=content, chunks=chunks, compressors=blosc if compressors else "auto")
    group.attrs.update(said if version == "0.4" else {"ome": said})
    return path


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.tiff", "a.tif"])
@pytest.mark.parametrize("axes", ["CZYX", "ZCYX"])
def test_ome_tiff(tmp_path: Path, name: str, axes: str) -> None:
    stored = VOXELS if axes == "CZYX" else VOXELS.swapaxes(0, 1)
    tifffile.imwrite(tmp_path / name, stored, ome=True, metadata={"axes": axes, **SIZES}, photometric="minisblack")
    scan = read_scan(tmp_path / name)
    assert np.array_equal(scan.array, VOXELS)
    assert scan.geometry.spacing == pytest.approx(SPACING)
    shape, geometry, channels = read_header(tmp_path / name)
    assert (shape, geometry.unit, channels) == ((5, 12, 16), "mm", 2)
    assert mask_ending(Address.of(tmp_path / name)) == (".tif" if name == "a.tif" else ".ome.tif")


def test_pictures_colours_and_films(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "rgb.ome.tif", colours, ome=True, photometric="rgb")
    assert np.array_equal(read_scan(tmp_path / "rgb.ome.tif").array, np.moveaxis(colours, -1, 0))
    tifffile.imwrite(tmp_path / "flat.ome.tif", VOXELS[0, 0], ome=True, metadata={"axes": "YX", **SIZES})
    assert read_header(tmp_path / "flat.ome.tif")[0] == (12, 16)
    assert read_scan(tmp_path / "flat.ome.tif").geometry.unit == "px"
    tifffile.imwrite(tmp_path / "film.ome.tif", VOXELS[0], ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    with refused("image-times", naming=["film.ome.tif", "5 times"]):
        read_header(tmp_path / "film.ome.tif")
    (tmp_path / "no.ome.tif").write_bytes(b"no TIFF at all")
    with refused("scan-damaged", naming="no.ome.tif"):
        read_scan(tmp_path / "no.ome.tif")
    tifffile.imwrite(tmp_path / "other.ome.tif", VOXELS[0, 0], ome=False)
    with refused("scan-content", naming="other.ome.tif"):
        read_scan(tmp_path / "other.ome.tif")


def test_masks_are_written_with_the_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", VOXELS[0], ome=True, metadata={"axes": "ZYX", **SIZES}, photometric="minisblack"
    )
    scan = read_scan(tmp_path / "a.ome.tif")
    for array in (scan.array[0] > 30000, scan.array[0] / np.float32(7)):
        write_like(array, scan, tmp_path / "mask.ome.tif")
        found = read_mask(tmp_path / "mask.ome.tif")
        assert np.array_equal(found.array[0], array)
        assert found.geometry.spacing == pytest.approx(SPACING)
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:  # an independent reader
        assert file.series[0].axes == "ZYX"
        assert 'PhysicalSizeZ="2.0"' in (file.ome_metadata or "")


@needs_zarr
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    path = save_zarr(tmp_path / "a.ome.zarr", VOXELS[None], "tczyx", version, [1.0, 1.0, 2.0, 0.5, 0.25])
    scan = read_scan(path)
    assert np.array_equal(scan.array, VOXELS)
    assert scan.geometry.spacing == pytest.approx(SPACING)
    assert read_header(path)[::2] == ((5, 12, 16), 2)
    assert Address.of(path).stem == "a"
    before = content_of(Address.of(path))
    write_like(scan.array[0] > 30000, scan, tmp_path / f"mask{mask_ending(Address.of(path))}")
    assert read_mask(tmp_path / "mask.ome.tif").geometry.spacing == pytest.approx(SPACING)
    flat = save_zarr(tmp_path / "flat.zarr", VOXELS[0, 0], "yx", version)
    assert np.array_equal(read_scan(flat).array[0], VOXELS[0, 0])
    chunk = max((file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr"))),
                key=lambda file: file.stat().st_size)  # fmt: skip
    chunk.write_bytes(chunk.read_bytes()[:-4] + b"gone")
    assert content_of(Address.of(path)) != before


@needs_zarr
def test_a_zarr_that_is_no_image_or_of_several_times(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with refused("scan-content", naming="empty.zarr"):
        read_scan(tmp_path / "empty.zarr")
    film = save_zarr(tmp_path / "film.zarr", VOXELS, "tzyx", "0.4")
    with refused("image-times", naming="film.zarr"):
        read_header(film)
    about = json.loads((film / ".zattrs").read_text())
    del about["multiscales"][0]["datasets"]
    (film / ".zattrs").write_text(json.dumps(about))
    with refused("scan-damaged", naming="film.zarr"):
        read_header(film)


@needs_zarr
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_piece_that_is_cut_short(tmp_path: Path, version: str) -> None:
    """The library gives other numbers for it, without an error."""
    path = save_zarr(tmp_path / "a.zarr", VOXELS[0], "zyx", version, compressors="blosc")
    assert np.array_equal(read_scan(path).array[0], VOXELS[0])
    piece = path / ("0/0.0.0" if version == "0.4" else "0/c/0/0/0")
    whole = piece.read_bytes()
    for size in (0, 10, 50, len(whole) - 1):
        piece.write_bytes(whole[:size])
        with refused("scan-damaged", naming="a.zarr"):
            read_scan(path)


@needs_zarr
def test_masks_inside_an_ome_zarr_make_a_dataset(tmp_path: Path) -> None:
    import zarr

    for n in range(3):
        path = save_zarr(tmp_path / f"s/a{n}.zarr", VOXELS[0] + n, "zyx", "0.4", [2.0, 0.5, 0.25])
        if n < 2:
            label = np.zeros(VOXELS.shape[1:], np.uint8)
            label[1:4, 3:8, 4:9] = 1
            save_zarr(path / "labels/cells", label, "zyx", "0.4", [2.0, 0.5, 0.25])
            zarr.open_group(path / "labels", mode="a", zarr_format=2).attrs["labels"] = ["cells"]
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d", validation="0", test="0")
    assert (len(dataset.labelled), len(dataset.unlabelled), dataset.config.dims) == (2, 1, 3)
    mask = dataset.labelled[0].mask
    assert mask is not None
    assert int(read_mask(mask).array.sum()) == 75
    found = find_inputs([tmp_path / "s", tmp_path / "s/a1.zarr"], tmp_path / "out")
    assert [one.case for one in found.scans] == ["a0", "a1", "a2"]


@pytest.mark.skipif(importlib.util.find_spec("zarr") is not None, reason="zarr is there")
def test_without_the_library(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with refused("ome-needs-library", naming=["a.zarr", "ucseg[ome]"]):
        read_scan(tmp_path / "a.zarr")
