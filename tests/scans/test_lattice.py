"""Masks that hold a part of their image are laid where their headers place them; segmentations of 3D Slicer."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from refusals import refused
from ucseg.cli.evaluate import evaluate
from ucseg.folder.understanding import ImportOptions, understand
from ucseg.scans.address import Address
from ucseg.scans.lattice import union
from ucseg.scans.reading import grid_of, read_header, read_mask, segment_names

SPACING, ORIGIN = np.array([1.0, 1.5, 2.0]), np.array([-5.0, 7.0, 3.0])
LABEL = np.zeros((8, 7, 6), np.uint8)
LABEL[2:5, 1:4, 3:5], LABEL[5:7, 4:6, 2:4] = 1, 2
LOW, HIGH = np.array([2, 1, 2]), np.array([7, 6, 5])  # what is drawn
CROP = tuple(map(slice, LOW, HIGH))


def write(array: np.ndarray, path: Path, origin: np.ndarray = ORIGIN, fields: dict[str, str] | None = None) -> Path:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin([float(v) for v in origin])
    for key, value in (fields or {}).items():
        image.SetMetaData(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)
    return path


def slicer(*segments: tuple[str, int, int]) -> dict[str, str]:
    """The fields of segments: name, layer, value."""
    fields: dict[str, str] = {}
    for number, (name, layer, value) in enumerate(segments):
        fields |= {f"Segment{number}_Name": name, f"Segment{number}_Layer": str(layer)}
        fields[f"Segment{number}_LabelValue"] = str(value)
    return fields


def layered(path: Path, layers: list[np.ndarray], fields: dict[str, str]) -> Path:
    """As 3D Slicer writes layers: a voxel's layers lie together. The geometry is that of `write`."""
    stack = np.stack(layers)
    text = [
        "NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, stack.shape))}", "space directions: none (1,0,0) (0,1.5,0) (0,0,2)",
        "kinds: list domain domain domain", "encoding: gzip", "space origin: (-5,7,3)",
        *(f"{key}:={value}" for key, value in fields.items()), "", "",
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(text).encode() + gzip.compress(stack.tobytes(order="F")))
    return path


def grid(folder: Path) -> tuple:
    return read_header(write(LABEL.astype(np.int16), folder / "image.nrrd"))[:2]


def test_a_cut_segmentation_lies_where_its_header_places_it(tmp_path: Path) -> None:
    names = slicer(("liver", 0, 1), ("spleen", 0, 2))
    image = grid(tmp_path)
    for name in ("a.seg.nrrd", "saved under another name.nrrd"):
        path = write(LABEL[CROP], tmp_path / name, ORIGIN + LOW * SPACING, names)
        assert np.array_equal(read_mask(path, image).array[0], LABEL)
        assert segment_names(Address.of(path)) == {1: "liver", 2: "spleen"}
    larger = np.pad(LABEL, 3)
    path = write(larger, tmp_path / "larger.seg.nrrd", ORIGIN - 3 * SPACING, names)
    assert np.array_equal(read_mask(path, image).array[0], LABEL)
    turned = sitk.Flip(sitk.ReadImage(str(tmp_path / "a.seg.nrrd")), [True, False, True])
    turned = sitk.PermuteAxes(turned, [2, 0, 1])
    sitk.WriteImage(turned, str(tmp_path / "turned.seg.nrrd"))
    assert np.array_equal(read_mask(tmp_path / "turned.seg.nrrd", image).array[0], LABEL)


def test_what_lies_outside_or_between_voxels_is_refused(tmp_path: Path) -> None:
    image = grid(tmp_path)
    outside = write(LABEL[CROP], tmp_path / "outside.seg.nrrd", ORIGIN + (LOW + np.array([9, 0, 0])) * SPACING)
    with refused("mask-outside", naming=outside):
        read_mask(outside, image)
    between = write(LABEL[CROP], tmp_path / "between.seg.nrrd", ORIGIN + (LOW + 0.5) * SPACING)
    with refused("mask-between", naming=between):
        read_mask(between, image)


def test_other_masks_are_laid_only_where_they_begin_inside_their_image(tmp_path: Path) -> None:
    image = grid(tmp_path)
    for ending in (".nii.gz", ".mha", ".nrrd"):
        path = write(LABEL[CROP], tmp_path / f"part{ending}", ORIGIN + LOW * SPACING)
        assert np.array_equal(read_mask(path, image).array[0], LABEL)
        corner = write(LABEL[CROP], tmp_path / f"corner{ending}")  # more likely of another scan
        assert read_mask(corner, image).array.shape == (1, *LABEL[CROP].shape)


def test_layers_become_one_map(tmp_path: Path) -> None:
    image = grid(tmp_path)
    parts = [(LABEL == 1).astype(np.uint8), (LABEL == 2).astype(np.uint8)]
    same = layered(tmp_path / "same.seg.nrrd", parts, slicer(("liver", 0, 1), ("spleen", 1, 1)))
    assert np.array_equal(read_mask(same, image).array[0], LABEL)
    assert segment_names(Address.of(same)) == {1: "liver", 2: "spleen"}
    own = layered(tmp_path / "own.seg.nrrd", [3 * parts[0], 5 * parts[1]], slicer(("a", 0, 3), ("b", 1, 5)))
    assert np.array_equal(np.unique(read_mask(own, image).array), [0, 3, 5])
    assert segment_names(Address.of(own)) == {3: "a", 5: "b"}
    older = layered(tmp_path / "older.seg.nrrd", parts, {"Segment0_Name": "liver", "Segment1_Name": "spleen"})
    assert np.array_equal(read_mask(older, image).array[0], LABEL)
    overlap = layered(tmp_path / "overlap.seg.nrrd", [parts[0], parts[0]], slicer(("a", 0, 1), ("b", 1, 1)))
    with refused("segments-overlap", naming=overlap):
        read_mask(overlap, image)
    unnamed = layered(tmp_path / "unnamed.seg.nrrd", [parts[0], 4 * parts[1]], slicer(("a", 0, 1), ("b", 1, 1)))
    with refused("segments-unnamed", naming=unnamed):
        read_mask(unnamed, image)


def test_cut_masks_become_a_dataset_and_init_reports_it(tmp_path: Path) -> None:
    names = slicer(("liver", 0, 1), ("spleen", 0, 2))
    for case in range(3):
        write(LABEL.astype(np.int16) + np.int16(case), tmp_path / f"s/c{case}.nrrd")
        write(LABEL[CROP], tmp_path / f"s/c{case}.seg.nrrd", ORIGIN + LOW * SPACING, names)
    found = understand(tmp_path / "s", ImportOptions(), ".")
    assert all(case.mask for case in found.cases)
    assert any(note.startswith("masks that hold a part of their image's voxels: 3") for note in found.notes)


def test_cut_references_and_predictions_are_compared_where_they_lie(tmp_path: Path) -> None:
    part = np.where(LABEL == 1, 1, 0).astype(np.uint8)
    names = slicer(("liver", 0, 1), ("spleen", 0, 2))
    write(LABEL[CROP], tmp_path / "r/c.seg.nrrd", ORIGIN + LOW * SPACING, names)
    write(part, tmp_path / "whole/c.nrrd")
    write(
        part[2:5, 1:4, 3:5],
        tmp_path / "cut/c.seg.nrrd",
        ORIGIN + np.array([2, 1, 3]) * SPACING,
        slicer(("liver", 0, 1)),
    )
    for predictions in ("whole", "cut"):
        (case,) = evaluate(tmp_path / predictions, tmp_path / "r", out=tmp_path / f"n{predictions}").cases
        assert {row["name"]: row["dice"] for row in case.rows} == {"liver": 1, "spleen": 0}
    moved = write(LABEL, tmp_path / "m/c.seg.nrrd", ORIGIN + np.array([1, 0, 0]))
    with refused("no-case-evaluated", "grids-differ", naming=moved):  # of one size, place and all counts
        evaluate(moved.parent, tmp_path / "whole", out=tmp_path / "nm")


def test_the_grid_of_two_parts_holds_both(tmp_path: Path) -> None:
    one = write(LABEL[:3], tmp_path / "one.seg.nrrd")
    two = write(LABEL[5:], tmp_path / "two.seg.nrrd", ORIGIN + np.array([5, 0, 0]) * SPACING)
    whole = grid(tmp_path)
    for order in ([one, two], [two, one]):
        shape, geometry = grid_of([Address.of(path) for path in order])
        assert shape == whole[0]
        assert np.allclose(geometry.affine, whole[1].affine)
    assert union([whole, (LABEL.shape, read_header(one)[1])])[0] == whole[0]


@pytest.mark.real
def test_a_real_segmentation_of_layers_still_overlaps(shared_data: Path) -> None:
    folder = shared_data / "fixtures" / "ct"
    files = sorted(folder.glob("*.seg.nrrd"))
    answers = {}
    for file in files:
        try:
            answers[file.name] = len(np.unique(read_mask(file).array))
        except Exception as error:
            answers[file.name] = getattr(error, "code", error)
    assert len(answers) == 2
    assert "segments-overlap" in answers.values()
