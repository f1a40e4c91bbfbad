"""Real scans as their makers publish them, through a model that looks at brightness only: where does the mask lie?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from threshold_run import make_run, plan_2d, plan_3d

from ucseg.cli.predict import predict

pytestmark = pytest.mark.real

VOLUMES = {
    "stored P-S-R": "fixtures/psr/t2.nii.gz",
    "oblique": "fixtures/bids/anat/*_T2star.nii.gz",
    "NRRD, thick slices": "fixtures/ct/CTChest4.nrrd",
    "small": "hippocampus/images/hippocampus_001.nii.gz",
}


def only(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


@pytest.mark.parametrize("sliced", [False, True], ids=["3D", "slices"])
@pytest.mark.parametrize("pattern", VOLUMES.values(), ids=list(VOLUMES))
def test_volumes(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, sliced: bool
) -> None:
    file = only(shared_data, pattern)
    scan = sitk.ReadImage(str(file))
    changes = {"dims": 2, "slice_axis": 2, "patch": (64, 64), "token": (16, 16)} if sliced else {"patch": (48, 48, 48)}
    # The scan's own spacing, so that nothing is resampled and the mask must agree voxel by voxel.
    main_axis = np.abs(np.array(scan.GetDirection()).reshape(3, 3)).argmax(axis=1)
    plan = plan_3d(spacing=tuple(scan.GetSpacing()[axis] for axis in main_axis), **changes)
    out = tmp_path / "out"
    predict(make_run(tmp_path / "run", plan, monkeypatch), [file], out=out, device="cpu")
    for found in (sitk.ReadImage(str(out / file.name)), sitk.ReadImage(str(out / "uncertainty" / file.name))):
        assert found.GetSize() == scan.GetSize()
        np.testing.assert_allclose(found.GetSpacing(), scan.GetSpacing(), rtol=1e-5)
        np.testing.assert_allclose(found.GetOrigin(), scan.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(found.GetDirection(), scan.GetDirection(), atol=1e-5)
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    bright = (values - values.min()) / np.ptp(values) > 0.5
    assert bright.any()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out / file.name))) == 1, bright)


@pytest.mark.parametrize("pattern", ["isic/images/*.jpg", "kvasir/test/images/*.jpg", "hc18/*_HC.png"])
def test_plain_images(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    file = only(shared_data, pattern)
    image = np.asarray(Image.open(file).convert("L"), dtype=float)
    channels = 3 if Image.open(file).mode == "RGB" else 1
    plan = plan_2d(channels=channels, size=(112, 112), patch=(112, 112), token=(14, 14))
    predict(make_run(tmp_path / "run", plan, monkeypatch), [file], out=tmp_path / "out", device="cpu")
    mask = np.asarray(Image.open(tmp_path / "out" / f"{file.stem}.png"))
    assert mask.shape == image.shape
    assert mask.dtype == np.uint8
    assert mask.any()
    assert image[mask == 1].mean() > 1.2 * image[mask == 0].mean()
