"""Bad and odd files by the hundred: each is read as it is, or refused in one sentence with file, reason and fix.

The files come from the tests of nibabel and pydicom (with pydicom-data), and from every format cut short or renamed.
"""

from __future__ import annotations

import importlib.util
import warnings
from itertools import product
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from PIL import Image

from dicom_files import save, segmentation, slice_of
from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.folder.listing import list_scans
from ucseg.folder.survey import survey_cases
from ucseg.scans.reading import read_header, read_mask, read_scan

VOLUME = np.random.default_rng(0).integers(0, 200, (20, 18, 16)).astype(np.uint8)
PICTURES = (".png", ".jpg", ".tif", ".bmp", ".pgm")
ENDINGS = (".nii", ".nii.gz", ".mgz", ".nrrd", ".mha", *PICTURES, ".h5", ".npy", ".npz", ".dcm")
# What is in the sentence on these files.
KNOWN = {
    "example4d.nii.gz": "4D", "functional.nii": "4D", "analyze.hdr": "belong together", "nifti1.hdr": "belong together",
    "MR_truncated.dcm": "pixel data", "rtplan.dcm": "RT Plan", "rtdose.dcm": "RT Dose", "rtdose_1frame.dcm": "RT Dose",
    "rtstruct.dcm": "RT Structure Set", "test-SR.dcm": "SR", "waveform_ecg.dcm": "ECG", "badVR.dcm": "RT Dose",
    "liver.dcm": "as a mask", "color3d_jpeg_baseline.dcm": "film", "SC_rgb_2frame.dcm": "film",
    "emri_small.dcm": "where it lies", "no_meta.dcm": "not DICOM", "DICOMDIR-empty.dcm": "not DICOM",
}  # fmt: skip


def _of_package(name: str, *below: str) -> list[Path]:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return []
    files = sorted(Path(found.origin).parent.joinpath(*below).rglob("*"))
    kinds = (".nii", ".gz", ".hdr", ".img", ".mgz", ".mgh", ".dcm", "")
    return [file for file in files if file.is_file() and file.suffix in kinds and "__pycache__" not in file.parts]


FILES = [
    *_of_package("nibabel", "tests", "data"), *_of_package("pydicom", "data", "test_files"), *_of_package("data_store")
]  # fmt: skip


def read_or_refused(path: Path) -> str | None:
    """None if both header and voxels are read and agree; otherwise the sentence that refuses the file."""
    answers = []
    for reader in (read_header, read_scan):
        try:
            found = reader(path)
        except UserError as error:
            text = str(error)
            assert str(path) in text, text
            assert text.count("; ") == 1, f"not one fix: {text}"
            assert "\n" not in text, text
            answers.append(text)
        else:
            answers.append(found)
    header, scan = answers
    if isinstance(scan, str):
        return scan
    assert not isinstance(header, str), f"read despite its header: {header}"
    assert header[0] == scan.array.shape[1:]
    assert header[2] == len(scan.array)
    assert np.array_equal(header[1].affine, scan.geometry.affine)
    assert np.isfinite(scan.geometry.affine).all()
    return None


@pytest.mark.parametrize("path", FILES, ids=[f"{i}-{file.name}" for i, file in enumerate(FILES)])
def test_files_of_other_projects(path):
    reason = read_or_refused(path)
    if path.name in KNOWN:
        assert KNOWN[path.name] in (reason or "read"), reason
    if reason is None and path.suffix == ".dcm":
        scan = read_scan(path)
        if scan.geometry.unit == "mm":  # another program's view of the same file
            image = sitk.ReadImage(str(path))
            turned = slice(None, None, -1)  # it leaves frames as they are stored, here they run along the normal
            other = sitk.GetArrayFromImage(image).T
            if image.GetSize()[2] == 1:
                assert np.allclose(scan.array[0], other, atol=1)
                assert np.allclose(scan.geometry.affine[:3, 3] * [-1, -1, 1], image.GetOrigin(), atol=1e-3)
            else:
                assert any(np.allclose(scan.array[0][..., order], other, atol=1) for order in (slice(None), turned))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good file of every format."""
    folder = tmp_path_factory.mktemp("whole")
    for ending in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), folder / f"a{ending}")
    nib.save(nib.freesurfer.mghformat.MGHImage(VOLUME, np.eye(4)), folder / "a.mgz")
    for ending in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(folder / f"a{ending}"), useCompression=True)
    for ending in PICTURES:
        Image.fromarray(VOLUME[0]).save(folder / f"a{ending}")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("image", data=VOLUME, compression="gzip")
    np.save(folder / "a.npy", VOLUME)
    np.savez_compressed(folder / "a.npz", image=VOLUME)
    save(slice_of(VOLUME[0].astype(np.int16), (0, 0, 0), "1.2"), folder / "a.dcm")
    return folder


@pytest.mark.parametrize(("ending", "part"), list(product(ENDINGS, (0.0, 0.02, 0.5, 0.9))))
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_files_cut_short_are_refused(whole, tmp_path, ending, part):
    content = (whole / f"a{ending}").read_bytes()
    path = tmp_path / f"cut{ending}"
    path.write_bytes(content[: int(len(content) * part)])
    assert read_or_refused(path) is not None


@pytest.mark.parametrize(("kind", "ending"), [pair for pair in product(ENDINGS, ENDINGS) if pair[0] != pair[1]])
def test_a_wrong_ending_is_refused_or_does_no_harm(whole, tmp_path, kind, ending):
    path = tmp_path / f"renamed{ending}"
    path.write_bytes((whole / f"a{kind}").read_bytes())
    if read_or_refused(path) is None:
        assert np.array_equal(read_scan(path).array, read_scan(whole / f"a{kind}").array)


def test_one_bad_file_stops_no_other(whole, tmp_path):
    for ending in ENDINGS:
        content = (whole / f"a{ending}").read_bytes()
        (tmp_path / f"cut{ENDINGS.index(ending)}{ending}").write_bytes(content[: len(content) // 2])
    good = tmp_path / "good.nii.gz"
    good.write_bytes((whole / "a.nii.gz").read_bytes())
    seg = segmentation(np.ones((1, 4, 4)), [(0, 0, 0)], [1], {1: "a"}, "1")
    del seg.SegmentSequence
    with pytest.raises(UserError, match="names no segment"):
        read_mask(save(seg, tmp_path / "seg.dcm"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed, left_out = list_scans(tmp_path, set())
        readable, _ = survey_cases(
            [Case(one.name, one.name, one.address, None, "") for one in listed if not one.is_mask]
        )
    assert [one.case.case for one in readable].count("good.nii.gz") == 1
    assert len(listed) + len(left_out) == len(ENDINGS) + 2
