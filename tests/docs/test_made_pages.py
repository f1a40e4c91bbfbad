"""The pages that are made from results, catalogue and settings say what those hold, and so do the guides."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from ucseg.methods import METHODS

ROOT = Path(__file__).parents[2]


def test_every_method_has_its_page() -> None:
    for name in METHODS:
        page = ROOT / "docs" / "methods" / f"{name}.md"
        assert page.exists(), f"write {page}"
        assert page.read_text().startswith(f"# {name}\n")


def test_the_page_of_results_is_made_from_the_files_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # where it finds the studies
    tables = load(ROOT / "benchmarks" / "tables.py")
    assert tables.PAGE.read_text() == tables.page(), "make it again: python benchmarks/tables.py"


def test_nnunet_stands_beside_uc_seg_case_by_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = load(ROOT / "benchmarks" / "tables.py")
    folder = ROOT / "benchmarks" / "results" / "compare" / "hippocampus"
    comparison = json.loads((folder / "summary.json").read_text())
    runs = []
    for seed in range(3):
        dice: dict[str, list[float]] = {}
        for row in json.loads((folder / "cells" / f"uc_seg-5pct-seed{seed}.json").read_text())["tests"]["test"]["rows"]:
            if row[1] == "last":
                dice.setdefault(row[2], []).append(row[6])
        cases = {case: {"dice": sum(values) / len(values) - 0.01} for case, values in dice.items()}  # all a bit worse
        test = {"dice": 0.5, "hd95": 2.0, "cases": cases}
        about = {"nnunet": "hippocampus", "labelled": "5%", "wanted_cpu_seconds": 70.0, "command": "python X"}
        runs.append({**about, "seed": seed, "steps": 40 + seed, "test": test})
    text = tables.beside_nnunet(runs, {"hippocampus": comparison})
    assert "| hippocampus | 5% | 70 | 3 | 41 | 0.500 ± 0.000 | 2.00 |" in text
    assert "| +0.010 [+0.010, +0.010] |" in text
    del runs[0]["test"]["cases"][next(iter(dice))]
    with pytest.raises(ValueError, match="test cases"):
        tables.beside_nnunet(runs, {"hippocampus": comparison})


def test_the_page_of_data_sets_is_made_from_the_catalogue() -> None:
    made = load(ROOT / "docs" / "make_datasets.py")
    assert made.PAGE.read_text() == made.page(), "make it again: python docs/make_datasets.py"


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    made = load(ROOT / "docs" / "make_settings.py")
    page = made.page()
    assert made.PAGE.read_text() == page, "make it again: python docs/make_settings.py"
    assert "| `lr` | null | number or null, > 0, <= 1000 | " in page
    assert "student's; UA-MT's code" in page  # what the name means in all methods, then the comment on the line
    assert "| `dropout_boxes` | [5, 8] | [whole, whole] | " in page
    assert "| `patch` | from the data |" in page
    for name in METHODS:
        assert f"## Method [{name}](../methods/{name}.md)" in page
    bare = [line for line in page.splitlines() if "|  |" in line]
    assert not bare, f"settings without a meaning, which is the comment on the line of their default: {bare}"


def test_the_guides_say_what_the_results_hold() -> None:
    minutes = (ROOT / "docs" / "how-to" / "training-time.md").read_text()
    leaders, above = {}, []
    for name in ("hc18", "hippocampus", "isic", "kvasir"):
        file = ROOT / "benchmarks" / "results" / "compare" / name / "summary.json"
        rows = [row for row in json.loads(file.read_text())["rows"] if row["weights"] == "last"]
        for labelled in {row["labelled"] for row in rows} - {"all"}:
            found = {row["variant"]: row for row in rows if row["labelled"] == labelled and ":" not in row["variant"]}
            dice = {variant: row["metrics"]["dice"]["mean"] for variant, row in found.items()}
            seconds = {variant: row["seconds"] for variant, row in found.items() if row["seconds"]}
            baseline = max(mean for variant, mean in dice.items() if variant.startswith("supervised"))
            above.append({variant for variant, mean in dice.items() if mean > baseline})
            assert min(seconds, key=lambda variant: seconds[variant]) == "bcp"
            leaders[name, labelled] = max(dice, key=lambda variant: dice[variant])
            cells = f"| {seconds['supervised'] / 60:.0f} | {seconds['uc_seg'] / 60:.0f} |"
            if (name, labelled) not in (("hippocampus", "5%"), ("isic", "5%")):
                assert re.search(rf"^\| {name}.*{re.escape(cells)}$", minutes, re.MULTILINE | re.IGNORECASE), cells
    assert (leaders["hc18", "5%"], leaders["kvasir", "10%"], leaders["isic", "5%"]) == (
        "unimatch",
        "unimatch",
        "uc_seg",
    )


def test_the_tutorial_of_the_loop_says_what_was_measured() -> None:
    page = (ROOT / "docs" / "getting-started" / "tutorial-loop.md").read_text()
    runs = json.loads((ROOT / "benchmarks" / "results" / "tutorial_loop.json").read_text())["runs"]
    for run in runs:
        dice = "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**run["test dice"])
        assert f"| {run['run']} | {run['labelled']} | {dice} |" in page
    assert len(runs) == 3


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
