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
    """Steps in training-time.md, and what choose-a-method.md says of the means, the lead and the verdicts."""
    steps = (ROOT / "docs" / "how-to" / "training-time.md").read_text()
    choose = (ROOT / "docs" / "how-to" / "choose-a-method.md").read_text()
    for name, labelled in (("hc18", "5%"), ("isic", "5%"), ("hippocampus", "5%"), ("kvasir", "10%")):
        study = ROOT / "benchmarks" / "results" / "compare" / f"{name}_time"
        found = json.loads((study / "summary.json").read_text())
        rows = {
            row["variant"]: row["metrics"]["dice"]
            for row in found["rows"]
            if (row["weights"], row["labelled"]) == ("last", labelled)
        }
        lead = rows["uc_seg"]["mean"] - rows["supervised"]["mean"]
        if name == "kvasir":
            assert -rows["uc_seg"]["spread"] < lead < 0
        else:
            assert 0 < lead < 0.006
            assert max(rows, key=lambda variant: rows[variant]["mean"]) == "uc_seg"
        verdicts = {
            one["variant"]: one["verdict"]
            for one in found["comparisons"]
            if (one["weights"], one["labelled"]) == ("last", labelled)
        }
        row = re.search(rf"^\| {name} \|(.*)\|(.*)\|$", choose, re.MULTILINE | re.IGNORECASE)
        assert row is not None
        for verdict, cell in (("worse", row[1]), ("within noise", row[2])):
            others = {one for one, said in verdicts.items() if said == verdict and ":" not in one} - {"supervised"}
            assert set(re.findall(r"`(\w+)`", cell)) == others, (name, verdict)
        of_paper = {"kvasir": "worse", "hippocampus": "worse"}.get(name, "within noise")
        variants = {
            one: said for one, said in verdicts.items() if (":" in one and "/" not in one) or one == "supervised"
        }
        assert variants.pop("uc_seg:method.preset=published", None) == of_paper
        assert set(variants.values()) == {"within noise"}
        assert all(rows[one]["mean"] < rows["uc_seg"]["mean"] for one in verdicts.keys() - {"supervised"})
        made = [
            f"{json.loads(file.read_text())['training']['steps']:,}"
            for method in ("supervised", "uc_seg")
            for file in (study / "cells").glob(f"{method}-{labelled.removesuffix('%')}pct-seed0.json")
        ]
        assert len(made) == 2
        if name != "isic":
            row = rf"^\| {name}.*{re.escape(' | '.join(made))} \|$"
            assert re.search(row, steps, re.MULTILINE | re.IGNORECASE), made


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
