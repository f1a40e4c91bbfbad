"""Masks that their headers put elsewhere are refused in every format; pairs that only look so are not."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from refusals import refused
from ucseg.dataset.masks import mask_offset, read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_scan
from ucseg.scans.same_grid import offset
from ucseg.scans.scan import LPS, Geometry
from ucseg.types import Array

SHAPE = (8, 9, 7)
AFFINE = np.array([[1.0, 0, 0, 11], [0, 1.0, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
TWO = DatasetConfig(name="d", root=".", dims=3, modality="mri", channels=1, classes={0: "background", 1: "organ"})


def label() -> Array:
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:6, 1:5] = 1
    return array


def write(path: Path, array: Array, affine: Array = AFFINE) -> None:
    """By nibabel or SimpleITK, none of ucseg's code."""
    if path.suffix in (".gz", ".nii"):
        nib.save(nib.Nifti1Image(array, affine), path)
    elif path.suffix == ".mgz":
        nib.save(nib.freesurfer.MGHImage(array, affine), path)
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((LPS[:, None] * affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((LPS * affine[:3, 3]).tolist())
        sitk.WriteImage(image, str(path))


def turned() -> Array:
    """The same box, stored from the other end of two axes."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = SHAPE[0] - 1, SHAPE[1] - 1
    return AFFINE @ flip


def shifted() -> Array:
    return AFFINE + np.outer([0, 0, 6, 0], [0, 0, 0, 1])


WRONG = {"turned": turned(), "shifted": shifted(), "other spacing": AFFINE @ np.diag([1, 1, 2, 1])}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("ending", [".nii.gz", ".mgz", ".nrrd", ".mha"])
def test_a_mask_that_lies_elsewhere_is_refused_in_every_format(tmp_path: Path, ending: str, wrong: str) -> None:
    image, right, off = (tmp_path / f"{name}{ending}" for name in ("image", "right", "off"))
    for path, affine in ((image, AFFINE), (right, AFFINE), (off, WRONG[wrong])):
        write(path, label(), affine)
    scan = read_scan(image)
    np.testing.assert_array_equal(read_label(right, SHAPE, TWO, scan.geometry), label())
    assert mask_offset(Address.of(right), SHAPE, scan.geometry).close
    with refused("geometry-differs", naming=off):
        read_label(off, SHAPE, TWO, scan.geometry)
    assert mask_offset(Address.of(off), SHAPE, scan.geometry).elsewhere


def test_a_part_that_lies_elsewhere_is_not_joined(tmp_path: Path) -> None:
    write(tmp_path / "m_a.nii.gz", label())
    write(tmp_path / "m_b.nii.gz", label()[::-1, ::-1].copy(), turned())
    with refused("mask-parts-place", naming=["m_a", "m_b"]):
        read_label(tmp_path / "m_{a,b}.nii.gz", SHAPE, TWO, Geometry(AFFINE))


@pytest.mark.parametrize("unit", ["mm", "micron", "meter", "unknown"])
@pytest.mark.parametrize(("sform", "qform"), list(product((0, 1, 2, 4), (0, 1, 2))))
def test_a_mask_that_itk_wrote_from_its_image_is_right(tmp_path: Path, sform: int, qform: int, unit: str) -> None:
    """ITK chooses another one of a NIfTI's two geometries than nibabel, and its own where there is none."""
    image = nib.Nifti1Image(label().astype(np.float32), None)
    image.header.set_zooms((1, 1, 2))
    other = AFFINE @ np.diag([-1.0, 1, 1, 1]) + np.outer([9, 9, 9, 0], [0, 0, 0, 1])
    image.header.set_qform(other, qform)
    image.header.set_sform(AFFINE, sform)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "image.nii")
    mask = sitk.GetImageFromArray(np.ascontiguousarray(label().T))
    mask.CopyInformation(sitk.ReadImage(str(tmp_path / "image.nii")))
    for name in ("mask.nii.gz", "mask.nrrd"):
        sitk.WriteImage(mask, str(tmp_path / name))
        scan = read_scan(tmp_path / "image.nii")
        np.testing.assert_array_equal(read_label(tmp_path / name, SHAPE, TWO, scan.geometry), label())
        found = mask_offset(Address.of(tmp_path / name), SHAPE, scan.geometry)
        agrees = (sform, qform) != (0, 0) and not (sform > 1 and qform > 0)
        assert found.close
        assert (found.only_by == "") == agrees, found


def test_a_mask_with_the_numbers_but_not_the_unit_of_its_image_is_right(tmp_path: Path) -> None:
    image = nib.Nifti1Image(label(), AFFINE * [[500], [500], [500], [1]])
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "image.nii")
    write(tmp_path / "mask.nii", label(), image.affine)
    geometry = read_header(tmp_path / "image.nii")[1]
    assert geometry.spacing == pytest.approx((0.5, 0.5, 1.0))
    found = mask_offset(Address.of(tmp_path / "mask.nii"), SHAPE, geometry)
    assert found.close and "unit" in found.only_by


def test_half_a_voxel_is_reported_and_a_whole_one_is_refused() -> None:
    """Half: the corner of a voxel in place of its centre, also where voxels are longer along an axis."""
    for voxels in (0.5, 1.0):
        moved = Geometry(AFFINE + np.outer(AFFINE @ [voxels, voxels, voxels, 0], [0, 0, 0, 1]))
        found = offset(moved, Geometry(AFFINE), SHAPE)
        assert found.voxels == pytest.approx(voxels)
        assert found.distance == pytest.approx(voxels * 6**0.5)
        assert (found.close, found.elsewhere) == (False, voxels == 1)


def test_where_a_header_states_no_place_spacings_are_compared() -> None:
    placed, bare = Geometry(AFFINE), Geometry(np.diag([1.0, 1, 2, 1]), placed=False)
    assert offset(bare, placed, SHAPE).close and offset(bare, placed, SHAPE).only_by
    assert offset(bare, bare, SHAPE) == offset(placed, placed, SHAPE), "nothing to report"
    longer = Geometry(np.diag([1.0, 1, 4, 1]), placed=False)
    assert offset(longer, placed, SHAPE).voxels == pytest.approx(SHAPE[2] - 1)
    empty = Geometry(np.eye(4), placed=False)
    assert offset(empty, placed, SHAPE).close, "edges of one in a header without place are no statement"
