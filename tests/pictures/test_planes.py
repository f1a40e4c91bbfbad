"""The slices that people look at: which ones, which way up, and what stands at their edges."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ucseg.pictures.planes import Planes
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_scan
from ucseg.scans.scan import Geometry
from ucseg.types import Array

NIFTI = Address.of("x.nii.gz")
SHAPE = (5, 6, 4)


def turns() -> list[Array]:
    """All orders and directions that three axes may have, with one long step."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[list(order)] * signs * np.array([1.0, 1.0, 3.0])
            found.append(affine)
    return found


@pytest.mark.parametrize("affine", turns())
def test_a_patient_is_seen_from_the_feet_from_the_front_or_from_the_left(affine: Array) -> None:
    """Up is the head or the front, left is the patient's right or front, whatever order the file's axes have."""
    voxels = np.indices(SHAPE).reshape(3, -1)
    world = (affine[:3, :3] @ voxels).reshape(3, *SHAPE)  # right, anterior, superior of each voxel
    planes = Planes.of(Geometry(affine), SHAPE, NIFTI)
    seen = dict(zip("RAS", (planes.slices(axis) for axis in world), strict=True))
    assert planes.plane == ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(affine[:3, 2])))]
    assert planes.letters is not None
    left, right, top, bottom = planes.letters
    assert (np.diff(seen[left], axis=2) < 0).all()
    assert (np.diff(seen[top], axis=1) < 0).all()
    assert (right, bottom) == tuple({"R": "L", "A": "P", "S": "I"}[one] for one in (left, top))
    assert (planes.whole(planes.slices(world[0])) == world[0]).all()
    assert planes.axis == 2
    own = planes.slices(np.indices(SHAPE)[2])  # of each voxel, its number along that axis of the file
    assert (own == np.array([planes.number(index) for index in range(4)])[:, None, None]).all()


def test_slices_are_axial_where_no_axis_is_coarser_by_much_and_a_single_slice_is_itself() -> None:
    def plane(*edges: float, shape: tuple[int, ...] = SHAPE) -> str:
        return Planes.of(Geometry(np.diag([*edges, 1.0])), shape, NIFTI).plane

    assert plane(1, 1, 1) == plane(1.03, 1, 1) == plane(2, 2, 1) == "axial"
    assert (plane(3, 1, 1), plane(1, 3, 1)) == ("sagittal", "coronal")
    assert plane(1, 1, 1, shape=(1, 6, 4)) == "sagittal"
    assert Planes.of(Geometry(np.eye(4)), SHAPE, NIFTI, own=1).plane == "coronal"


def test_the_fullest_slice_keeps_its_number_in_the_file() -> None:
    mask = np.zeros((6, 7, 9), np.uint8)
    mask[2:4, 2:4, 7] = 1
    for affine in turns():
        planes = Planes.of(Geometry(affine), mask.shape, NIFTI)
        assert planes.where(planes.fullest(mask)).endswith(" slice k 7 of 0 to 8")
        assert planes.slices(mask)[planes.fullest(mask)].sum() == 4


def test_without_an_orientation_there_are_no_letters() -> None:
    unplaced = Planes.of(Geometry(np.diag([1.0, 1.0, 3.0, 1.0]), placed=False), SHAPE, NIFTI)
    assert (unplaced.letters, unplaced.plane, unplaced.where(1)) == (None, "", "slice k 1 of 0 to 3")
    array = np.arange(120).reshape(SHAPE)
    for name, across in (("x.tif", 0), ("x.ome.tif", 0), ("x.npy", 2)):
        for geometry in (Geometry(np.eye(4), "px"), Geometry(np.diag([2.0, 2.0, 2.0, 1.0]), placed=False)):
            planes = Planes.of(geometry, SHAPE, Address.of(name))
            assert (planes.letters, planes.axis) == (None, across)
            assert (planes.slices(array) == np.moveaxis(array, across, 0)).all(), "rows and columns as they are stored"
            assert (planes.whole(planes.slices(array)) == array).all()
    picture = Planes.of(Geometry(np.diag([3.0, 2.0, 1.0]), placed=False), (5, 6), Address.of("x.png"))
    assert (picture.letters, picture.where(0), picture.stretch) == (None, "", 1.5)
    assert (picture.slices(array[..., 0])[0] == array[..., 0]).all()


@pytest.mark.parametrize("ending", ["mha", "nrrd", "nii.gz"])
def test_a_picture_in_a_format_of_volumes_is_not_laid_on_its_side(ending: str, tmp_path: Path) -> None:
    rows = np.arange(54, dtype=np.uint8).reshape(6, 9)
    file = tmp_path / f"x.{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rows), file)
    scan = read_scan(Address.of(file))
    planes = Planes.of(scan.geometry, scan.array.shape[1:], Address.of(file))
    assert (planes.slices(scan.array[0])[0] == rows).all()


def test_an_nrrd_file_without_a_space_has_no_orientation(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 5 6\nencoding: raw\n"
    for fields, placed in (
        ("spacings: 1 1 3", False),
        ("space: right-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,3)", True),
    ):
        file = tmp_path / f"{placed}.nrrd"
        file.write_bytes(f"{head}{fields}\n\n".encode() + bytes(120))
        shape, geometry, _ = read_header(Address.of(file))
        assert geometry.states_place == placed
        assert (Planes.of(geometry, shape, Address.of(file)).letters is not None) == placed
