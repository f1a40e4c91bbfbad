"""What the file of a finished cell says of how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ucseg.comparison import cell
from ucseg.comparison.cell import Task, run_cell
from ucseg.training.trainer import FitResult


def test_a_cell_names_the_code_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that moves on while a cell trains for hours does not change what trained."""
    commit = ["before"]
    monkeypatch.setattr(cell, "environment", lambda: {"commit": commit[0], "command": []})

    def train(_dataset: Path, out: Path, **_more: Any) -> FitResult:
        out.mkdir(parents=True)
        commit[0] = "after"
        return FitResult(out, 1, 1.0)

    task = Task("a", str(tmp_path), "data", "data", "uc_seg", [], 0, 1, "cpu", 0, [], False, 2.0, True)
    run_cell(task, train)
    assert json.loads(task.file.read_text())["environment"]["commit"] == "before"
