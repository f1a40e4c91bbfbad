"""What the file of a finished cell says of how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ucseg.comparison import cell
from ucseg.comparison.cell import Task, run_cell
from ucseg.training.outcome import FitResult


def test_a_cell_names_the_code_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that moves on while a cell trains for hours does not change what trained."""
    commit = ["before"]
    monkeypatch.setattr(cell, "environment", lambda: {"commit": commit[0], "command": []})

    def train(_dataset: Path, out: Path, **_more: Any) -> FitResult:
        out.mkdir(parents=True)
        commit[0] = "after"
        return FitResult(out, 1, 1.0)

    task = Task("a", str(tmp_path), "data", "data", "uc_seg", [], 0, 1, None, "cpu", 0, [], False, 2.0, True)
    run_cell(task, train)
    assert json.loads(task.file.read_text())["environment"]["commit"] == "before"


def test_a_cell_of_equal_time_trains_by_work_and_keeps_what_it_cost(tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def train(_dataset: Path, out: Path, **more: Any) -> FitResult:
        asked.update(more)
        out.mkdir(parents=True)
        return FitResult(out, 321, 50.0, work=36.0, parameters=1000)

    settings = ["lr=0.02"]
    task = Task("a", str(tmp_path), "data", "data", "uc_seg", settings, 0, None, 0.01, "cpu", 0, [], False, 2.0, True)
    run_cell(task, train)
    assert (asked["steps"], asked["hours"], asked["set"]) == (None, 0.01, ["lr=0.02", "clock=work"])
    kept = json.loads(task.file.read_text())["training"]
    assert (kept["steps"], kept["seconds"], kept["work"], kept["parameters"]) == (321, 50.0, 36.0, 1000)
    assert kept["peak_bytes"] > 0
