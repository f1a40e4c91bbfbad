"""GIF masks, MINC, and NIfTI packed by Zstandard."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_mask, read_scan
from ucseg.scans.writing import mask_ending, write_like

MASK = (np.random.default_rng(0).random((9, 7)) > 0.5).astype(np.uint8)


def test_gif_masks_of_greys_hold_greys_whatever_their_colours_are_numbered(tmp_path: Path) -> None:
    for name, palette, index in (
        ("black_first.gif", [0, 0, 0, 255, 255, 255], MASK),
        ("white_first.gif", [255, 255, 255, 0, 0, 0], 1 - MASK),
    ):
        image = Image.fromarray(index, "P")
        image.putpalette(palette)
        image.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name).array[0], 255 * MASK)
    coloured = Image.fromarray(2 * MASK, "P")
    coloured.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    coloured.save(tmp_path / "coloured.gif", optimize=False)
    assert np.array_equal(read_mask(tmp_path / "coloured.gif").array[0], 2 * MASK), "numbers of colours are classes"
    scan = read_scan(tmp_path / "coloured.gif")
    assert (scan.array.shape, read_header(tmp_path / "coloured.gif")[0]) == ((3, 9, 7), (9, 7))
    assert mask_ending(Address.of(tmp_path / "coloured.gif")) == ".png"
    film = tmp_path / "film.gif"
    Image.fromarray(255 * MASK).save(film, save_all=True, append_images=[Image.fromarray(255 - 255 * MASK)])
    with refused("image-pages", naming=film):
        read_mask(film)


def minc(
    path: Path, array: np.ndarray, axes: str, starts: dict[str, float], steps: dict[str, float], **cosines: object
):
    """A MINC 2 file: the voxels as real values, its axes named in the order of the array."""
    with h5py.File(path, "w") as file:
        info = file.create_group("minc-2.0/info")
        file.create_group("minc-2.0/dimensions")
        for axis in axes:
            one = file["minc-2.0/dimensions"].create_dataset(f"{axis}space", data=np.int32(0))
            one.attrs["start"], one.attrs["step"] = starts[axis], steps[axis]
            one.attrs["length"] = np.int32(array.shape[axes.index(axis)])
            one.attrs["spacing"] = np.bytes_("regular__")
            one.attrs["direction_cosines"] = cosines.get(axis, np.eye(3)["xyz".index(axis)])
        image = file.create_group("minc-2.0/image/0")
        voxels = image.create_dataset("image", data=array)
        voxels.attrs["dimorder"] = np.bytes_(",".join(f"{axis}space" for axis in axes))
        voxels.attrs["valid_range"] = np.array([0.0, 255.0])
        for name, value in (("image-min", 0.0), ("image-max", 255.0)):
            image.create_dataset(name, data=value).attrs["dimorder"] = np.bytes_("")
        info.attrs["x"] = 1
    return path


def test_minc_lies_where_its_axes_say(tmp_path: Path) -> None:
    """World coordinates are RAS, starts run along the cosines, and the array may run z, y, x."""
    volume = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    starts, steps = {"x": -10.0, "y": 20.0, "z": 5.0}, {"x": 1.0, "y": -2.0, "z": 3.0}
    turned = {"x": np.array([0.8, 0.6, 0.0]), "y": np.array([-0.6, 0.8, 0.0])}
    for axes, cosines in (("zyx", {}), ("xyz", {}), ("zyx", turned)):
        path = minc(tmp_path / f"{axes}{len(cosines)}.mnc", volume, axes, starts, steps, **cosines)
        scan = read_scan(path)
        assert np.array_equal(scan.array[0], volume)
        voxel = (1, 2, 3)
        along = [starts[axis] + steps[axis] * voxel[axes.index(axis)] for axis in "xyz"]
        directions = [np.array(cosines.get(axis, np.eye(3)[i])) for i, axis in enumerate("xyz")]
        expected = sum(length * direction for length, direction in zip(along, directions, strict=True))
        assert np.allclose((scan.geometry.affine @ [*voxel, 1])[:3], expected)
        assert read_header(path)[0] == (4, 5, 6)
        mask = tmp_path / f"mask{mask_ending(Address.of(path))}"
        write_like((volume > 50).astype(np.uint8), scan, mask)
        assert np.allclose(nib.load(mask).affine, scan.geometry.affine, atol=1e-5)
        assert np.array_equal(read_mask(mask).array[0], volume > 50)


@pytest.mark.parametrize("name", ["tiny.mnc", "small.mnc"])
def test_minc_of_other_programs(name: str) -> None:
    path = Path(nib.__file__).parent / "tests/data" / name
    if not path.is_file():
        pytest.skip(f"nibabel brings no {name} here")
    known = nib.load(path)
    scan = read_scan(path)
    assert np.allclose(scan.array[0], known.get_fdata(), rtol=1e-6)
    assert np.allclose(scan.geometry.affine, known.affine)
    with refused("scan-axes", naming="minc2_4d.mnc"):
        read_scan(path.with_name("minc2_4d.mnc"))


def test_nifti_packed_by_zstandard(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.zst"
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    if importlib.util.find_spec("backports") is None or importlib.util.find_spec("backports.zstd") is None:
        path.write_bytes(b"\x28\xb5\x2f\xfd packed")
        with refused("nifti-zstd", naming=[path, "ucseg[zstd]"]):
            read_scan(path)
        return
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    scan = read_scan(path)
    assert np.array_equal(scan.array[0], volume)
    assert scan.geometry.spacing == (1, 2, 3)
    assert (Address.of(path).stem, mask_ending(Address.of(path))) == ("a", ".nii.zst")
    write_like((volume > 9).astype(np.uint8), scan, tmp_path / "mask.nii.zst")
    assert np.array_equal(read_mask(tmp_path / "mask.nii.zst").array[0], volume > 9)
    noise = np.random.default_rng(0).integers(0, 30000, (60, 60, 60)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-999])
    with refused("scan-damaged", naming=path):
        read_scan(path)
