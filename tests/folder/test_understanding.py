"""A folder becomes a dataset: its kind, its masks, and every file that is left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_files import save_series
from refusals import refused
from small_scans import blob, label, picture, save, volume
from ucseg.folder.survey import is_outline
from ucseg.folder.understanding import ImportOptions, Understood, understand
from ucseg.scans.said import Said


def understood(folder: Path, **options: object) -> Understood:
    return understand(folder, ImportOptions(**options), ".")  # type: ignore[arg-type]


def reasons(found: Understood, folder: Path) -> dict[str, str]:
    """File left out -> reason."""
    return {item.file.relative_to(folder).as_posix(): item.reason for item in found.left_out}


def pictures(folder: Path, count: int = 6) -> None:
    """Images and their masks."""
    for i in range(count):
        picture(folder / "images" / f"{i}.png")
        save(folder / "masks" / f"{i}.png", blob(where=i))


def test_everything_left_out_has_its_reason(tmp_path: Path) -> None:
    pictures(tmp_path)
    save(tmp_path / "masks" / "lonely.png", blob())
    (tmp_path / "images" / "._0.png").write_bytes(b"x")
    (tmp_path / "images" / "notes.docx").write_bytes(b"x")
    picture(tmp_path / "images" / "colour.png", channels=3)
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG")
    save(tmp_path / "masks" / "5.png", np.stack([blob(255), blob(0), blob(0)], -1))
    save(tmp_path / "masks" / "4.png", np.zeros((10, 48), np.uint8) + blob()[:10] + 1)
    (tmp_path / "dataset.json").write_text("{}")
    found = understood(tmp_path)
    named = {
        "masks/lonely.png": "without an image",
        "images/._0.png": "macOS",
        "images/notes.docx": "'.docx'",
        "images/colour.png": "2D with 3 channel(s)",
        "images/broken.png": "damaged",
        "masks/5.png": "colours",
        "masks/4.png": "aspect ratios",
    }
    left_out = reasons(found, tmp_path)
    assert left_out.keys() == named.keys()
    assert all(named[file] in reason for file, reason in left_out.items())
    rightly = {item.file.name for item in found.left_out if item.rightly}
    assert rightly == {"._0.png", "notes.docx"}
    assert {file.name for file in found.to_fix} == {Path(file).name for file in named} - rightly
    unlabelled = {case.case for case in found.cases if case.mask is None}
    assert unlabelled == {"4", "5"}, "their images still train"


def test_the_mask_of_an_image_that_is_left_out_needs_no_fix(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "a.nii.gz")
    volume(tmp_path / "images" / "b.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    volume(tmp_path / "labels" / "b.nii.gz", label())
    found = understood(tmp_path)
    assert [case.case for case in found.cases] == ["a"]
    assert {item.file.name: item.rightly for item in found.left_out} == {"b.nii.gz": True}
    assert [file.parent.name for file in found.to_fix] == ["images"]


def test_images_of_which_none_can_be_read(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with refused("no-image-readable", naming=[tmp_path, " 2 ", "a.png"]):
        understood(tmp_path)


@pytest.mark.parametrize(
    ("options", "kind", "named"),
    [
        ({"modality": "xray"}, "modality-unknown", ["xray", "mri, ct"]),
        ({"mask_threshold": math.nan}, "threshold-number", "nan"),
        ({"mask_threshold": math.inf}, "threshold-number", "inf"),
        ({"classes": "1=a,b"}, "classes-form", "1=a,b"),
    ],
)
def test_options_are_refused_before_a_file_is_looked_for(
    tmp_path: Path, options: dict[str, object], kind: str, named: str
) -> None:
    with refused(kind, naming=named):
        understood(tmp_path / "missing", **options)


def test_classes_are_those_of_the_user_or_of_dataset_json_or_of_the_masks(tmp_path: Path) -> None:
    for i in range(4):
        volume(tmp_path / "images" / f"{i}.nii.gz")
        volume(tmp_path / "labels" / f"{i}.nii.gz", label((0, 1, 3)).astype(np.float64))
    assert understood(tmp_path).config.classes == {0: "background", 1: "class_1", 2: "class_3"}
    with refused("no-mask-fits", naming="1 liver"):
        understood(tmp_path, classes="background,liver")
    names = {"0": "background", "1": "liver", "2": "vein", "3": "cyst"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": names}))
    config = understood(tmp_path).config
    assert config.classes == {int(number): name for number, name in names.items()}
    assert config.modality == "ct"
    given = understood(tmp_path, classes="air,liver,vein").config
    assert given.classes == {0: "background", 1: "air", 2: "liver", 3: "vein"}


@pytest.mark.parametrize("lossy", [False, True])
def test_pictures_of_two_levels(tmp_path: Path, lossy: bool) -> None:
    ending = "jpg" if lossy else "png"
    for i in range(4):
        picture(tmp_path / "images" / f"{i}.png", channels=3)
        save(tmp_path / "masks" / f"{i}.{ending}", blob(255, i), **({"quality": 75} if lossy else {}))
    config = understood(tmp_path).config
    assert config.mask_threshold == 127
    assert config.classes == {0: "background", 1: "foreground"}
    assert (config.modality, config.channels, config.fill_outlines) == ("rgb", 3, False)


def test_outlines_are_recognised_and_an_open_one_is_left_out(tmp_path: Path) -> None:
    for i in range(6):
        line = Image.new("L", (100, 80))
        ImageDraw.Draw(line).arc((15 + i, 10, 80, 70), 0, 300 if i == 2 else 360, 255, 2)
        save(tmp_path / f"{i:03}_HC_Annotation.png", np.asarray(line))
        save(tmp_path / f"{i:03}_HC.png", np.full((80, 100), i, np.uint8))
    found = understood(tmp_path)
    assert found.config.fill_outlines
    assert any("--no-fill-outlines" in note for note in found.notes)
    assert list(reasons(found, tmp_path)) == ["002_HC_Annotation.png"]
    lines = understood(tmp_path, fill_outlines=False)
    assert not lines.config.fill_outlines
    assert all(case.mask is not None for case in lines.cases)


def test_small_rings_keep_their_holes_unless_outlines_are_asked_for(tmp_path: Path) -> None:
    def ring(across: int) -> np.ndarray:
        rows, columns = np.indices((20, 24)) - 9.5
        return np.abs(np.hypot(rows, columns) - across / 2 + 0.5) < 0.5

    assert [is_outline(ring(across)) for across in (8, 10, 12, 16)] == [False, False, True, True]
    for i in range(5):
        picture(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", (ring(10) * 255).astype(np.uint8))
    found = understood(tmp_path)
    assert not found.config.fill_outlines
    assert any("--fill-outlines" in note for note in found.notes)
    asked = understood(tmp_path, fill_outlines=True)
    assert asked.config.fill_outlines
    assert not any("--fill-outlines" in note for note in asked.notes)


def test_vessels_that_cross_are_no_outlines() -> None:
    rows, columns = np.indices((80, 80))
    rings = np.abs(np.hypot(rows - 40, columns - 40) - 30) < 2
    assert is_outline(rings)
    assert is_outline(rings | (np.abs(np.hypot(rows - 40, columns - 40) - 15) < 1.5))  # a structure inside another one
    vessels = (rows % 16 < 2) | (columns % 16 < 2)
    assert not is_outline(vessels)


def test_modality_is_guessed_from_what_is_there(tmp_path: Path) -> None:
    for kind, low in (("mri", 100.0), ("ct", -1000.0)):
        for i in range(3):
            volume(tmp_path / kind / "images" / f"{i}.nii.gz", low=low)
            volume(tmp_path / kind / "labels" / f"{i}.nii.gz", label())
        assert understood(tmp_path / kind).config.modality == kind
    assert understood(tmp_path / "ct", modality="other").config.modality == "other"
    pictures(tmp_path / "grey")
    grey = understood(tmp_path / "grey")
    assert grey.config.modality == "other"
    assert "--modality ultrasound" in grey.notes[-1]


def test_dicom_says_its_modality(tmp_path: Path) -> None:
    """Whatever the values look like."""
    for n, kind in enumerate((CTImageStorage, CTImageStorage, MRImageStorage)):
        series = np.random.default_rng(n).integers(0, 900, (8, 9, 10)).astype(np.int16)
        save_series(tmp_path / str(n), series, f"1.2.{n}", SOPClassUID=kind, PatientID=str(n))
    several = understood(tmp_path)
    assert (several.config.modality, len(several.cases)) == ("mri", 3)
    assert any("ct, mri" in note for note in several.notes)
    shutil.rmtree(tmp_path / "2")
    assert understood(tmp_path).config.modality == "ct"
    assert understood(tmp_path, modality="mri").config.modality == "mri"


def test_shapes_and_spacing_are_given_for_printing(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii.gz")
    volume(tmp_path / "b.nii.gz", np.zeros((4, 9, 10), np.float32))
    found = understood(tmp_path)
    assert (found.shapes, found.spacing) == ("4-8 x 9 x 10 voxels (2 sizes)", "1 x 1 x 3 mm")


def test_masks_that_lie_elsewhere_are_kept_and_noted(tmp_path: Path) -> None:
    """A header can be set right without another `init`; until then no verb uses such a mask."""
    for name in ("a", "b", "c"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "labels" / f"{name}.nii.gz", label())
    affine = np.diag([1.0, 1, 3, 1])
    affine[0, 3] = 4
    nib.save(nib.Nifti1Image(label(), affine), tmp_path / "labels/b.nii.gz")
    found = understand(tmp_path, ImportOptions(), ".")
    assert all(case.mask is not None for case in found.cases)
    assert any("b.nii.gz" in note and "a.nii.gz" not in note for note in found.notes), found.notes


def test_headers_that_say_two_spacings_and_volumes_that_say_none_are_noted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        for folder, array in (("images", np.arange(720.0, dtype=np.float32).reshape(8, 9, 10)), ("labels", label())):
            image = nib.Nifti1Image(array, None)
            image.set_qform(np.diag([1.5, 1.5, 8, 1]), 1)
            image.set_sform(np.eye(4), 1)
            path = tmp_path / "mri" / folder / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, path)
            (tmp_path / "bare" / folder).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "bare" / folder / f"{name}.npy", array)
    found = understood(tmp_path / "mri")
    assert found.spacing == "1.5 x 1.5 x 8 mm"
    assert any("--geometry sform" in note for note in found.notes), found.notes
    found = understood(tmp_path / "mri", said=Said(geometry="sform"))
    assert found.spacing == "1 x 1 x 1 mm"
    assert found.config.geometry == "sform"
    assert not any("--geometry" in note for note in found.notes)
    assert any("--spacing" in note for note in understood(tmp_path / "bare").notes)
    found = understood(tmp_path / "bare", said=Said(spacing=(8.0, 1.5, 1.5)))
    assert found.spacing == "8 x 1.5 x 1.5 mm"
    assert found.config.spacing == [8.0, 1.5, 1.5]
    assert not any("--spacing" in note for note in found.notes)
    with refused("setting-value", naming="spacing"):
        understood(tmp_path / "bare", said=Said(spacing=(8.0, 1.5)))
