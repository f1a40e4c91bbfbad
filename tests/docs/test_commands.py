"""The commands and the Python of README and tutorials run as they stand, one after the other, with fewer steps."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from cells import run_here
from ucseg.cli.main import main
from ucseg.dataset.manifest import load_dataset
from ucseg.demonstration.scans import draw_dataset
from ucseg.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
# One run in place of a grid: what more methods, amounts and seeds do is tested where they are.
SMALL_GRID = {"--methods": "supervised", "--labelled": "1", "--seeds": "1", "--steps": "1"}
SMALL_PLAN = ("labelled_batch=1", "unlabelled_batch=1", "width=8")
SMALL_SCANS = {
    "(64, 64)": "(32, 32)",
    "(80, 96)": "(32, 48)",
    "(32, 40, 24)": "(24, 24, 16)",
    "(40, 40, 28)": "(24, 32, 20)",
}
SMALL = [f"plan.{setting}" for setting in SMALL_PLAN]


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and text of a page's blocks of commands and of Python, in order."""
    for found in re.finditer(r"^```(sh|python)\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


def run_page(page: str, *more: str) -> list[str]:
    """Everything on a page, in the working folder, trainings with `more` settings; the verbs that were used."""
    verbs = []
    for language, text in blocks(page):
        if language == "python":
            for size, smaller in SMALL_SCANS.items():
                text = text.replace(size, smaller)  # noqa: PLW2901
            exec(text.replace("steps=2000", f"steps=2, workers=0, set={SMALL}"), {})
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["ucseg"] and "VERB" not in words:
                verbs.append(words[1])
                run_command(words[1:], more)
    return verbs


def settings(of: Iterable[str]) -> list[str]:
    return [word for setting in of for word in ("--set", setting)]


def run_command(words: list[str], more: Sequence[str]) -> None:
    """A command with few steps. typer leaves the process after a verb: only a code other than 0 is a failure."""
    if words[0] in ("train", "pretrain"):
        for option in {"--steps", "--hours"} & {*words}:
            del words[words.index(option) : words.index(option) + 2]
        words += [] if "--resume" in words else [*settings([*SMALL, *more]), "--steps", "2", "--workers", "0"]
    if words[0] == "plan" and "--hours" in words:  # measures the steps of networks
        words += settings(SMALL_PLAN)
    if words[0] == "compare":
        for option, value in SMALL_GRID.items():
            words[words.index(option) + 1] = value
        words += settings(["workers=0", *SMALL])
    try:
        main(words)
    except SystemExit as leaving:
        assert not leaving.code, words


@pytest.mark.parametrize("page", ["2d", "3d"])
def test_a_tutorial_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verbs = run_page(f"docs/getting-started/tutorial-{page}.md")
    assert {*verbs} == {"init", "check", "plan", "train", "predict", "evaluate"}
    assert (tmp_path / "RUN" / "last.safetensors").exists()
    assert (tmp_path / "RUN" / "numbers" / "metrics.json").exists()
    assert [*(tmp_path / "MASKS").glob("synthetic*")]


def test_the_tutorial_of_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # README has trainings with the encoder, tests/training/test_start.py --init with it.
    verbs = run_page("docs/getting-started/tutorial-loop.md", "plan.encoder=null")
    assert {*verbs} == {"init", "check", "plan", "train", "label-next", "add-masks", "predict", "evaluate"}
    assert len(load_dataset(tmp_path / "DATA").labelled) == 50
    starts = [RunFolder(tmp_path / name).config.get("init", {}).get("file") for name in ("RUN", "RUN2", "RUN3")]
    assert starts == [None, "RUN/last.safetensors", "RUN2/last.safetensors"]
    assert (tmp_path / "NUMBERS3" / "metrics.json").exists()


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", run_here)
    for room in ("comparison", "reporting"):  # drawn in tests/cli/test_compare.py and tests/reporting/test_report.py
        monkeypatch.setattr(f"ucseg.{room}.figures._uri", lambda _figure: "data:,")
    monkeypatch.setattr("ucseg.inference.step_cost.PATIENCE", 0.0)  # `plan --hours` times two steps of a kind, not four
    draw_dataset(tmp_path / "SCANS", "ultrasound", 12, (32, 32), 0)
    for number in range(4):
        (tmp_path / "SCANS" / "masks" / f"synthetic{number:03d}.png").unlink()
    draw_dataset(tmp_path / "new", "ultrasound", 2, (32, 48), 1)
    shutil.copytree(tmp_path / "new" / "images", tmp_path / "NEW_SCANS")
    shutil.copytree(tmp_path / "new" / "masks", tmp_path / "REFERENCES")
    verbs = run_page("README.md")
    wanted = {"init", "check", "plan", "pretrain", "train", "label-next", "predict", "evaluate", "report", "compare"}
    assert {*verbs} == wanted
    for run in ("RUN", "BASELINE", "run"):
        assert (tmp_path / run / "last.safetensors").exists()
    for masks in ("MASKS", "masks"):
        assert len(list((tmp_path / masks).glob("synthetic*.png"))) == 2
        assert (tmp_path / masks / "uncertainty").is_dir()
    assert (tmp_path / "NUMBERS" / "metrics.json").exists()
    assert (tmp_path / "COMPARED" / "index.html").exists()
