"""A mask lies where its scan lies: all 48 axis orders and directions, anisotropic voxels, an oblique scanner bed.

Scans are written by nibabel or SimpleITK and masks are read by SimpleITK, so that an error of our own reader and writer
cannot cancel itself out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image, ImageSequence
from threshold_run import BRIGHT, DARK, make_run, plan_2d, plan_3d

from ucseg.cli.predict import predict

SPACING = (1.0, 1.5, 3.0)
SHAPE = (26, 21, 13)
PLANS = {
    "same": plan_3d(),
    "resampled": plan_3d(spacing=(2.0, 4.5, 1.5)),
    "sliced": plan_3d(dims=2, slice_axis=1, patch=(16, 16), token=(8, 8)),
}
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def phantom() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """An L-shaped bright body that no turn or mirror maps to itself, in a dark noise; and an oblique affine."""
    image = np.random.default_rng(0).uniform(0, 0.2, SHAPE).astype(np.float32)
    image[4:12, 3:15, 2:5] = 0.9
    image[4:20, 3:9, 2:10] = 0.9
    image[0, 0, 0], image[-1, -1, -1] = 0, 1  # fixes what min and max are
    a, b = np.deg2rad([12, -7])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING, (-31.0, 12.5, 7.25)
    return image, affine


def oriented(
    image: npt.NDArray[np.float32], affine: npt.NDArray[np.float64], order: tuple[int, ...], signs: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """The same body in the same place, stored with other axes."""
    to_first = np.zeros((4, 4))
    to_first[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        to_first[old, new] = sign
        to_first[old, 3] = 0 if sign > 0 else image.shape[old] - 1
    stored = image.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    return np.ascontiguousarray(stored), affine @ to_first


def name(order: tuple[int, ...], signs: tuple[int, ...]) -> str:
    return "".join("xyz"[axis] + ("p" if sign > 0 else "n") for axis, sign in zip(order, signs, strict=True))


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("geometry")
    image, affine = phantom()
    (folder / "scans").mkdir()
    for order, signs in ORIENTATIONS:
        stored = nib.Nifti1Image(*oriented(image, affine, order, signs))
        stored.set_qform(stored.affine, code=1)
        stored.set_sform(stored.affine, code=1)
        nib.save(stored, folder / "scans" / f"{name(order, signs)}.nii")
    with pytest.MonkeyPatch.context() as patch:
        for kind, plan in PLANS.items():
            run = make_run(folder / f"run-{kind}", plan, patch)
            predict(run, [folder / "scans"], out=folder / kind, device="cpu")
        yield folder


def assert_same_place(found: sitk.Image, scan: sitk.Image) -> None:
    assert found.GetSize() == scan.GetSize()
    np.testing.assert_allclose(found.GetSpacing(), scan.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(found.GetOrigin(), scan.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(found.GetDirection(), scan.GetDirection(), atol=1e-5)


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
def test_mask_and_uncertainty_lie_on_the_bright_voxels(
    predicted: Path, kind: str, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    file = f"{name(order, signs)}.nii"
    scan = sitk.ReadImage(str(predicted / "scans" / file))
    mask = sitk.ReadImage(str(predicted / kind / file))
    uncertainty = sitk.ReadImage(str(predicted / kind / "uncertainty" / file))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert uncertainty.GetPixelID() == sitk.sitkFloat32
    assert_same_place(mask, scan)
    assert_same_place(uncertainty, scan)

    bright = sitk.GetArrayFromImage(scan) > 0.5
    found = sitk.GetArrayFromImage(mask) == 1
    doubt = sitk.GetArrayFromImage(uncertainty)
    if kind != "resampled":
        np.testing.assert_array_equal(found, bright)
        np.testing.assert_allclose(doubt, np.where(bright, BRIGHT, DARK), atol=1e-6)
    else:
        # The body's faces lie on faces of the network's grid: only its edges may be rounded off, and nothing moves.
        assert 2 * (found & bright).sum() / (found.sum() + bright.sum()) > 0.95
        centres = [np.argwhere(which).mean(axis=0) for which in (found, bright)]
        assert np.abs(centres[0] - centres[1]).max() < 0.1
        assert doubt[bright].mean() < BRIGHT + 0.1
        assert doubt[~bright].mean() > DARK - 0.1


@pytest.mark.parametrize("kind", PLANS)
def test_every_orientation_gives_the_same_body_in_the_world(predicted: Path, kind: str) -> None:
    """Each mask, brought to one world grid by ITK, is the same: the phantom's place in millimetres."""
    reference = sitk.ReadImage(str(predicted / kind / f"{name((0, 1, 2), (1, 1, 1))}.nii"))
    expected = sitk.GetArrayFromImage(reference)
    assert expected.sum() > 500
    for order, signs in ORIENTATIONS:
        mask = sitk.ReadImage(str(predicted / kind / f"{name(order, signs)}.nii"))
        brought = sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(brought), expected)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_formats_keep_their_geometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    image = sitk.GetImageFromArray(phantom()[0].transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    image.SetOrigin((10.0, -20.0, 5.5))
    image.SetDirection((0, 1, 0, 0, 0, -1, -1, 0, 0))
    scan = tmp_path / f"scan{ending}"
    sitk.WriteImage(image, str(scan))
    plan = plan_3d(spacing=(1.5, 3.0, 1.0))  # this direction's columns: i runs up and down, j sideways, k front to back
    run = make_run(tmp_path / "run", plan, monkeypatch)
    predict(run, [scan], out=tmp_path / "out", device="cpu", probabilities=True, members=True)
    expected = sitk.GetArrayFromImage(image) > 0.5
    masks = [f"scan{ending}", f"members/low/scan{ending}", f"members/high/scan{ending}"]
    for file in masks:
        mask = sitk.ReadImage(str(tmp_path / "out" / file))
        assert_same_place(mask, image)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask) == 1, expected)
    maps = [sitk.ReadImage(str(tmp_path / "out/probabilities" / c / f"scan{ending}")) for c in ("background", "organ")]
    for one in maps:
        assert_same_place(one, image)
    values = [sitk.GetArrayFromImage(one) for one in maps]
    np.testing.assert_allclose(values[0] + values[1], 1, atol=1e-6)
    np.testing.assert_array_equal(values[1] > 0.5, expected)


@pytest.mark.parametrize("ending", [".nii.gz", ".mgz", ".nrrd", ".mha"])
def test_other_formats_in_every_orientation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Scans written and masks read by nibabel or SimpleITK: in the scan's place, on its bright voxels."""
    image, affine = np.zeros((8, 7, 6), np.float32), phantom()[1]
    image[1:4, 1:5, 1:3] = image[1:7, 1:3, 1:5] = 0.9
    image[-1, -1, -1] = 1
    (tmp_path / "scans").mkdir()
    for order, signs in ORIENTATIONS:
        stored, place = oriented(image, affine, order, signs)
        file = tmp_path / "scans" / f"{name(order, signs)}{ending}"
        if ending == ".mgz":
            nib.save(nib.freesurfer.mghformat.MGHImage(stored, place), file)
            continue
        scan = sitk.GetImageFromArray(stored.T)
        spacing = np.linalg.norm(place[:3, :3], axis=0)
        lps = np.array([-1, -1, 1])
        scan.SetSpacing(spacing.tolist())
        scan.SetOrigin((place[:3, 3] * lps).tolist())
        scan.SetDirection((place[:3, :3] / spacing * lps[:, None]).ravel().tolist())
        sitk.WriteImage(scan, str(file))
    run = make_run(tmp_path / "run", PLANS["same"], monkeypatch)
    predict(run, [tmp_path / "scans"], out=tmp_path / "out", device="cpu")
    for order, signs in ORIENTATIONS:
        stored, place = oriented(image, affine, order, signs)
        file = f"{name(order, signs)}{ending}"
        if ending == ".mgz":
            mask = nib.load(tmp_path / "out" / file)
            np.testing.assert_allclose(mask.affine, place, atol=1e-4)
            found = np.asanyarray(mask.dataobj)
        else:
            read = sitk.ReadImage(str(tmp_path / "out" / file))
            assert_same_place(read, sitk.ReadImage(str(tmp_path / "scans" / file)))
            found = sitk.GetArrayFromImage(read).T
        np.testing.assert_array_equal(found, stored > 0.5)


def turned_by_pixels(image: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """The body in every order and direction of its axes, for files that know nothing of the world."""
    for order in itertools.permutations(range(image.ndim)):
        for steps in itertools.product((1, -1), repeat=image.ndim):
            cut = tuple(slice(None, None, step) for step in steps)
            yield np.ascontiguousarray(image.transpose(order)[cut])


@pytest.mark.parametrize(("ending", "dims"), [(".png", 2), (".tif", 2), (".tif", 3), (".h5", 3), (".npy", 3)])
def test_files_without_a_world_keep_rows_and_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, dims: int
) -> None:
    """An L-shaped body, every axis of another length; written and read by pillow, h5py and NumPy."""
    image = np.zeros((8, 7, 6)[:dims], np.float32)
    image[(slice(1, 4), slice(1, 5), slice(1, 3))[:dims]] = image[(slice(1, 7), slice(1, 3), slice(1, 5))[:dims]] = 200
    image[(-1,) * dims] = 255
    bodies = dict(enumerate(turned_by_pixels(image)))
    (tmp_path / "scans").mkdir()
    for number, body in bodies.items():
        file = tmp_path / "scans" / f"{number}{ending}"
        if ending == ".h5":
            with h5py.File(file, "w") as stored:
                stored["image"] = body
        elif ending == ".npy":
            np.save(file, body)
        else:
            first, *others = [Image.fromarray(page.astype(np.uint8)) for page in body.reshape(-1, *body.shape[-2:])]
            first.save(file, **({"save_all": True, "append_images": others} if others else {}))
    plan = plan_2d() if dims == 2 else plan_3d(spacing=(1.0, 1.0, 1.0), unit="px")
    predict(make_run(tmp_path / "run", plan, monkeypatch), [tmp_path / "scans"], out=tmp_path / "out", device="cpu")
    for number, body in bodies.items():
        (file,) = (tmp_path / "out").glob(f"{number}.*")
        if file.suffix == ".h5":
            with h5py.File(file) as stored:
                found = stored[next(iter(stored))][()]
        elif file.suffix in (".npy", ".npz"):
            loaded = np.load(file)
            found = loaded if file.suffix == ".npy" else loaded[loaded.files[0]]
        else:
            with Image.open(file) as pages:
                found = np.stack([np.asarray(page) for page in ImageSequence.Iterator(pages)]).reshape(body.shape)
        np.testing.assert_array_equal(found == 1, body > 127)
