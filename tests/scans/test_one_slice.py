"""A mask of one slice lies on its image as viewers show both, whichever formats these are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

import ucseg
from dicom_files import save_series
from refusals import refused
from ucseg.dataset.masks import read_label
from ucseg.scans.reading import read_header, read_mask, read_scan
from ucseg.types import Array


def _itk(ending: str, axes: int) -> Callable[[Array, Path], Path]:
    def write(rows: Array, place: Path) -> Path:
        path = place.with_suffix(ending)
        sitk.WriteImage(sitk.GetImageFromArray(rows if axes == 2 else rows[None]), str(path))
        return path

    return write


def _png(rows: Array, place: Path) -> Path:
    Image.fromarray(rows).save(place.with_suffix(".png"))
    return place.with_suffix(".png")


def _numpy(rows: Array, place: Path) -> Path:
    np.save(place.with_suffix(".npy"), rows)
    return place.with_suffix(".npy")


def _nibabel(rows: Array, place: Path) -> Path:
    """As an array is written by somebody who does not think of axes: it states no place."""
    nib.save(nib.Nifti1Image(rows, None), place.with_suffix(".nii"))
    return place.with_suffix(".nii")


def _dicom(rows: Array, place: Path) -> Path:
    return save_series(place, rows[..., None].astype(np.int16))


FILES: dict[str, Callable[[Array, Path], Path]] = {
    "png": _png,
    "mha": _itk(".mha", 2),
    "mha of one slice": _itk(".mha", 3),
    "nifti": _itk(".nii.gz", 3),
    "npy": _numpy,
}
MASKS = FILES | {"nifti of rows": _nibabel}
IMAGES = FILES | {"dicom": _dicom}
VOLUMES = ("mha of one slice", "nifti", "nifti of rows", "dicom")


def drawn(edge: int) -> Array:
    """Rows x columns: a mask that no turn leaves as it is."""
    rows = np.zeros((12, edge), np.uint8)
    rows[2:5, 3:11] = 1
    return rows


@pytest.mark.parametrize("edge", [16, 12])
@pytest.mark.parametrize("of_image", IMAGES)
def test_masks_of_every_format_lie_on_their_image(tmp_path: Path, of_image: str, edge: int) -> None:
    rows = drawn(edge)
    image = IMAGES[of_image](100 * rows, tmp_path / "image")
    shape, geometry, _ = read_header(image)
    shown = read_scan(image).array[0] == 100
    for kind, write in MASKS.items():
        if of_image in VOLUMES and kind in VOLUMES:
            continue  # two volumes: places and axes are those of their headers
        if edge == len(rows) and kind == "nifti of rows":
            continue  # no size shows that it is not as NIfTI is
        found = read_mask(write(rows, tmp_path / kind.replace(" ", "_")), (shape, geometry))
        assert np.array_equal(found.array[0] == 1, shown), kind


def test_a_mask_of_another_size_is_not_taken(tmp_path: Path) -> None:
    image = _png(np.zeros((12, 16), np.uint8), tmp_path / "image")
    small = FILES["nifti"](drawn(15), tmp_path / "small")
    assert read_mask(small, read_header(image)[:2]).array.shape == (1, 15, 12, 1)
    thick = tmp_path / "thick.nii"
    nib.save(nib.Nifti1Image(np.ones((16, 12, 2), np.uint8), np.eye(4)), thick)
    assert read_mask(thick, read_header(image)[:2]).array.shape == (1, 16, 12, 2)
    volume = tmp_path / "volume.nii"
    nib.save(nib.Nifti1Image(np.ones((16, 12, 2), np.uint8), np.eye(4)), volume)
    assert read_mask(_png(drawn(16), tmp_path / "flat"), read_header(volume)[:2]).array.shape == (1, 12, 16)


@pytest.mark.parametrize("edge", [16, 12])
def test_predictions_and_references_may_be_of_different_formats(tmp_path: Path, edge: int) -> None:
    for kind, write in MASKS.items():
        (tmp_path / kind).mkdir()
        write(drawn(edge), tmp_path / kind / "a")
    for one in MASKS:
        for other in MASKS:
            if one in VOLUMES and other in VOLUMES and one != other:
                continue
            if edge == 12 and "nifti of rows" in (one, other) and one != other:
                continue
            found = ucseg.evaluate(tmp_path / one, tmp_path / other, out=tmp_path / "out", overwrite=True)
            assert found.mean() == 1.0, (one, other)
            assert found.unit == ("px" if {one, other} <= {"png", "npy"} else "mm")
            axes = {len(read_header(next((tmp_path / kind).iterdir()))[0]) for kind in (one, other)}
            assert ("order in which" in found.cases[0].only_by) == (edge == 12 and len(axes) == 2)
    of_itk = sitk.ReadImage(str(tmp_path / "nifti" / "a.nii.gz"))
    of_itk.SetSpacing((0.25, 0.5, 1.0))  # along columns, and down the rows
    sitk.WriteImage(of_itk, str(tmp_path / "nifti" / "a.nii.gz"))
    _png(np.roll(drawn(edge), 1, axis=0), tmp_path / "png" / "a")
    for one, other in (("png", "nifti"), ("nifti", "png")):
        found = ucseg.evaluate(tmp_path / one, tmp_path / other, out=tmp_path / "out", overwrite=True)
        assert (found.unit, found.mean("hd95")) == ("mm", 0.5)
    _png(drawn(10), tmp_path / "png" / "a")
    with refused("no-case-evaluated", "mask-shape", naming=["a.nii.gz", "(12, 10)"]):
        ucseg.evaluate(tmp_path / "png", tmp_path / "nifti", out=tmp_path / "other")


@pytest.mark.parametrize("edge", [16, 12])
def test_pictures_annotated_in_itk_snap_become_a_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edge: int
) -> None:
    """It saves the mask of a PNG as a NIfTI volume of one slice. Of squares no size shows how they lie: a note."""
    for folder, write in (("images", _png), ("masks", FILES["nifti"])):
        (tmp_path / folder).mkdir()
        for name in "abcdef":
            write(drawn(edge) * (200 if folder == "images" else 1), tmp_path / folder / name)
    data = ucseg.init(tmp_path, out=tmp_path / "data")
    assert sum(case.mask is not None for case in data.cases) == 6
    assert ("square masks" in " ".join(capsys.readouterr().out.split())) == (edge == 12)
    for case in data.cases:
        image = read_scan(case.image)
        assert case.mask is not None
        label = read_label(case.mask, image.array.shape[1:], data.config, image.geometry)
        assert np.array_equal(label == 1, image.array[0] == 200)


def test_a_dataset_takes_predictions_of_other_formats(tmp_path: Path) -> None:
    """Also a volume of one slice that was written rows first, where its size shows that."""
    for folder, write in (("scans/images", _png), ("scans/masks", _png), ("rows", _nibabel), ("itk", FILES["nifti"])):
        (tmp_path / folder).mkdir(parents=True)
        for number, name in enumerate("abcdef"):
            rows = np.roll(drawn(16), number, axis=1)
            write(rows * (200 if folder == "scans/images" else 1), tmp_path / folder / name)
    ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    for folder in ("rows", "itk"):
        assert ucseg.evaluate(tmp_path / folder, tmp_path / "data", out=tmp_path / f"{folder}_out").mean() == 1.0


@pytest.mark.parametrize(("image", "mask"), [("png", "nifti"), ("nifti", "png"), ("mha", "png")])
def test_outlines_of_one_slice_are_filled(tmp_path: Path, image: str, mask: str) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in "abcdef":
        inside = np.zeros((40, 64), np.uint8)
        inside[8:30, 10:40] = 1
        line = inside.copy()
        line[9:29, 11:39] = 0
        FILES[image](200 * inside, tmp_path / "images" / name)
        FILES[mask](line, tmp_path / "masks" / name)
    data = ucseg.init(tmp_path, out=tmp_path / "data")
    assert data.config.fill_outlines
    for case in data.cases:
        scan = read_scan(case.image)
        assert case.mask is not None
        label = read_label(case.mask, scan.array.shape[1:], data.config, scan.geometry)
        assert np.array_equal(label == 1, scan.array[0] == 200)
