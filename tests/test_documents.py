"""The README's commands run as they stand, and the documents say what the files that they speak of hold."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from ucseg.catalogue.page import page as catalogue_page
from ucseg.cli.main import main
from ucseg.demonstration.scans import draw_dataset
from ucseg.methods import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# One run in place of a grid: what more methods, amounts and seeds do is tested where they are.
SMALL_GRID = {"--methods": "supervised", "--labelled": "1", "--seeds": "1", "--steps": "1"}
SMALL = ["--set", "plan.labelled_batch=1", "--set", "plan.unlabelled_batch=1", "--steps", "2", "--workers", "0"]


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the README's user has it, with a few unlabelled scans, and new scans with their references."""
    monkeypatch.chdir(tmp_path)
    draw_dataset(tmp_path / "SCANS", "ultrasound", 12, (64, 64), 0)
    for number in range(4):
        (tmp_path / "SCANS" / "masks" / f"synthetic{number:03d}.png").unlink()
    draw_dataset(tmp_path / "new", "ultrasound", 2, (48, 80), 1)
    shutil.copytree(tmp_path / "new" / "images", tmp_path / "NEW_SCANS")
    shutil.copytree(tmp_path / "new" / "masks", tmp_path / "REFERENCES")
    return tmp_path


def test_the_commands_of_the_readme_run_one_after_the_other(scans: Path) -> None:
    lines = re.findall(r"^    (ucseg .*)$", README, flags=re.MULTILINE)
    verbs = []
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if "VERB" in words:
            continue
        verbs.append(words[0])
        if words[0] == "train":
            for option in {"--steps", "--hours"} & {*words}:
                del words[words.index(option) : words.index(option) + 2]
            words += [] if "--resume" in words else SMALL
        if words[0] == "compare":
            for option, value in SMALL_GRID.items():
                words[words.index(option) + 1] = value
            words += ["--set", "workers=0"]
        main_without_exit(words)
    assert set(verbs) == {"init", "check", "plan", "prepare", "train", "predict", "evaluate", "compare"}
    for run in ("RUN", "BASELINE", "RUN-1", "ABLATION"):
        assert (scans / run / "last.safetensors").exists()
    assert len(list((scans / "MASKS").glob("synthetic*.png"))) == 2
    assert (scans / "NUMBERS" / "metrics.json").exists()
    assert (scans / "COMPARED" / "index.html").exists()


def test_the_python_of_the_readme_runs(scans: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    script = found[1].replace("steps=2000", f"steps=2, workers=0, set={SMALL[1:4:2]}")
    for said, there in (("scans", "SCANS"), ("new-scans", "NEW_SCANS"), ("references", "REFERENCES")):
        script = script.replace(f'"{said}"', f'"{there}"')
    scope: dict[str, object] = {}
    exec(script, scope)
    assert (scans / "masks" / "uncertainty").is_dir()


def test_every_method_has_its_page() -> None:
    for name in METHODS:
        page = ROOT / "docs" / "methods" / f"{name}.md"
        assert page.exists(), f"write {page}"
        assert page.read_text().startswith(f"# {name}\n")


def test_the_page_of_results_is_made_from_the_files_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # where it finds the studies
    tables = load(ROOT / "benchmarks" / "tables.py")
    assert tables.PAGE.read_text() == tables.page(), "make it anew: python benchmarks/tables.py"


def test_the_page_of_data_sets_is_made_from_the_catalogue() -> None:
    assert (ROOT / "docs" / "reference" / "datasets.md").read_text() == catalogue_page()


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    made = load(ROOT / "docs" / "make_settings.py")
    page = made.page()
    assert made.PAGE.read_text() == page, "make it anew: python docs/make_settings.py"
    assert "| `lr` | 0.01 | number, > 0 | learning rate at the first step. |" in page
    assert "running mean of the student's; UA-MT's code; the paper" in page  # a comment on the line
    assert "| `dropout_boxes` | [5, 8] | [whole, whole] | published |" in page
    assert "| `patch` | from the data |" in page
    for name in METHODS:
        assert f"## Method [{name}](../methods/{name}.md)" in page
    bare = [line for line in page.splitlines() if "|  |" in line]
    assert not bare, f"settings without a meaning, which is the comment on the line of their default: {bare}"


def main_without_exit(words: list[str]) -> None:
    """typer leaves the process after a verb: only a code other than 0 is a failure."""
    try:
        main(words)
    except SystemExit as leaving:
        assert not leaving.code, words


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
