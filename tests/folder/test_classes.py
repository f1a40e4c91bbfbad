"""How masks are read, from the values and names that they hold, from dataset.json, and from what the user gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from ucseg.folder.classes import classes_of, labels_of_dataset_json, parse_classes, with_classes
from ucseg.folder.mask_values import choose_reading
from ucseg.folder.objects import are_objects
from ucseg.folder.survey import MaskFacts
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry

TWO = {0: "background", 1: "foreground"}


def mask(
    *values: float,
    name: str = "a.png",
    counts: dict[float, int] | None = None,
    names: dict[int, str] | None = None,
    many: bool = False,
    lossy: bool = False,
    outline: bool | None = None,
    pieces: dict[int, int] | None = None,
) -> MaskFacts:
    """A mask of these values, ten voxels each if `counts` does not say; `many`: too many to list."""
    counts = counts or dict.fromkeys(sorted(values), 10)
    return MaskFacts(
        mask=Address.of(name),
        shape=(8, 9),
        geometry=Geometry(np.eye(3), "px"),
        counts=None if many else counts,
        low=min(counts),
        high=max(counts),
        whole=all(value == int(value) for value in counts),
        lossy=lossy,
        outline=outline,
        pieces=pieces,
        names=names or {},
    )


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("liver,tumour", {0: "background", 1: "liver", 2: "tumour"}),
        ("Background, liver", {0: "Background", 1: "liver"}),
        ("1=liver, 128=tumour,-1=ignore", {0: "background", -1: "ignore", 1: "liver", 128: "tumour"}),
        ("0=air,1=liver", {0: "air", 1: "liver"}),
    ],
)
def test_classes_of_the_user(text: str, classes: dict[int, str]) -> None:
    assert parse_classes(text) == classes


@pytest.mark.parametrize("text", ["", "1=liver,tumour", "liver,liver", "1=", "1=a,2=a"])
def test_classes_of_no_form(text: str) -> None:
    with refused("classes-form", naming=f"'{text}'"):
        parse_classes(text)


@pytest.mark.parametrize(("text", "number"), [("x=liver", "x"), ("1=liver,1=tumour", "1"), ("65536=liver", "65536")])
def test_classes_of_wrong_numbers(text: str, number: str) -> None:
    with refused("classes-number", naming=[text, f"'{number}'"]):
        parse_classes(text)


@pytest.mark.parametrize(
    ("content", "classes", "modality", "notes"),
    [
        ({"modality": {"0": "CT"}, "labels": {"0": "background", "1": "cyst"}}, {0: "background", 1: "cyst"}, "ct", 1),
        ({"channel_names": {"0": "T1"}, "labels": {"background": 0, "b": 2}}, {2: "b"}, "mri", 1),
        ({"modality": "ultrasound"}, None, "ultrasound", 0),
        ({"labels": {"whole": [1, 2], "core": [2]}}, None, None, 1),
        ({"labels": {"a": 1, "b": 1}}, None, None, 1),
        ({"labels": {"70000": "a"}}, None, None, 1),
        ([1], None, None, 1),
        ("{", None, None, 1),
    ],
)
def test_dataset_json(
    tmp_path: Path, content: object, classes: dict[int, str] | None, modality: str | None, notes: int
) -> None:
    (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    found, stated, noted = labels_of_dataset_json(tmp_path)
    assert found == (classes and {0: "background"} | classes)
    assert (stated, len(noted)) == (modality, notes)


def test_no_dataset_json(tmp_path: Path) -> None:
    assert labels_of_dataset_json(tmp_path) == (None, None, [])


def test_classes_are_those_of_the_values() -> None:
    three = choose_reading({"a": mask(0, 1, 3), "b": mask(0, 1)})
    assert three.classes == {0: "background", 1: "class_1", 2: "class_3"}
    assert three.values == {1: 1, 3: 2}, "a value that no mask holds is no class"
    assert three.mask_threshold is None
    assert choose_reading({"a": mask(0, 1)}).classes == TWO
    assert choose_reading({}).classes == TWO


def test_one_odd_mask_does_not_decide_the_classes() -> None:
    masks = {str(i): mask(0, 1, 2) for i in range(30)}
    reading = choose_reading(masks | {"7": mask(0, 1, 2, 77)})
    assert list(reading.classes) == [0, 1, 2]
    assert list(reading.rejected) == ["7"]
    assert "77" in reading.rejected["7"]


def test_masks_must_fit_the_classes_that_are_given() -> None:
    masks = {"a": mask(0, 1, 3), "b": mask(0, 1, 2), "c": mask(0, 0.5), "d": mask(0, 400, many=True)}
    reading = choose_reading(masks, parse_classes("1=liver,2=tumour"))
    assert set(reading.rejected) == {"a", "c", "d"}
    with refused("no-mask-fits", naming=["1 liver", "a: ", "3"]):
        choose_reading({"a": mask(0, 1, 3)}, parse_classes("liver,vein"))


def test_two_levels_are_cut_in_the_middle() -> None:
    plain = choose_reading({"a": mask(0, 255), "b": mask(0)})
    assert (plain.classes, plain.mask_threshold, len(plain.notes)) == (TWO, 127, 1)
    levels = {float(value): 1 for value in range(20)} | {0.0: 5000, 255.0: 5000}
    lossy = choose_reading({"a": mask(counts=levels, lossy=True)})
    assert lossy.mask_threshold == 127
    assert "JPEG" in lossy.notes[0]
    named = choose_reading({"a": mask(0, 255)}, parse_classes("polyp"), threshold=60)
    assert (named.classes[1], named.mask_threshold) == ("polyp", 60)


def test_masks_of_two_codings_are_cut_where_both_are_right() -> None:
    masks = {str(i): mask(0, 1 if i == 3 else 255, name=f"{i}.png") for i in range(4)}
    reading = choose_reading(masks)
    assert (reading.mask_threshold, reading.classes, reading.rejected) == (0.5, TWO, {})
    assert "two ways" in reading.notes[0]
    assert choose_reading(masks, threshold=0).mask_threshold == 0


def test_of_codings_that_share_no_cut_the_rarer_one_is_left_out() -> None:
    lossy = {float(value): 1 for value in range(20)} | {0.0: 5000, 255.0: 5000}
    grey = {f"grey {i}": mask(counts=lossy) for i in range(5)}
    numbers = {f"number {i}": mask(0, 1, 2) for i in range(3)}
    reading = choose_reading(grey | numbers)
    assert (reading.mask_threshold, set(reading.rejected)) == (127, set(numbers))
    reading = choose_reading({"grey": mask(counts=lossy), "255": mask(0, 255)} | numbers)
    assert (list(reading.classes), set(reading.rejected)) == ([0, 1, 2], {"grey", "255"})
    given = choose_reading(grey | {"one": mask(0, 1)}, threshold=100)
    assert list(given.rejected) == ["one"], "nothing of it would be left"


def test_fractions_are_refused_with_the_threshold_that_works() -> None:
    with refused("mask-values", naming="--mask-threshold 0.5;"):
        choose_reading({"a": mask(0.25, 0.75)})
    with refused("mask-values", naming="--mask-threshold 0.5;"):
        choose_reading({"a": mask(0, 0.7, 2)})
    soft = choose_reading({str(i): mask(0, 1) for i in range(5)} | {"soft": mask(0, 0.3, 1, many=True)})
    assert "--mask-threshold 0.5" in soft.rejected["soft"]
    assert "--classes" not in soft.rejected["soft"]


def test_values_with_gaps_need_names_and_make_no_other_classes() -> None:
    masks = {str(i): mask(0, 128, 255) for i in range(4)}
    with refused("mask-values", naming=["--classes 128=NAME,255=NAME", "--instances", "--mask-threshold 127.5"]):
        choose_reading(masks)
    reading = choose_reading(masks, parse_classes("128=disc,255=cup"))
    assert reading.classes == {0: "background", 1: "disc", 2: "cup"}
    assert (reading.values, reading.mask_threshold, reading.rejected) == ({128: 1, 255: 2}, None, {})
    assert choose_reading(masks, instances=False).values == {128: 1, 255: 2}
    with refused("too-many-classes", naming=["70", "--instances"]):
        choose_reading({str(i): mask(*range(71)) for i in range(4)})
    assert len(choose_reading({str(i): mask(*range(71)) for i in range(4)}, instances=False).classes) == 71


def test_another_value_than_0_may_be_the_background() -> None:
    bright = {str(i): mask(counts={0: 10, 128: 20, 255: 900}) for i in range(4)}
    with refused("mask-values", naming="--classes 0=NAME,128=NAME,255=background"):
        choose_reading(bright)
    reading = choose_reading(bright, parse_classes("0=cup,128=disc,255=background"))
    assert reading.classes == {0: "background", 1: "cup", 2: "disc"}
    assert reading.values == {0: 1, 128: 2, 255: 0}
    two = {str(i): mask(0, 255) for i in range(4)}
    reading = choose_reading(two, parse_classes("0=lesion,255=background"))
    assert (reading.classes, reading.values) == ({0: "background", 1: "lesion"}, {0: 1, 255: 0})
    assert reading.mask_threshold is None


def test_values_that_nearly_all_masks_hold_are_classes_where_the_format_keeps_values() -> None:
    hearts = {str(i): mask(0, 205, 420, name="a.nii.gz") for i in range(4)}
    reading = choose_reading(hearts)
    assert reading.values == {205: 1, 420: 2}
    assert any("205 is 1" in note for note in reading.notes)
    with refused("mask-values", naming="205=NAME"):  # one value here, another there
        choose_reading({"a": mask(0, 205, 420, name="a.nii.gz"), "b": mask(0, 500, 820, name="b.nii.gz")})


@pytest.mark.parametrize("name", ["ignore", "Not annotated", "unlabeled", "void", "ignore_label", "don't care"])
def test_what_was_not_annotated_is_no_class(name: str) -> None:
    masks = {"whole": mask(0, 1), "part": mask(0, 1, 2)}
    reading = choose_reading(masks | {"none": mask(2)}, {0: "background", 1: "organ", 2: name})
    assert (reading.classes, reading.not_annotated) == ({0: "background", 1: "organ"}, [2])
    assert list(reading.rejected) == ["none"]
    assert any("1 of 2" in note and "67 %" in note for note in reading.notes)
    with refused("no-mask-fits", naming=["none", "not annotated"]):
        choose_reading({"none": mask(2)}, {0: "background", 1: "organ", 2: name})


@pytest.mark.parametrize("value", [3, 255, -1])
def test_the_value_of_ignore_is_no_class_and_is_in_no_ones_way(value: int) -> None:
    two, three = mask(0, 1), mask(0, 1, value)
    reading = choose_reading({"a": two, "b": three}, ignore=value)
    assert (reading.classes, reading.values, reading.not_annotated) == (TWO, {}, [value])
    assert not reading.rejected
    grey = choose_reading({"a": mask(0, 200), "b": mask(0, 200, value)}, ignore=value)
    assert grey.mask_threshold is not None and 0 < grey.mask_threshold < 200
    gaps = choose_reading({"a": mask(0, 10, 20, value)}, parse_classes("10=a,20=b"), ignore=value)
    assert (gaps.values, gaps.not_annotated) == ({10: 1, 20: 2}, [value])


def test_a_value_of_ignore_that_cannot_be() -> None:
    masks = {"a": mask(0, 1, 2)}
    with refused("ignore-is-class", naming=["--ignore 2", "organ"]):
        choose_reading(masks, parse_classes("1=a,2=organ"), ignore=2)
    with refused("ignore-is-class", naming=["--ignore 0", "background"]):
        choose_reading(masks, ignore=0)
    with refused("ignore-nowhere", naming="--ignore 255"):
        choose_reading(masks, ignore=255)


def test_zero_may_be_what_was_not_annotated() -> None:
    scribbles = {"a": mask(1, 2), "b": mask(0, 1, 2)}
    reading = choose_reading(scribbles, {0: "unlabelled", 1: "background", 2: "organ"})
    assert (reading.classes, reading.values) == ({0: "background", 1: "organ"}, {1: 0, 2: 1})
    assert (reading.not_annotated, list(reading.rejected)) == ([0], [])
    only = choose_reading({"a": mask(0, 1)}, {0: "unlabelled", 1: "organ"})
    assert (only.not_annotated, only.rejected) == ([], {}), "else it is the background"


@pytest.mark.parametrize("value", [255, -1, 65535])
def test_all_ones_beside_class_numbers_are_asked_about(value: int) -> None:
    masks = {str(i): mask(0, 1, 2, value) for i in range(4)}
    with refused("masks-perhaps-not-annotated", naming=[f"1=NAME,2=NAME,{value}=NAME", f"--ignore {value}"]):
        choose_reading(masks)
    reading = choose_reading(masks | {"whole": mask(0, 1, 2)}, parse_classes(f"1=a,2=b,{value}=ignore"))
    assert (len(reading.classes), len(reading.rejected), reading.not_annotated) == (3, 0, [value])


def numbered(most: int, first: int = 1) -> MaskFacts:
    values = range(first, first + most)
    return mask(0, *values, pieces=dict.fromkeys(values, 1))


def test_numbers_of_objects_are_one_class() -> None:
    cells = {str(i): numbered(most) for i, most in enumerate((7, 12, 21, 9))}
    reading = choose_reading(cells)
    assert (reading.classes, reading.mask_threshold) == (TWO, 0)
    assert "21" in reading.notes[0]
    assert "--no-instances" in reading.notes[0]
    assert choose_reading(cells, parse_classes("nucleus")).classes[1] == "nucleus"
    assert len(choose_reading(cells, instances=False).classes) == 22
    assert len(choose_reading(cells, parse_classes(",".join(map(str, range(1, 22))))).classes) == 22, "named ones are"
    with refused("threshold-classes", naming="--instances"):
        choose_reading(cells, parse_classes("a,b"), instances=True)


def test_which_numbers_count_objects() -> None:
    def whole(*values: int, pieces: int = 1) -> dict[int, int]:
        return dict.fromkeys(values, pieces)

    assert are_objects([whole(*range(1, 8)), whole(*range(1, 15)), whole(1, 2, 3)])
    assert are_objects([whole(*range(9 * i, 9 * i + 9)) for i in range(1, 6)]), "numbered through all images"
    assert are_objects([whole(*range(1, 40))])
    assert not are_objects([whole(*range(1, 12))]), "one mask of a few: nobody knows"
    assert not are_objects([whole(*range(1, 9))] * 5), "the same classes in every mask"
    assert not are_objects([whole(1, 2, 3), whole(1), whole(1, 2)]), "few classes, some of them absent"
    assert not are_objects([whole(*range(1, 9), pieces=4), whole(*range(1, 15), pieces=4)]), "in pieces"
    assert not are_objects([whole(*range(i, i + 9)) for i in range(1, 12)]), "a part of the spine in each"
    assert not are_objects([])


def test_thresholds_that_cannot_be() -> None:
    masks = {"a": mask(0, 255)}
    with refused("threshold-too-high", naming="255"):
        choose_reading(masks, threshold=255)
    with refused("threshold-classes", naming="liver, vein"):
        choose_reading(masks, parse_classes("liver,vein"), threshold=1)
    with refused("masks-empty"):
        choose_reading({"a": mask(0), "b": mask(0)})


@pytest.mark.parametrize(("outlines", "filled"), [([True] * 4 + [False], True), ([True, False, None], False)])
def test_outlines_are_filled_if_nearly_all_masks_are_some(outlines: list[bool | None], filled: bool) -> None:
    masks = {str(i): mask(0, 255, outline=one) for i, one in enumerate(outlines)}
    assert choose_reading(masks).fill_outlines == filled
    assert not choose_reading(masks, fill_outlines=False).fill_outlines


def test_names_of_segments_are_classes_whatever_their_numbers() -> None:
    one, other = mask(0, 1, 2, names={1: "liver", 2: "vein", 9: "kidney"}), mask(0, 1, names={1: "vein"})
    found = classes_of({"one": one, "other": other})
    classes = found.classes
    assert classes == {0: "background", 1: "liver", 2: "vein"}, "only what masks hold"
    assert "'vein' is 2 in a.png and 1 in a.png" in found.notes[0]
    assert with_classes(one, classes).counts == one.counts
    assert with_classes(other, classes).counts == {0: 10, 2: 10}
    assert with_classes(mask(0, 1), classes).counts == {0: 10, 1: 10}
    with refused("mask-segment", naming="kidney"):
        with_classes(mask(0, 1, 2, names={1: "kidney", 2: "vein"}), classes)
    with refused("mask-number-unnamed", naming="7"):
        with_classes(mask(0, 2, 7, names={2: "vein"}), classes)
    assert list(classes_of({"one": one, "other": other, "nameless": mask(0, 1)}).unfit) == ["nameless"]


def test_masks_without_names_follow_the_numbers_of_the_others_if_these_agree() -> None:
    named = mask(0, 1, 7, names={1: "liver", 7: "vein", 8: "cyst", 9: "kidney"})
    found = classes_of({"named": named, "nameless": mask(0, 7, 8), "empty": mask(0)})
    assert found.classes == {0: "background", 1: "liver", 7: "vein", 8: "cyst"}
    assert (found.unfit, len(found.notes)) == ({}, 1)
    assert classes_of({"a": mask(0, 1)}).classes is None
