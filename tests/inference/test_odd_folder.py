"""Odd files of other projects, all in one folder: init, check and predict name them and do the good ones."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from threshold_run import make_run, plan_3d

import ucseg
from refusals import refused
from ucseg.errors import UserError
from ucseg.scans.reading import read_scan


def odd_files() -> list[Path]:
    found: list[Path] = []
    for package, below in (("nibabel", "tests/data"), ("pydicom", "data/test_files")):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        found += sorted((Path(spec.origin).parent / below).rglob("*"))
    small = [file for file in found if file.is_file() and file.stat().st_size < 200_000]
    return [file for file in small if file.suffix in (".nii", ".gz", ".hdr", ".img", ".mgz", ".mgh", ".dcm")]


@pytest.mark.filterwarnings("ignore")
def test_no_odd_file_stops_the_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, random = tmp_path / "scans", np.random.default_rng(0)
    files = odd_files()
    assert len(files) > 60
    for number, file in enumerate(files):
        (scans / f"odd{number}").mkdir(parents=True)
        shutil.copy(file, scans / f"odd{number}" / file.name)
    good = [f"good{k}" for k in range(30)]  # more than there are odd 2D images: init takes the commonest kind
    for name in good:
        image = random.uniform(0, 0.4, (12, 11, 10)).astype(np.float32)
        image[3:7, 2:8, 4:6] = 0.9
        image[0, 0, 0], image[-1, -1, -1] = 0, 1
        nib.save(nib.Nifti1Image(image, np.eye(4)), scans / f"{name}.nii")
        nib.save(nib.Nifti1Image((image > 0.5).astype(np.uint8), np.eye(4)), scans / f"{name}_mask.nii")

    dataset = ucseg.init(scans, out=tmp_path / "data", validation="1", test="1")
    assert {case.case for case in dataset.cases if case.mask is not None} == set(good)
    try:
        findings = ucseg.check(tmp_path / "data")
    except UserError as error:
        findings = error.findings  # type: ignore[attr-defined]
    assert not [one for one in findings if one.file.startswith("good") and one.severity == "error"]

    run = make_run(tmp_path / "run", plan_3d(spacing=(1.0, 1.0, 1.0)), monkeypatch)
    with refused("scans-failed", naming=tmp_path / "out"):
        ucseg.predict(run, [scans], out=tmp_path / "out", device="cpu")
    for name in good:
        expected = read_scan(scans / f"{name}.nii").array[0] > 0.5
        np.testing.assert_array_equal(read_scan(tmp_path / "out" / f"{name}.nii").array[0], expected)
