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
from ucseg.types import Array


def save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(array.transpose()), str(path))
    else:
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def folder_of(root: Path, ending: str, extra: tuple[int, ...], mask_extra: tuple[int, ...] = ()) -> Path:
    """Ten images, eight with a mask of a square that is brighter."""
    shape = (24, 20) if ending == ".mha" else (12, 10, 8)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        mask = np.zeros(shape, np.uint8)
        mask[tuple(slice(2, 6 + seed % 3) for _ in shape)] = 1
        image = rng.normal(50, 5, (*shape, *extra)) + 60 * mask[..., *[None for _ in extra]]
        save(root / f"images/c{seed}{ending}", image.astype(np.uint8))
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

    wanted = Wanted(channels=channels)
    for place in (folder / "images", folder / f"images/c9{ending}"):
        found = find_inputs([place], tmp_path / "p", wanted=wanted)
        assert all(str(one.address).endswith(f"{ending}#channels") for one in found.scans)
        assert found.scans[-1].case == "c9"


def test_films_and_volumes_stay_what_they_are(tmp_path: Path) -> None:
    """Masks with all axes, and an axis that is too long for channels."""
    with refused("no-image-readable", naming=["10 images", "4D"]):
        ucseg.init(folder_of(tmp_path / "film", ".nii.gz", (3,), (3,)), out=tmp_path / "d")
    with refused("no-image-readable", naming=["10 images", "4D"]):
        ucseg.init(folder_of(tmp_path / "long", ".nii.gz", (20,)), out=tmp_path / "d")
    dataset = ucseg.init(folder_of(tmp_path / "volumes", ".mha", (3,), (3,)), out=tmp_path / "e")
    assert (dataset.config.channels, dataset.config.dims) == (1, 3)
