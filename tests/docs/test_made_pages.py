"""The pages that are made from results, catalogue and settings say what those hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ucseg.catalogue.page import page as catalogue_page
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


def test_the_page_of_data_sets_is_made_from_the_catalogue() -> None:
    assert (ROOT / "docs" / "reference" / "datasets.md").read_text() == catalogue_page()


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    made = load(ROOT / "docs" / "make_settings.py")
    page = made.page()
    assert made.PAGE.read_text() == page, "make it again: python docs/make_settings.py"
    assert "| `lr` | 0.01 | number, > 0 | learning rate at the first step. |" in page
    assert "running mean of the student's; UA-MT's code; the paper" in page  # a comment on the line
    assert "| `dropout_boxes` | [5, 8] | [whole, whole] | published |" in page
    assert "| `patch` | from the data |" in page
    for name in METHODS:
        assert f"## Method [{name}](../methods/{name}.md)" in page
    bare = [line for line in page.splitlines() if "|  |" in line]
    assert not bare, f"settings without a meaning, which is the comment on the line of their default: {bare}"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
