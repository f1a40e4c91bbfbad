"""The demo: what its report says is what was measured, and it touches nothing that is not its own."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from browser import require_sound
from refusals import refused
from ucseg.cli import demo as module
from ucseg.cli.demo import METHODS, NEXT_STEPS, DemoResult, demo
from ucseg.evaluation.statistics import PairedDifference


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TEST", 7)
        patch.setattr(module, "VALIDATION", 1)
        return demo(
            tmp_path_factory.mktemp("demo") / "out", look="endoscopy", seed=1, labelled=3, unlabelled=3, steps=2
        )


def test_the_report_says_what_was_measured(run: DemoResult) -> None:
    page = run.report.read_text()
    assert "Synthetic data." in page
    assert "nothing about clinical performance" in page
    assert "3 of them labelled (50%)" in page
    for method, name in METHODS.items():
        measured = json.loads((run.report.parent / f"{method}-numbers" / "metrics.json").read_text())
        row = re.search(rf"<tr><td>{name}</td><td>organ</td>(.*?)</tr>", page, re.DOTALL)
        assert row is not None
        dice, hd95 = measured["by_class"][0]["metrics"]["dice"], measured["by_class"][0]["metrics"]["hd95"]
        assert f"{dice['mean']:.3f}" in row[1]
        assert f"[{dice['low']:.3f}, {dice['high']:.3f}]" in row[1]
        assert f"{hd95['mean']:.1f}" in row[1]


def test_the_report_is_one_file_with_every_picture(run: DemoResult) -> None:
    page = run.report.read_text()
    sources = re.findall(r'src="([^"]+)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "://" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert len(sources) == 1 + module.SHOWN * (3 + len(METHODS))  # colour scale; image, reference, masks, uncertainty
    for source in sources:
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).verify()


def test_a_browser_shows_it_whole_on_a_screen_and_on_a_phone(run: DemoResult, tmp_path: Path) -> None:
    require_sound(run.report, tmp_path)


def test_methods_saw_the_same_cases_and_no_test_case(run: DemoResult) -> None:
    cases = [
        json.loads((run.report.parent / f"{method}-run" / "config.json").read_text())["cases"] for method in METHODS
    ]
    assert cases[0] == cases[1]
    tested = {case.case for case in run.evaluations["uc_seg"].cases}
    assert len(tested) == 7
    assert not tested & {*cases[0]["labelled"], *cases[0]["unlabelled"], *cases[0]["validation"]}


def test_it_says_what_to_type_next_with_words_that_exist(run: DemoResult) -> None:
    assert NEXT_STEPS.splitlines()[0] in run.report.read_text()
    import ucseg

    for line in NEXT_STEPS.splitlines():
        name, verb, *_ = line.split()
        assert name == "ucseg"
        assert callable(getattr(ucseg, verb))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with refused("not-a-demo", naming=tmp_path):
        demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_demo_is_cleared_but_not_what_was_put_beside_it(run: DemoResult, tmp_path: Path) -> None:
    (tmp_path / "this-folder-is-a-ucseg-demo").touch()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "old.png").touch()
    (tmp_path / "notes.txt").touch()
    module._clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "this-folder-is-a-ucseg-demo"]


def test_an_unknown_look_names_the_known_ones(tmp_path: Path) -> None:
    with refused("look-unknown", naming=["xray", "mri, ultrasound, endoscopy"]):
        demo(tmp_path / "out", look="xray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.01, 0.1, "is ahead"), (-0.1, -0.01, "is behind"), (-0.1, 0.1, "no clear difference")]
)
def test_the_verdict_follows_the_interval(low: float, high: float, words: str) -> None:
    assert words in module._verdict(PairedDifference((low + high) / 2, low, high, p=0.5, cases=9))
