"""Patterns of files: as fnmatch has them, and the word in braces where the pattern has it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from ucseg.folder.patterns import Match, Pattern

PATHS = (
    "a/b_t1.nii.gz",
    "a/c/b-[1].png",
    "t1/pat1.png",
    "x]y.png",
    "a^b.png",
    "AB.png",
    "a.png",
    "z/t1_t2_t1.png",
    "!.png",
)


@pytest.mark.parametrize(
    "glob",
    [
        "*",
        "*.png",
        "a/*",
        "*/b-[[]1].png",
        "?.png",
        "[ab].png",
        "[!a].png",
        "[]x]*",
        "[z-a].png",
        "[^a]*",
        "*_t1*",
        "a[b",
    ],
)
def test_a_pattern_matches_what_fnmatch_does(glob: str) -> None:
    pattern = Pattern(Path("data"), glob, "--images")
    for path in PATHS:
        expected = fnmatchcase(path, glob) or fnmatchcase(f"./{path}", glob)
        assert (pattern.match(Path(path)) is not None) == expected, path


@pytest.mark.parametrize(
    ("glob", "path", "found"),
    [
        ("{t1,t2}/*", "t1/pat1.png", Match("pat1.png", "t1", "t1", ("", "/pat1.png"))),
        ("**/{t1,t2}_t2_*", "z/t1_t2_t1.png", Match("t1.png", "t1", "t1", ("z/", "_t2_t1.png"))),
        ("*_{t1,t2}.png", "z/t1_t2_t1.png", Match("t1_t2", "t1", "t1", ("z/t1_t2_", ".png"))),
    ],
)
def test_the_word_is_where_the_pattern_has_it(glob: str, path: str, found: Match) -> None:
    assert Pattern(Path("data"), glob, "--images").match(Path(path)) == found


def test_loosely_neither_case_nor_ending_count() -> None:
    loose = Pattern(Path("data"), "*_{flair,t1}.nii.gz", "--images", loosely=True)
    assert loose.match(Path("p/q_FLAIR.nii")) == Match("", "flair", "FLAIR", ("p/q_", ".nii"))
    assert Pattern(Path("data"), "*_{flair,t1}.nii.gz", "--images").match(Path("p/q_FLAIR.nii")) is None
