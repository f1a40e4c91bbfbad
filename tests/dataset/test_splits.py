"""Splits: whole subjects, the same for a seed, nested labelled sets, and no way for a subject into two splits."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.splits import split_cases, subjects_in_two_splits


def cases(subjects: int = 50, scans: int = 2, split: str = "", start: int = 0) -> list[Case]:
    return [
        Case(f"{s:03}_{i}", f"{s:03}", Path(f"/i/{s:03}_{i}.png"), Path(f"/m/{s:03}_{i}.png"), split)
        for s in range(start, start + subjects)
        for i in range(scans)
    ]


def names(found: list[Case], split: str) -> set[str]:
    return {case.case for case in found if case.split == split}


def labelled(found: list[Case]) -> set[str]:
    return {case.case for case in found if case.split == "train" and case.mask is not None}


def test_defaults_and_whole_subjects() -> None:
    found, hidden = split_cases(cases())
    assert Counter(case.split for case in found) == {"train": 70, "validation": 10, "test": 20}
    assert [case.case for case in found] == [case.case for case in cases()]
    assert subjects_in_two_splits(found) == {}
    assert hidden == {}


def test_the_seed_decides_and_nothing_else() -> None:
    assert split_cases(cases(), seed=3) == split_cases(list(cases()), seed=3)
    first, second = (split_cases(cases(), seed=seed)[0] for seed in (0, 1))
    assert names(first, "test") != names(second, "test")


def test_test_cases_depend_on_no_other_amount() -> None:
    plain, _ = split_cases(cases(), seed=5)
    for options in ({"labelled": "10%"}, {"labelled": 4}, {"validation": 30}):
        other, _ = split_cases(cases(), seed=5, **options)
        assert names(other, "test") == names(plain, "test")
    few, _ = split_cases(cases(), seed=5, labelled="5%")
    assert names(few, "validation") == names(plain, "validation")


def test_a_case_added_later_does_not_reshuffle() -> None:
    before, _ = split_cases(cases(50), test=20, validation=10, seed=2)
    after, _ = split_cases(cases(51), test=20, validation=10, seed=2)
    assert len(names(before, "test") & names(after, "test")) >= 18


def test_smaller_labelled_sets_lie_inside_larger_ones() -> None:
    for seed in range(5):
        shown = [
            labelled(split_cases(cases(), labelled=amount, seed=seed)[0]) for amount in (2, "5%", "10%", 0.5, "100%")
        ]
        # 70 training cases, two a subject: 2, 3.5 -> 4, 7 -> 8, 35 -> 36, 70.
        assert [len(names) for names in shown] == [2, 4, 8, 36, 70]
        assert all(small < large for small, large in pairwise(shown))


def test_hidden_masks_leave_the_cases() -> None:
    every, _ = split_cases(cases(), seed=1)
    found, hidden = split_cases(cases(), labelled="10%", seed=1)
    assert set(hidden) == labelled(every) - labelled(found)
    assert all(hidden[name].path == Path(f"/m/{name}.png") for name in hidden)
    assert all(case.mask is None for case in found if case.case in hidden)
    assert all(case.mask is not None for case in found if case.split != "train"), "only training masks are hidden"


def test_own_splits_are_kept() -> None:
    own = cases(5, split="train") + cases(2, split="validation", start=10) + cases(3, split="test", start=20)
    found, _ = split_cases(own, labelled=2)
    assert [case.split for case in found] == [case.split for case in own]
    with refused("split-kept", naming="--test"):
        split_cases(own, test="10%")


def test_a_missing_validation_is_drawn_from_training_only() -> None:
    own = cases(20, 1, split="train") + cases(5, 1, split="test", start=50)
    found, _ = split_cases(own)
    assert names(found, "test") == {case.case for case in own if case.split == "test"}
    assert len(names(found, "validation")) == 2
    # A subject of the data's own test set is not drawn into a third split.
    shared = [*own, Case("050_x", "050", Path("/i/x.png"), Path("/m/x.png"), "train")]
    assert "050_x" in names(split_cases(shared, validation=15)[0], "train")


def test_test_folders_without_masks_do_not_count_as_own() -> None:
    bare = [Case("t", "t", Path("/i/t.png"), None, "test")]
    found, _ = split_cases(cases(10, 1) + bare)
    assert len(names(found, "test")) == 2 + 1


def test_unlabelled_cases_train_unless_their_subject_is_tested() -> None:
    lone = [Case("u", "nobody", Path("/i/u.png"), None, "")]
    beside = [Case(f"{s:03}_u", f"{s:03}", Path(f"/i/{s}u.png"), None, "") for s in range(50)]
    found, _ = split_cases(cases() + lone + beside)
    assert "u" in names(found, "train")
    assert subjects_in_two_splits(found) == {}


def test_sets_of_one_or_two_subjects_stay_whole_by_default() -> None:
    assert {case.split for case in split_cases(cases(2))[0]} == {"train"}


def test_a_subject_in_two_splits_is_found() -> None:
    assert subjects_in_two_splits([*cases(3, split="train"), *cases(1, split="test")]) == {"000": ["test", "train"]}


@pytest.mark.parametrize(
    ("options", "kind", "named"),
    [
        ({"test": "ten"}, "amount-form", ["--test", "'ten'"]),
        ({"test": "120%"}, "amount-form", ["--test", "'120%'"]),
        ({"validation": 1.5}, "amount-form", ["--validation", "'1.5'"]),
        ({"validation": "-3"}, "amount-form", ["--validation", "'-3'"]),
        ({"test": 101}, "amount-not-there", ["--test 101", " 101 ", " 100 "]),
        ({"test": "100%"}, "amount-not-there", ["--validation 10%", "--test", " 10 ", " 0 "]),
        ({"labelled": 71}, "amount-not-there", ["--labelled 71", " 71 ", " 70 "]),
        ({"labelled": 0}, "no-labelled-left", ["--validation", "--test"]),
        ({"test": "100%", "validation": 0}, "no-labelled-left", ["--validation", "--test"]),
    ],
)
def test_amounts_that_cannot_be_are_named(options: dict[str, str | int], kind: str, named: list[str]) -> None:
    with refused(kind, naming=named):
        split_cases(cases(), **options)


def test_no_mask_at_all_says_where_masks_are_looked_for() -> None:
    with refused("no-mask", naming=["--masks", "X_mask"]):
        split_cases([Case("u", "u", Path("/u.png"), None, "")])


def test_subjects_that_all_lie_in_the_test_folder_too_are_named() -> None:
    both = [
        Case(f"{split}{n}", f"s{n}", Path("/i.png"), Path("/m.png"), split)
        for split in ("train", "test")
        for n in (1, 2)
    ]
    with refused("subjects-in-two-splits", naming=["All 2 subjects", "s1, s2", "--subject"]):
        split_cases(both)
