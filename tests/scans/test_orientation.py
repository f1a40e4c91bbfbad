"""The canonical orientation: the axis order and directions closest to right-anterior-superior, and the way back."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from ucseg.errors import UserError
from ucseg.scans.orientation import canonical_axes, from_canonical, to_canonical
from ucseg.scans.scan import Geometry

SOURCE = Path("scan.nii.gz")
EVERY_WAY = [*product(permutations(range(3)), product((1, -1), repeat=3))]


def geometry(order: tuple[int, ...], signs: tuple[int, ...], turn: float = 0.0) -> Geometry:
    """A scan whose axis i runs along world axis order[i], forward or backward, turned about the z axis by degrees."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (1 + axis)
    angle = np.deg2rad(turn)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Geometry(turned @ affine)


@pytest.mark.parametrize(("order", "signs"), EVERY_WAY)
@pytest.mark.parametrize("turn", [0.0, 30.0, -40.0])
def test_each_of_the_48_ways_to_store_a_volume_becomes_the_same_array(
    order: tuple[int, ...], signs: tuple[int, ...], turn: float
) -> None:
    world = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # C x right x anterior x superior
    stored = world.transpose(0, *(1 + axis for axis in order))
    stored = stored[(slice(None), *(slice(None, None, sign) for sign in signs))]
    axes = canonical_axes(geometry(order, signs, turn), SOURCE)
    assert np.array_equal(to_canonical(stored, *axes), world)
    assert np.array_equal(from_canonical(world, *axes), stored)


def test_canonical_axes_run_to_the_right_the_front_and_the_top() -> None:
    lps = geometry((0, 1, 2), (-1, -1, 1))  # DICOM's: left, posterior, superior
    assert canonical_axes(lps, SOURCE) == ((0, 1, 2), (True, True, False))
    psr = geometry((1, 2, 0), (-1, 1, 1))  # slices from left to right
    order, flips = canonical_axes(psr, SOURCE)
    assert (order, flips) == ((2, 0, 1), (False, True, False))
    assert [psr.spacing[axis] for axis in order] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("dims", [2, 3])
def test_plain_images_stay_as_they_are(dims: int) -> None:
    affine = np.diag([-1.0] * dims + [1.0])
    assert canonical_axes(Geometry(affine, "px"), SOURCE) == (tuple(range(dims)), (False,) * dims)


@pytest.mark.parametrize("broken", [np.diag([1.0, 0.0, 1.0, 1.0]), np.full((4, 4), np.nan), np.zeros((4, 4))])
def test_axes_without_a_direction_are_refused(broken: np.ndarray) -> None:
    with pytest.raises(UserError, match=SOURCE.name):
        canonical_axes(Geometry(broken), SOURCE)


def test_a_real_scan_stored_from_the_back_to_the_front(shared_data: Path) -> None:
    """The spine of the fixtures is stored posterior-superior-right; nibabel's canonical copy is the reference."""
    nibabel = pytest.importorskip("nibabel")
    (file, *_) = sorted((shared_data / "fixtures" / "psr").glob("*.nii*"))
    stored = nibabel.load(file)
    axes = canonical_axes(Geometry(stored.affine), file)
    assert axes != ((0, 1, 2), (False,) * 3)
    expected = np.asarray(nibabel.as_closest_canonical(stored).dataobj)
    assert np.array_equal(to_canonical(np.asarray(stored.dataobj)[None], *axes)[0], expected)
