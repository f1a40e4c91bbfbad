"""A file name that is no UTF-8 costs one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from refusals import refused
from ucseg.errors import UserError
from ucseg.folder.inputs import find_inputs
from ucseg.folder.listing import list_scans


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = Image.new("L", (4, 4))
    image.save(tmp_path / "right.png")
    try:
        (tmp_path / os.fsdecode(b"c\xe9")).mkdir()
        for name in (b"c\xe9.png", b"c\xe9/inside.png"):
            image.save(tmp_path / os.fsdecode(name), format="PNG")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    return tmp_path


def test_a_name_that_is_no_utf8_costs_one_file(folder: Path) -> None:
    found, left_out = list_scans(folder, set())
    assert [one.name for one in found] == ["right.png"]
    assert sorted(one.file.name for one in left_out) == ["c\ufffd", "c\ufffd.png"]


def test_as_an_input_it_is_named(folder: Path, tmp_path: Path) -> None:
    inputs = [folder / "right.png", folder / os.fsdecode(b"c\xe9.png")]
    found = find_inputs(inputs, tmp_path / "out")
    assert [one.case for one in found.scans] == ["right"] and [one.code for one in found.problems] == ["input-name"]
    with refused("input-name", naming="c\ufffd.png"):
        find_inputs(inputs[1:], tmp_path / "out")
    str(UserError("kind", str(found.problems[0]))).encode()
