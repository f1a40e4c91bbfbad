"""Scan to network grid and back: orientation, physical position, intensities."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from refusals import refused
from ucseg.batches.preprocess import (
    Intensities,
    NetworkImage,
    from_network_grid,
    grid_of,
    label_to_network_grid,
    resample,
    to_network_grid,
)
from ucseg.machine import room
from ucseg.planning.plan import Plan, plan_from
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array

SOURCE = Path("scan.nii.gz")
AS_IT_IS = {"normalisation": "ct", "ct_window": {"low": -1e9, "high": 1e9, "mean": 0, "std": 1}}
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def a_plan(**values: Any) -> Plan:
    dims = values.get("dims", 3)
    base = {"dims": dims, "unit": "mm", "spacing": 1.0, "patch": 32, "token": 8, "labelled_batch": 2}
    more = {"unlabelled_batch": 2, "channels": 1, "classes": {0: "background", 1: "a"}, "normalisation": "zscore"}
    return plan_from({**base, **more, **values}, "test")


def an_affine(order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], angle: float = 0.0) -> Array:
    """Scan axis a runs along world axis order[a], all turned by `angle` about an oblique axis, with some origin."""
    axes = np.eye(3)[:, list(order)] * np.array(signs) * np.array(spacing)
    cross = np.array([[0, -1, 0.5], [1, 0, -0.7], [-0.5, 0.7, 0]])
    turn = np.eye(3) if angle == 0 else torch.linalg.matrix_exp(torch.tensor(cross * angle)).numpy()
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    affine[:3, 3] = [-30, 17, 5]
    return affine


def world(shape: tuple[int, ...], affine: Array) -> Array:
    """World position of every voxel centre, n x S."""
    index = np.indices(shape).reshape(len(shape), -1)
    return (affine[:-1, :-1] @ index + affine[:-1, -1:]).reshape(-1, *shape)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_orientation_there_and_back_is_exact(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    affine = an_affine(order, signs, (1, 1, 1), angle=0.2)
    label = rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    image = rng.normal(size=(1, 5, 6, 7)).astype(np.float32)
    seen, grid = to_network_grid(Scan(image, Geometry(affine), SOURCE), a_plan(**AS_IT_IS))
    positions, _ = to_network_grid(
        Scan(world((5, 6, 7), affine), Geometry(affine), SOURCE), a_plan(channels=3, **AS_IT_IS)
    )

    for axis in range(3):  # canonical: the i-th axis runs towards +x, +y, +z of the world
        assert (np.diff(positions[axis], axis=axis) > 0).all()
    assert np.array_equal(from_network_grid(seen, grid), image)
    onehot = (label_to_network_grid(label, grid) == np.arange(3)[:, None, None, None]).astype(np.float32)
    assert np.array_equal(from_network_grid(onehot, grid).argmax(0), label)


@pytest.mark.parametrize("case", range(0, 48, 5))
def test_voxel_centres_stay_where_they_lie_in_the_world(case: int) -> None:
    """An image that holds its own world coordinates still holds them after resampling: no half-voxel shift."""
    order, signs = ORIENTATIONS[case]
    shape, spacing = (12, 20, 9), (1.5, 0.8, 3.0)
    affine = an_affine(order, signs, spacing)
    image = world(shape, affine).astype(np.float32)
    seen, grid = to_network_grid(
        Scan(image, Geometry(affine), SOURCE), a_plan(spacing=[1.2, 1.2, 1.2], channels=3, **AS_IT_IS)
    )

    corner = world(shape, affine).reshape(3, -1).min(axis=1) - np.abs(affine[:3, :3]).sum(axis=1) / 2
    expected = np.indices(grid.shape).reshape(3, -1) + 0.5
    expected = (corner[:, None] + expected * np.array(grid.spacing)[:, None]).reshape(3, *grid.shape)
    inside = (slice(None), *(slice(3, -3) for _ in range(3)))  # at the rim values are continued, not extrapolated
    # A widened kernel's centre of mass wobbles by a few hundredths of a voxel; half a voxel would be 0.6.
    np.testing.assert_allclose(seen[inside], expected[inside], atol=0.04)
    np.testing.assert_allclose((seen[inside] - expected[inside]).mean(axis=(1, 2, 3)), 0, atol=5e-3)
    assert all(abs(edge - 1.2) < 0.1 for edge in grid.spacing)

    back = from_network_grid(seen, grid)
    assert back.shape == image.shape
    inside = (slice(None), slice(3, -3), slice(4, -4), slice(2, -2))
    np.testing.assert_allclose(back[inside], image[inside], atol=0.08)


def test_finer_grid_is_linear_interpolation_as_scipy_does_it() -> None:
    image = np.random.default_rng(1).normal(size=(2, 7, 5, 6)).astype(np.float32)
    expected = np.stack([ndimage.zoom(c, (2, 3, 1.5), order=1, mode="nearest", grid_mode=True) for c in image])
    np.testing.assert_allclose(resample(image, (14, 15, 9)), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(11, 9), (40, 7), (64, 100)])
def test_any_grid_agrees_with_torch_antialiased(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).normal(size=(3, 37, 50)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], shape, mode="bilinear", align_corners=False, antialias=True
    )[0]
    np.testing.assert_allclose(resample(image, shape), expected.numpy(), atol=1e-5)


def test_a_fine_pattern_is_smoothed_away_rather_than_aliased() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), 64)[None, :, None] * np.ones((1, 1, 8), np.float32)
    coarse = resample(stripes, (37, 8))
    assert np.abs(coarse[:, 2:-2] - 0.5).max() < 0.05


def test_label_gets_the_class_that_fills_most_of_a_voxel() -> None:
    label = np.zeros((16, 16, 16), np.uint8)
    label[:, 4:, :] = 3
    label[:, 12:, :] = 1
    scan = Scan(label[None].astype(np.float32), Geometry(np.eye(4)), SOURCE)
    _, grid = to_network_grid(scan, a_plan(spacing=4.0))
    small = label_to_network_grid(label, grid)
    assert small.dtype == np.uint8
    assert [np.unique(small[:, row]).tolist() for row in range(4)] == [[0], [3], [3], [1]]


def test_label_survives_anisotropic_resampling() -> None:
    z, y, x = np.indices((40, 40, 12))
    ball = (((z - 20) ** 2 + (y - 20) ** 2 + (4 * (x - 6)) ** 2) < 15**2).astype(np.uint8)
    affine = np.diag([1, 1, 4, 1.0])
    _, grid = to_network_grid(Scan(ball[None].astype(np.float32), Geometry(affine), SOURCE), a_plan(spacing=1.5))
    seen = label_to_network_grid(ball, grid)
    assert grid.shape == (27, 27, 32)
    back = from_network_grid(seen[None].astype(np.float32), grid)[0] > 0.5
    assert 2 * (back & (ball > 0)).sum() / (back.sum() + ball.sum()) > 0.95


def test_slices_keep_their_own_distance() -> None:
    plan = a_plan(dims=2, slice_axis=1, spacing=[1.0, 5.0, 2.0])
    scan = Scan(np.ones((1, 8, 10, 12)), Geometry(np.diag([2, 3, 1, 1.0])), SOURCE)
    seen, grid = to_network_grid(scan, plan)
    assert seen.shape == (1, 16, 10, 6)
    assert grid.spacing == (1.0, 3.0, 2.0)
    sized = a_plan(dims=2, slice_axis=1, spacing=[1.0, 5.0, 2.0], size=48)
    assert to_network_grid(scan, sized)[1].shape == (48, 10, 48)


def test_plain_images_are_resized_whole() -> None:
    plan = a_plan(dims=2, unit="px", size=[48, 32], channels=3, normalisation="rgb")
    image = np.random.default_rng(0).integers(0, 256, (3, 50, 71), np.uint8)
    seen, grid = to_network_grid(Scan(image, Geometry(np.eye(3), "px"), SOURCE), plan)
    assert seen.shape == (3, 48, 32)
    assert from_network_grid(seen[:1], grid).shape == (1, 50, 71)


def test_intensities() -> None:
    geometry = Geometry(np.eye(4))
    rng = np.random.default_rng(0)
    mri = rng.normal(300, 40, (1, 8, 8, 8)).astype(np.int16)
    seen, _ = to_network_grid(Scan(mri, geometry, SOURCE), a_plan())
    assert abs(seen.mean()) < 1e-5 and abs(seen.std() - 1) < 1e-5 and seen.dtype == np.float32

    mri[:, :4] = 0  # air: with statistics of the body alone, the body is centred
    seen, _ = to_network_grid(Scan(mri, geometry, SOURCE), a_plan(nonzero=True))
    assert abs(seen[:, 4:].mean()) < 1e-5 and abs(seen[:, 4:].std() - 1) < 1e-5 and (seen[:, :4] < -5).all()

    window = {"low": -100, "high": 200, "mean": 50, "std": 25}
    ct = np.array([-1000, -100, 50, 75, 3000], np.int16).reshape(1, 5, 1, 1)
    seen, _ = to_network_grid(Scan(ct, geometry, SOURCE), a_plan(normalisation="ct", ct_window=window))
    assert seen.ravel().tolist() == [-6, -6, 0, 1, 6]

    flat = Geometry(np.eye(3), "px")
    rgb = a_plan(dims=2, unit="px", channels=3, normalisation="rgb")
    for top, kind in ((255, np.uint8), (65535, np.uint16), (1, np.float32)):
        image = np.array([0, top], kind).reshape(1, 1, 2).repeat(3, axis=0)
        assert to_network_grid(Scan(image, flat, SOURCE), rgb)[0].tolist() == [[[-2, 2]]] * 3

    unit = a_plan(dims=2, unit="px", normalisation="unit")
    image = np.array([10, 20, 30], np.uint8).reshape(1, 1, 3).repeat(3, axis=0)  # a grey image saved as RGB
    assert to_network_grid(Scan(image, flat, SOURCE), unit)[0].tolist() == [[[0, 0.5, 1]]]
    constant = Scan(np.full((1, 4, 4), 7, np.uint8), flat, SOURCE)
    for plan in (unit, a_plan(dims=2, unit="px")):
        assert (to_network_grid(constant, plan)[0] == 0).all()


def test_the_scan_itself_is_not_changed() -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    before = image.copy()
    to_network_grid(Scan(image, Geometry(np.eye(4)), SOURCE), a_plan())
    assert np.array_equal(image, before)


def test_scans_that_do_not_fit_the_plan_are_refused() -> None:
    volume = np.zeros((1, 4, 4, 4), np.float32)
    broken = volume.copy()
    broken[0, 1, 2, 3] = np.nan
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    flat = Geometry(np.eye(3), "px")
    for scan, plan, kind in (
        (Scan(broken, Geometry(np.eye(4)), SOURCE), a_plan(), "voxels-not-finite"),
        (Scan(volume, Geometry(np.zeros((4, 4))), SOURCE), a_plan(), "scan-geometry"),
        (Scan(volume, Geometry(np.eye(4)), SOURCE), a_plan(dims=2), "scan-not-plan-rank"),
        (Scan(colours[:1], flat, SOURCE), a_plan(dims=2), "scan-not-plan-unit"),
        (Scan(colours, flat, SOURCE), a_plan(dims=2, unit="px"), "scan-channels"),
        *(
            (Scan(colours.astype(kind), flat, SOURCE), a_plan(dims=2, unit="px", channels=3, normalisation="rgb"), code)
            for kind, code in (("float64", "colour-range"), ("uint32", "colour-range"), ("int16", "colour-range"))
        ),
    ):
        with refused(kind, naming=SOURCE):
            to_network_grid(scan, plan)


def test_a_grey_picture_for_a_model_of_colours_is_told_about_colours(tmp_path: Path) -> None:
    grey = Scan(np.zeros((1, 4, 4), np.uint8), Geometry(np.eye(3), "px"), tmp_path / "grey.png")
    with refused("scan-channels", naming=["grey.png", "in colours"]):
        to_network_grid(grey, a_plan(dims=2, unit="px", channels=3, normalisation="rgb"))


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_intensities_of_any_unit_are_normalised_alike(unit: float) -> None:
    """Diffusion in m^2/s is about 1e-9."""
    values = np.random.default_rng(0).random((1, 8, 8, 8))
    seen = Intensities(values * unit, a_plan(), SOURCE)(values * unit)
    np.testing.assert_allclose([seen.mean(), seen.std()], [0, 1], atol=1e-5)
    constant = np.full_like(values, unit)
    assert not Intensities(constant, a_plan(), SOURCE)(constant).any()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nonzero": True},
        {"normalisation": "unit"},
        {"normalisation": "ct", "ct_window": {"low": -50, "high": 80, "mean": 3, "std": 7}},
        {"dims": 2, "slice_axis": 1, "spacing": (1.0, 2.0, 0.5)},
    ],
)
def test_a_part_of_an_image_is_that_of_the_whole(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(-100, 100, (2, 9, 20, 13)).astype(np.int16)
    scan = Scan(array, Geometry(an_affine((2, 0, 1), (1, -1, 1), (2.0, 0.7, 1.0))), SOURCE)
    plan = a_plan(channels=2, **settings)
    whole, grid = to_network_grid(scan, plan)
    image = NetworkImage(scan, plan)
    for box in ((slice(0, 5), slice(2, 9), slice(1, 2)), (slice(3, 8), slice(0, 1), slice(4, grid.shape[2]))):
        np.testing.assert_array_equal(image[:, *box], whole[:, *box])
    moved = image.from_axis(2)
    assert moved.shape == (2, grid.shape[2], *grid.shape[:2])
    np.testing.assert_allclose(moved.whole(), np.moveaxis(whole, 3, 1), atol=1e-5)
    monkeypatch.setattr(room, "AT_A_TIME", 30)
    np.testing.assert_allclose(NetworkImage(scan, plan).whole(), whole, atol=1e-6)


def test_a_wrong_spacing_is_refused_by_arithmetic() -> None:
    """Its grid would have 10^15 voxels; a larger field of view at the same spacing is right."""
    plan = a_plan(most_voxels=1000)
    for edge in (30_000.0, 5.0):
        with refused("grid-too-large", naming=[SOURCE, f"{edge:.4g} x"]):
            grid_of((4, 4, 4), Geometry(np.diag([edge, edge, edge, 1])), plan, SOURCE)
    assert grid_of((40, 40, 40), Geometry(np.eye(4)), plan, SOURCE).shape == (40, 40, 40)
    assert grid_of((40, 40, 40), Geometry(np.diag([1.5, 1.5, 1.5, 1])), plan, SOURCE).shape == (60, 60, 60)
    assert grid_of((4, 4, 4), Geometry(np.diag([5.0, 5, 5, 1])), a_plan(), SOURCE).shape == (20, 20, 20)


def test_voxels_count_as_float32() -> None:
    """What rounds to the ends of the colours, or to nothing, is not more than that."""
    flat = Geometry(np.eye(3), "px")
    colours = np.array([[np.nextafter(1, 2), -1e-300]] * 3)[:, None]
    seen, _ = to_network_grid(Scan(colours, flat, SOURCE), a_plan(dims=2, unit="px", channels=3, normalisation="rgb"))
    assert seen.min() == -2 and seen.max() == 2
    tiny = np.full((1, 2, 2, 2), 1e-300)
    seen, _ = to_network_grid(Scan(tiny, Geometry(np.eye(4)), SOURCE), a_plan(nonzero=True))
    assert not seen.any()
