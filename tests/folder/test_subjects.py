"""Which scans show the same subject: by names, by a pattern of the user, by DICOM."""

from __future__ import annotations

import pytest

from refusals import refused
from ucseg.folder.subjects import find_subjects


def named(*paths: str) -> dict[str, tuple[str, str]]:
    """Case -> name and path; a case is called as its path."""
    return {path: (path.rpartition("/")[2], f"{path}.png") for path in paths}


@pytest.mark.parametrize(
    ("names", "subjects"),
    [
        (["010_HC", "010_2HC", "011_HC", "012_HC", "013_HC", "014_HC"], ["010", "010", "011", "012", "013", "014"]),
        (["sub-01_T1", "sub-01_T2", "sub-02_T1"], ["sub-01", "sub-01", "sub-02"]),
        (["patient001_frame01", "patient001_frame12", "patient2_frame1"], ["patient001", "patient001", "patient2"]),
        (["lea_slice_1", "lea_slice_2", "tom_slice_1"], ["lea", "lea", "tom"]),
        (["lea_visit1", "lea_visit2", "tom_visit1"], ["lea", "lea", "tom"]),
        (
            ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"],
            [f"BraTS-GLI-0000{i}" for i in (1, 1, 2)],
        ),
        (["Patient_1_a", "patient_1_b", "patient_2_a"], ["Patient_1", "Patient_1", "patient_2"]),
        (["sub-3/anat/a", "sub-3/anat/b", "sub-4/anat/a"], ["sub-3", "sub-3", "sub-4"]),
    ],
)
def test_subjects_by_name(names: list[str], subjects: list[str]) -> None:
    found = find_subjects(named(*names))
    assert found.of == dict(zip(names, subjects, strict=True))
    assert not found.notes


def test_a_few_second_visits_are_noted() -> None:
    names = ["lea_visit_1", "lea_visit_2", "anna", "bert", "carl", "dora", "tom_visit_1"]
    found = find_subjects(named(*names))
    assert found.of == {name: name for name in names}
    (note,) = found.notes
    assert "lea_visit_1" in note and "lea_visit_2" in note and "tom" not in note and "--subject" in note


@pytest.mark.parametrize("names", [["2018_01", "2018_02", "2018_03"], ["1_a", "1_b", "2_c", "2_d"]])
def test_a_year_or_few_numbers_are_no_subjects_but_noted(names: list[str]) -> None:
    found = find_subjects(named(*names))
    assert found.of == {name: name for name in names}
    (note,) = found.notes
    assert r"--subject '^(\d+)_'" in note


def test_numbers_that_test_and_training_folders_share_are_no_subjects() -> None:
    names = named(
        *(f"{split}/{number}_{kind}" for split in ("train", "test") for number in range(1, 7) for kind in "AN")
    )
    found = find_subjects(names)
    assert found.of == {name: name for name in names}


def test_names_without_a_rule_are_subjects_each() -> None:
    found = find_subjects(named("hippocampus_001", "hippocampus_003"))
    assert found.of == {name: name for name in ("hippocampus_001", "hippocampus_003")}
    assert "--subject" in found.rule
    assert not found.notes


@pytest.mark.parametrize(
    ("scans", "endings", "proposed"),
    [
        (["case1", "case12"], ["_001", "_002", "_003"], True),  # slices
        (["TCGA_CS_4941", "TCGA_DU_5849"], ["_10", "_11"], True),
        (["vol1", "vol2", "vol3"], ["-z7", "-z8"], True),
        (["ann", "bob", "cem", "dan", "eva"], ["_1", "_2"], True),  # visits
        (["hippocampus"], ["_001", "_002", "_003"], False),  # one name, numbered
        (["benign", "malignant", "normal"], ["_1", "_2", "_3"], False),  # kinds
        (["p1", "p2", "p3"], ["_1", "_10", "_90"], False),  # far apart
    ],
)
def test_a_pattern_is_proposed_where_names_look_like_slices(
    scans: list[str], endings: list[str], proposed: bool
) -> None:
    names = named(*(f"{scan}{ending}" for scan in scans for ending in endings))
    found = find_subjects(names)
    assert found.of == {name: name for name in names}  # only proposed
    assert len(found.notes) == proposed
    if proposed:
        pattern = found.notes[0].split("--subject '")[1].split("'")[0]
        assert set(find_subjects(names, pattern).of.values()) == set(scans)


@pytest.mark.parametrize(
    ("names", "subjects"),
    [
        (["p01_left", "p01_right", "P03-L", "P03-R", "x_OD", "x_OS"], 3),
        (["12-right", "12-left", "14-R", "14-L", "15-L"], 3),
        (["Image_01L", "Image_01R", "Image_02L", "Image_02R", "control"], 3),
        (["P01_L_1", "P01_R_1", "P02_L_1", "P02_R_1", "P03_L_1"], 3),  # one visit
        (["P01_L_1", "P01_L_2", "P01_R_1", "P01_R_2", "P02_L_1", "P02_L_2", "P02_R_1", "P02_R_2"], 2),  # slices too
        (["left_p01", "right_p01", "left_p02", "right_p02"], 2),
        (["OD-7-v1", "OS-7-v1", "OD-8-v1", "OS-8-v1"], 2),
        (["a_left", "a_right", "b_left", "c_left"], 0),  # one pair proves nothing
        (["a_left", "a_right", "b_left", "b_right", *(f"scan{n}x" for n in range(5))], 0),  # few of many
        (["liver", "kidnel", "cell", "colour"], 0),
    ],
)
def test_a_pattern_is_proposed_where_names_look_like_left_and_right(names: list[str], subjects: int) -> None:
    found = find_subjects(named(*names))
    assert found.of == {name: name for name in names}  # only proposed
    assert len(found.notes) == (subjects > 0)
    if subjects:
        pattern = found.notes[0].split("--subject '")[1].split("'")[0]
        assert len(set(find_subjects(named(*names), pattern).of.values())) == subjects


def test_a_subject_pattern_of_the_user() -> None:
    names = named("x7/a", "x7/b", "x8/c")
    assert list(find_subjects(names, r"x(\d)/").of.values()) == ["7", "7", "8"]
    assert list(find_subjects(names, r"x\d").of.values()) == ["x7", "x7", "x8"]
    with refused("subject-not-found", naming=["x(7)/", "x8/c.png"]):
        find_subjects(names, "x(7)/")
    with refused("subject-pattern", naming="'('"):
        find_subjects(names, "(")


def test_dicom_goes_first_if_all_files_state_a_patient_and_these_differ() -> None:
    names = named("sub-1_a", "sub-1_b")
    assert find_subjects(names, stated={"sub-1_a": "x", "sub-1_b": "y"}).of == {"sub-1_a": "x", "sub-1_b": "y"}
    assert set(find_subjects(names, stated={"sub-1_a": "x"}).of.values()) == {"sub-1"}
    anonymous = find_subjects(names, stated=dict.fromkeys(names, "x"))
    assert set(anonymous.of.values()) == {"sub-1"}
    assert "DICOM" in anonymous.notes[0]
