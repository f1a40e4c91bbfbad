"""Spacings that files state in their own ways, twice, or not at all; and files that state too much."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image

from refusals import refused
from ucseg.cli.predict import _read_how
from ucseg.cli.prediction_words import say_doubts
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.folder.inputs import find_inputs
from ucseg.planning.origin import reading_of
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_mask, read_scan
from ucseg.scans.said import Said, said
from ucseg.scans.same_grid import offset

SHAPE = (6, 5, 4)
VOXELS = np.arange(120, dtype=np.float32).reshape(SHAPE)
TRUE, ONES = (1.3158, 1.3158, 10.0), (1.0, 1.0, 1.0)


def nifti(path: Path, sform: tuple[float, ...] | None, qform: bool, pixdim: tuple[float, ...] = TRUE) -> Address:
    image = nib.Nifti1Image(VOXELS, None)
    image.header.set_zooms(pixdim)
    if qform:
        image.set_qform(np.diag([-pixdim[0], -pixdim[1], pixdim[2], 1.0]), 1)
    if sform:
        image.set_sform(np.diag([-sform[0], -sform[1], sform[2], 1.0]), 1)
    image.header["pixdim"][1:4] = pixdim
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return Address.of(path)


@pytest.mark.parametrize(
    ("sform", "qform", "pixdim", "spacing", "doubtful"),
    [
        (ONES, True, TRUE, TRUE, True),
        (ONES, False, TRUE, TRUE, True),
        (TRUE, True, TRUE, TRUE, False),
        (TRUE, False, TRUE, TRUE, False),
        (None, True, TRUE, TRUE, False),
        (None, False, TRUE, TRUE, False),
        (TRUE, False, ONES, TRUE, False),  # pixdim was never set
        (TRUE, True, ONES, TRUE, True),
        ((1.32, 1.32, 10.0), True, TRUE, (1.32, 1.32, 10.0), False),  # rounded
    ],
)
def test_of_two_spacings_in_a_nifti_the_likelier_counts(
    tmp_path: Path,
    sform: tuple[float, ...] | None,
    qform: bool,
    pixdim: tuple[float, ...],
    spacing: tuple[float, ...],
    doubtful: bool,
) -> None:
    for path in (tmp_path / "a.nii.gz", tmp_path / "a.nii"):
        address = nifti(path, sform, qform, pixdim)
        for geometry in (read_header(address)[1], read_scan(address).geometry):
            assert geometry.spacing == pytest.approx(spacing, rel=1e-4)
            assert bool(geometry.doubt) == doubtful
            assert not doubtful or ("sform" in geometry.doubt and "pixdim" in geometry.doubt)


@pytest.mark.parametrize("number", [0.0, np.nan, np.inf])
def test_an_sform_without_numbers_leaves_the_qform(tmp_path: Path, number: float) -> None:
    address = nifti(tmp_path / "a.nii", ONES, qform=True)
    image = nib.load(address.file)
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = number
    (tmp_path / "b.nii").write_bytes(image.header.binaryblock + bytes(4) + VOXELS.tobytes("F"))
    geometry = read_header(tmp_path / "b.nii")[1]
    assert geometry.spacing == pytest.approx(TRUE, rel=1e-4)
    assert not offset(geometry, read_header(tmp_path / "a.nii")[1], SHAPE).elsewhere


@pytest.mark.parametrize(("part", "spacing"), [("sform", ONES), ("qform", TRUE), ("pixdim", TRUE)])
def test_the_user_says_which_part_of_a_header_counts(tmp_path: Path, part: str, spacing: tuple[float, ...]) -> None:
    address = nifti(tmp_path / "a.nii.gz", ONES, qform=True).as_said(said(geometry=part))
    geometry = read_header(address)[1]
    assert geometry.spacing == pytest.approx(spacing, rel=1e-4)
    assert not geometry.doubt, "it is settled"


@pytest.mark.parametrize("unit", ["um", "µm", "micron", "mm", "m", "cm", ""])
def test_units_of_nrrd_count(tmp_path: Path, unit: str) -> None:
    scale = {"um": 0.001, "µm": 0.001, "micron": 0.001, "mm": 1, "m": 1000, "cm": 10, "": 1}[unit]
    space = f'space units: "{unit}" "{unit}" "{unit}"'
    axes = f'spacings: 500 500 1000\nunits: "{unit}" "{unit}" "{unit}"'
    placed = "space: left-posterior-superior\nspace directions: (500,0,0) (0,500,0) (0,0,1000)\nspace origin: (500,0,0)"
    for name, stated in (("world", f"{placed}\n{space}"), ("axes", axes)):
        head = f"NRRD0005\ntype: float\ndimension: 3\nsizes: 6 5 4\n{stated}\nendian: little\nencoding: raw\n\n"
        path = tmp_path / f"{name}.nrrd"
        path.write_bytes(head.encode() + VOXELS.tobytes("F"))
        for geometry in (read_header(path)[1], read_scan(path).geometry):
            assert geometry.spacing == pytest.approx((500 * scale, 500 * scale, 1000 * scale))
    assert read_header(tmp_path / "world.nrrd")[1].affine[0, 3] == pytest.approx(-500 * scale)


def test_units_of_metaimage_count_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / "a.mha"))
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(data.replace(b"NDims = 3", b"NDims = 3\nDistanceUnits = um"))
    assert read_scan(tmp_path / "a.mha").geometry.spacing == pytest.approx((0.001,) * 3)
    (tmp_path / "b.mha").write_bytes(data.replace(b"NDims = 3", b"NDims = 3\nDistanceUnits = furlong"))
    with refused("scan-unit", naming=["b.mha", "furlong"]):
        read_header(tmp_path / "b.mha")


@pytest.mark.parametrize("name", ["c_0000.tif", "c.tif"])
def test_a_stack_has_the_spacing_of_the_json_beside_it(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / name, VOXELS, photometric="minisblack")
    assert read_header(tmp_path / name)[1].unit == "px"
    (tmp_path / "c.json").write_text(json.dumps({"spacing": [2.0, 0.5, 0.25]}))
    for geometry in (read_header(tmp_path / name)[1], read_mask(tmp_path / name).geometry):
        assert (geometry.unit, geometry.spacing) == ("mm", (2.0, 0.5, 0.25))
    (tmp_path / "c.json").write_text(json.dumps({"spacing": [2.0, -1]}))
    with refused("stack-spacing", naming="c.json"):
        read_scan(tmp_path / name)
    (tmp_path / "c.json").write_text("[1, 2]")
    assert read_header(tmp_path / name)[1].unit == "px", "it is about something else"


def test_the_user_says_the_spacing_of_files_that_state_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = VOXELS
        file["label"] = VOXELS
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_dataset("image", data=VOXELS).attrs["spacing"] = TRUE
    np.save(tmp_path / "a.npy", VOXELS)
    np.savez(tmp_path / "a.npz", image=VOXELS)
    tifffile.imwrite(tmp_path / "a.tif", VOXELS, photometric="minisblack")
    nifti(tmp_path / "a.nii", TRUE, qform=False)
    how = said(spacing="10,1.5,1.5")
    for name, spacing in (
        ("own.h5", TRUE),
        ("a.nii", TRUE),
        *((f"a.{end}", how.spacing) for end in ("h5", "npy", "npz", "tif")),
    ):
        address = Address.of(tmp_path / name).as_said(how)
        for geometry in (read_header(address)[1], read_scan(address).geometry, read_mask(address).geometry):
            assert geometry.unit == "mm"
            assert geometry.spacing == pytest.approx(spacing, rel=1e-4)


@pytest.mark.parametrize("text", ["1", "1,2,3,4", "1,2,0", "1,2,-3", "1,2,nan", "1,,2", "mm"])
def test_a_spacing_that_is_none_is_refused(text: str) -> None:
    with refused("spacing-numbers", naming=text):
        said(spacing=text)
    with refused("geometry-unknown", naming="affine"):
        said(geometry="affine")


def test_a_file_of_too_many_voxels_is_refused_before_one_is_read(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii.gz", TRUE, qform=False)
    nib.save(nib.freesurfer.MGHImage(VOXELS, np.eye(4)), tmp_path / "a.mgz")
    for ending in ("nrrd", "mha"):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / f"a.{ending}"))
    np.save(tmp_path / "a.npy", VOXELS)
    np.savez(tmp_path / "a.npz", image=VOXELS)
    tifffile.imwrite(tmp_path / "a.tif", VOXELS, photometric="minisblack")
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(tmp_path / "a.png")
    files = sorted(tmp_path.glob("a.*"))
    assert len(files) == 8
    for file in files:
        for read in (read_header, read_scan, read_mask):
            read(Address.of(file).as_said(Said(max_voxels=120)))
            with refused("scan-too-large", naming=[file, "119"]):
                read(Address.of(file).as_said(Said(max_voxels=119)))


@pytest.mark.parametrize("ending", ["nii.gz", "mha"])
def test_a_stream_that_holds_far_more_than_its_header_says_is_not_unpacked(tmp_path: Path, ending: str) -> None:
    """64 MiB of zeros from 64 KiB, behind a header of 120 voxels."""
    path = tmp_path / f"a.{ending}"
    if ending == "nii.gz":
        nifti(path, TRUE, qform=False)
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**26), 1))
    else:
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path), useCompression=True)
        head = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")[0]
        path.write_bytes(head + b"ElementDataFile = LOCAL\n" + gzip.compress(VOXELS.tobytes() + bytes(2**26), 1))
    with refused("scan-damaged", naming=path):
        read_scan(path)


def test_what_dataset_yaml_says_goes_with_every_file_and_with_the_run(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", ONES, qform=True)
    nifti(tmp_path / "m.nii", ONES, qform=True)
    classes = {0: "background", 1: "organ"}
    config = DatasetConfig(
        name="d", root=".", dims=3, modality="mri", channels=1, classes=classes, geometry="sform", max_voxels=120
    )
    case = Case("a", "a", tmp_path / "a.nii", tmp_path / "m.nii", "test")
    save_dataset(Dataset(tmp_path, config, [case]))
    loaded = load_dataset(tmp_path)
    for address in (loaded.cases[0].image, loaded.cases[0].mask, *reference_masks(loaded).values()):
        assert address is not None
        assert address.said == Said("sform", (), 120)
        assert read_header(address)[1].spacing == ONES
    trained = reading_of(loaded)["geometry"]
    assert _read_how(trained, None, "2,1,1", None) == Said("sform", (2.0, 1.0, 1.0))
    assert _read_how(trained, "qform", None, 7) == Said("qform", (), 7)
    assert _read_how(None, None, None, None) == Said()


def test_prediction_reports_headers_that_say_two_spacings(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    nifti(tmp_path / "s/a.nii", ONES, qform=True)
    nifti(tmp_path / "s/b.nii", TRUE, qform=True)
    say_doubts(find_inputs([tmp_path / "s"], tmp_path / "out").scans)
    ((kind, text),) = said
    assert kind == "header-contradicts-itself"
    assert "a.nii" in text
    assert "b.nii" not in text
    said.clear()
    say_doubts(find_inputs([tmp_path / "s"], tmp_path / "out", said=Said(geometry="sform")).scans)
    assert not said
