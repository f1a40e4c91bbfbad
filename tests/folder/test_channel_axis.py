"""Images that hold their channels in their last axis: found by their masks, and again in new folders."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import ucseg
from refusals import refused
from ucseg.folder.inputs import find_inputs
from ucseg.folder.like_training import Wanted
from ucseg.scans.said import Said
from ucseg.types import Array


def save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(array.transpose()), str(path))
    else:
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def folder_of(
    root: Path, ending: str, extra: tuple[int, ...], mask_extra: tuple[int, ...] = (), dtype: type = np.uint8
) -> Path:
    """Ten images, eight with a mask of a square that is brighter."""
    shape = (24, 20) if ending == ".mha" else (12, 10, 8)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        mask = np.zeros(shape, np.uint8)
        mask[tuple(slice(2, 6 + seed % 3) for _ in shape)] = 1
        image = rng.normal(50, 5, (*shape, *extra)) + 60 * mask[..., *[None for _ in extra]]
        save(root / f"images/c{seed}{ending}", image.astype(dtype))
        if seed < 8:
            save(
                root / f"labels/c{seed}{ending}",
                np.broadcast_to(mask[..., *[None for _ in mask_extra]], (*shape, *mask_extra)).copy(),
            )
    return root


@pytest.mark.parametrize(("ending", "channels", "dims"), [(".mha", 3, 2), (".nii.gz", 2, 3)])
def test_an_axis_that_masks_lack_holds_channels(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str, channels: int, dims: int
) -> None:
    folder = folder_of(tmp_path / "s", ending, (channels,))
    dataset = ucseg.init(folder, out=tmp_path / "d")
    assert (dataset.config.channels, dataset.config.dims) == (channels, dims)
    assert dataset.config.modality == ("rgb" if dims == 2 else "mri")
    assert len(dataset.cases) == 10 and sum(case.mask is not None for case in dataset.cases) == 8
    assert all(str(case.image).endswith(f"{ending}#channels") for case in dataset.cases)
    assert f"its {channels} entries are taken as channels" in capfd.readouterr().out
    assert not [one for one in ucseg.check(tmp_path / "d") if one.severity == "error"]

    assert dataset.config.images == "*#channels"
    wanted = Wanted(channels=channels, trained=dataset.config.images, dims=dims)
    for place in (folder / "images", folder / f"images/c9{ending}"):
        found = find_inputs([place], tmp_path / "p", wanted=wanted)
        assert all(str(one.address).endswith(f"{ending}#channels") for one in found.scans)
        assert found.scans[-1].case == "c9"


def test_a_file_that_is_a_scan_by_itself_is_not_taken_apart(tmp_path: Path) -> None:
    """Trained otherwise, a model of photographs refuses three slices; what has too few axes stays what it is."""
    save(tmp_path / "v.mha", np.zeros((24, 20, 3), np.uint8))
    save(tmp_path / "t.nii.gz", np.zeros((12, 10, 8, 3), np.uint8))
    for wanted, volume, film in (
        (Wanted(3, dims=2), "v.mha", "t.nii.gz"),
        (Wanted(3, trained="*#channels", dims=2), "v.mha#channels", "t.nii.gz"),
        (Wanted(3, images="*#channels", dims=2), "v.mha#channels", "t.nii.gz"),
        (Wanted(3, trained="*#channels", dims=3), "v.mha", "t.nii.gz#channels"),
        (Wanted(3, dims=3), "v.mha", "t.nii.gz#channels"),
    ):
        found = find_inputs([tmp_path / "v.mha", tmp_path / "t.nii.gz"], tmp_path / "p", wanted=wanted)
        assert [one.address.name for one in found.scans] == [volume, film]


def test_the_user_s_limit_of_voxels_counts_there_too(tmp_path: Path) -> None:
    save(tmp_path / "t.nii.gz", np.zeros((12, 10, 8, 2), np.uint8))
    for most, name in ((10_000, "t.nii.gz#channels"), (100, "t.nii.gz")):
        found = find_inputs([tmp_path], tmp_path / "p", wanted=Wanted(2, dims=3), said=Said(max_voxels=most))
        assert [one.address.name for one in found.scans] == [name]


@pytest.mark.parametrize(("dtype", "modality"), [(np.uint8, "rgb"), (np.uint16, "mri"), (np.float32, "mri")])
def test_three_sequences_are_no_colours(tmp_path: Path, dtype: type, modality: str) -> None:
    folder = folder_of(tmp_path / "s", ".mha", (3,), dtype=dtype)
    assert ucseg.init(folder, out=tmp_path / "d").config.modality == modality
    assert not [one for one in ucseg.check(tmp_path / "d") if one.severity == "error"]


def test_a_cut_segmentation_beside_a_4d_file(tmp_path: Path) -> None:
    """Its size says nothing: it lies where its header places it."""
    for seed in range(4):
        image = sitk.JoinSeries([sitk.Image([12, 10, 8], sitk.sitkFloat32) + seed + i for i in range(2)])
        (tmp_path / "s/images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "s/labels").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / f"s/images/c{seed}.nrrd"))
        mask = sitk.Image([3, 3, 2], sitk.sitkUInt8) + 1
        mask.SetOrigin((2, 3, 4))
        for key, value in (("Name", "tumour"), ("LabelValue", "1"), ("Layer", "0")):
            mask.SetMetaData(f"Segment0_{key}", value)
        sitk.WriteImage(mask, str(tmp_path / f"s/labels/c{seed}.seg.nrrd"))
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d", test=1, validation=1)
    assert (dataset.config.channels, dataset.config.classes) == (2, {0: "background", 1: "tumour"})
    assert all(case.mask is not None for case in dataset.cases)


def test_films_and_volumes_stay_what_they_are(tmp_path: Path) -> None:
    """Masks with all axes, and an axis that is too long for channels."""
    with refused("no-image-readable", naming=["10 images", "4D"]):
        ucseg.init(folder_of(tmp_path / "film", ".nii.gz", (3,), (3,)), out=tmp_path / "d")
    with refused("no-image-readable", naming=["10 images", "4D"]):
        ucseg.init(folder_of(tmp_path / "long", ".nii.gz", (20,)), out=tmp_path / "d")
    dataset = ucseg.init(folder_of(tmp_path / "volumes", ".mha", (3,), (3,)), out=tmp_path / "e")
    assert (dataset.config.channels, dataset.config.dims) == (1, 3)
    dataset = ucseg.init(tmp_path / "long", out=tmp_path / "f", images="images/*#channels")
    assert (dataset.config.channels, dataset.config.images) == (20, "images/*#channels")
