"""The report: one page that loads nothing, whole as far as its folders go, whatever files and classes are called."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from browser import require_sound
from refusals import refused
from small_scans import blob, picture, save
from ucseg.dataset.manifest import load_dataset
from ucseg.folder.predictions import rows_of
from ucseg.planning.plan import read_reasons
from ucseg.reporting.references import References
from ucseg.reporting.results import case_scores, chosen, queue_section
from ucseg.reporting.sources import find_sources
from ucseg.scans.reading import read_scan

Said = list[tuple[str, str]]
ODD = '<b>x<b>&"'
CLASS = '<i>polyp</i> & "$a$"'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA, RUN, MASKS and NUMBERS of a training of two steps."""
    folder = tmp_path_factory.mktemp("study")
    for i in range(12):
        name = f"{ODD}{i}" if i % 3 == 0 else f"scan_{i}"
        picture(folder / "scans" / "images" / f"{name}.png", i)
        if i < 10:
            save(folder / "scans" / "masks" / f"{name}.png", blob(255, i))
    ucseg.init(folder / "scans", out=folder / "data", classes=f"background,{CLASS}", validation="2", test="4")
    settings = [
        "encoder=null",
        "size=[32,32]",
        "width=8",
        "strides=[[2,2],[2,2]]",
        "labelled_batch=2",
        "unlabelled_batch=2",
    ]
    ucseg.plan(folder / "data", set=settings)
    ucseg.train(folder / "data", out=folder / "run", steps=4, set=["log_every=1", "validate_every=2"])
    ucseg.predict(folder / "run", [folder / "data"], out=folder / "masks", probabilities=True)
    ucseg.evaluate(folder / "masks", folder / "data", out=folder / "numbers", uncertainty=True)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> Path:
    return ucseg.report([study / "numbers"], out=study / "report.html")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longest; the page of the whole study has all figures."""
    monkeypatch.setattr("ucseg.reporting.figures._uri", lambda figure: "data:,")


def headings(page: Path) -> list[str]:
    return re.findall(r'<h2 id="(\w+)"', page.read_text())


def test_an_evaluation_leads_to_everything_it_was_made_from(study: Path, page: Path) -> None:
    assert headings(page) == ["numbers", "queue", "cases", "uncertainty", "training", "plan", "data", "made"]
    assert find_sources([study / "numbers"]) == find_sources(
        [study / name for name in ("data", "run", "masks", "numbers")]
    )
    text = page.read_text()
    measured = json.loads((study / "numbers" / "metrics.json").read_text())["by_class"][0]["metrics"]
    assert f"{measured['dice']['mean']:.3f} [{measured['dice']['low']:.3f}, {measured['dice']['high']:.3f}]" in text
    assert f"{measured['hd95']['mean']:.2f}" in text
    worst = min(case_scores(study / "numbers").items(), key=lambda one: (one[1], one[0]))
    first = queue_section(rows_of(study / "masks"))["lines"][0][0]
    top = html.unescape(text[: text.index("<nav>")])
    assert f"Dice {measured['dice']['mean']:.3f} [" in top and "4 cases of 4 subjects" in top
    assert "<th>surface Dice at 2 px</th>" in text
    assert f"{worst[0]} (Dice {worst[1]:.3f})" in top and first in top
    for line in (study / "run" / "metrics.jsonl").read_text().splitlines():
        assert all(
            f"<b>{name}</b>" in text for name in json.loads(line) if name not in ("step", "seconds", "validation")
        )
    for key, why in read_reasons(study / "data" / "plan.yaml").items():
        if key not in ("augmentation", "steps"):
            assert html.escape(why, quote=False) in html.unescape(text).replace("&", "&amp;").replace(
                "<", "&lt;"
            ).replace(">", "&gt;"), key
    drawn = re.findall(r'alt="(Image|Reference|Prediction|Uncertainty) of ', text)
    assert {name: drawn.count(name) for name in set(drawn)} == dict.fromkeys(
        ("Image", "Reference", "Prediction", "Uncertainty"), 4 + 4
    )
    assert text.count('alt="reliability, or risk over coverage"') == 2


def test_sections_appear_as_far_as_the_folders_go(study: Path, no_figures: None) -> None:
    of_run = ucseg.report([study / "run"], out=study / "run.html")
    assert headings(of_run) == ["training", "plan", "data", "made"]
    of_data = ucseg.report([study / "data"], out=study / "data.html")
    assert headings(of_data) == ["plan", "data", "made"]
    of_masks = ucseg.report([study / "masks"], out=study / "masks.html")
    assert headings(of_masks) == ["queue", "training", "plan", "data", "made"]


def test_names_of_others_are_text_and_nothing_is_loaded(page: Path) -> None:
    text = page.read_text()
    assert ODD not in text and CLASS not in text
    assert "<b>x" not in text and "<i>" not in text
    assert html.escape(CLASS, quote=False) in text.replace("&#34;", '"')
    outside = re.sub(r'"data:image/[^"]+"', '""', text)
    assert "://" not in outside and "url(" not in outside and "<script" not in outside
    assert {source[:11] for source in re.findall(r'src="([^"]*)', text)} == {"data:image/"}
    assert "default-src 'none'" in text


def test_a_browser_shows_it_whole_on_a_screen_and_on_a_phone(page: Path, tmp_path: Path) -> None:
    for seen in require_sound(page, tmp_path):
        assert seen.above_fold.count("Dice") >= 2 and "Look first" in seen.above_fold
        assert ODD in seen.text and CLASS in seen.text
        assert "x" not in seen.bold


def test_a_browser_shows_the_contact_sheet(study: Path, tmp_path: Path) -> None:
    for seen in require_sound(study / "data" / "contact_sheet.html", tmp_path):
        assert seen.images == 12
        assert any(text.startswith(ODD) for text in seen.bold)


def test_what_is_gone_or_broken_costs_its_own_part(
    study: Path, tmp_path: Path, said: list[tuple[str, str]], no_figures: None
) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(study / "masks", masks)
    note = json.loads((masks / "prediction.json").read_text())
    (masks / "prediction.json").write_text(json.dumps(note | {"run": str(tmp_path / "gone")}))
    page = ucseg.report([masks, study / "numbers", study / "data"], out=tmp_path / "report.html")
    assert [kind for kind, _ in said if kind == "report-missing"] == []  # the numbers know the run
    first = sorted(masks.glob("*.png"))[0]
    first.write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(sorted(masks.glob("*.png"))[1])
    ucseg.report([masks], out=tmp_path / "masks.html")
    assert [kind for kind, _ in said if kind == "report-missing"] == ["report-missing"]
    text = (tmp_path / "masks.html").read_text()
    assert headings(tmp_path / "masks.html") == ["queue", "made"]
    assert text.count('class="problem"') == 2
    assert headings(page)[:2] == ["numbers", "queue"]


def test_a_new_scan_with_the_name_of_a_known_one_is_shown_as_it_is(study: Path, tmp_path: Path) -> None:
    """Its own picture; and the reference of its evaluation, not that of its namesake."""
    names = ["scan_1", "scan_2"]
    for name in names:
        save(tmp_path / "new" / f"{name}.png", np.full((40, 48), 250, np.uint8))
        save(tmp_path / "true" / f"{name}.png", blob(255, 6))
    ucseg.predict(study / "run", [tmp_path / "new"], out=tmp_path / "masks")
    ucseg.evaluate(tmp_path / "masks", tmp_path / "true", out=tmp_path / "numbers", mask_threshold=100)
    for folder in ("masks", "numbers"):
        sources = find_sources([tmp_path / folder])
        assert sources.data is not None
        references = References(sources, load_dataset(sources.data))
        rows = {row["case"]: row for row in rows_of(tmp_path / "masks")}
        for name in names:
            scan = read_scan(tmp_path / "new" / f"{name}.png")
            case = references.case_of(name, rows[name])
            assert case is None
            label = references.label(name, case, scan)
            assert label is None if folder == "masks" else np.array_equal(label, blob(1, 6))
    shutil.copytree(study / "data", tmp_path / "moved")
    known = load_dataset(tmp_path / "moved")
    row = rows_of(study / "masks")[0]
    case = References(find_sources([study / "masks"]), known).case_of(row["case"], {**row, "file": "/old/place.png"})
    assert case is not None and case.case == row["case"]  # by its content


def test_a_report_names_the_references_that_it_lost(study: Path, tmp_path: Path, no_figures: None, said: Said) -> None:
    shutil.copytree(study / "scans" / "masks", tmp_path / "true")
    ucseg.evaluate(study / "masks", tmp_path / "true", out=tmp_path / "numbers")
    for file in (tmp_path / "true").iterdir():
        file.rename(file.with_name(f"other{file.name}"))
    ucseg.report([tmp_path / "numbers"], out=tmp_path / "report.html")
    assert [str(tmp_path / "true") in text for kind, text in said if kind == "report-missing"] == [True]
    said.clear()
    shutil.rmtree(tmp_path / "true")
    ucseg.report([tmp_path / "numbers"], out=tmp_path / "moved.html")
    assert [str(tmp_path / "true") in text for kind, text in said if kind == "report-missing"] == [True]
    said.clear()
    shutil.copytree(study / "scans" / "masks", tmp_path / "true")
    (tmp_path / "true" / f"{rows_of(tmp_path / 'numbers')[0]['case']}.png").unlink()
    ucseg.report([tmp_path / "numbers"], out=tmp_path / "one_less.html")
    gone = rows_of(tmp_path / "numbers")[0]["case"]
    assert [gone in text for kind, text in said if kind == "report-missing"] == [True]


def test_a_folder_of_something_else_is_refused(study: Path, tmp_path: Path) -> None:
    with refused("report-of-what", naming=study / "scans"):
        ucseg.report([study / "scans"], out=tmp_path / "report.html")
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "index.html").touch()
    with refused("report-of-what", naming=[tmp_path / "compared", "index.html"]):
        ucseg.report([tmp_path / "compared"], out=tmp_path / "report.html")
    with refused("report-not-there", naming=study / "none"):
        ucseg.report([study / "none"], out=tmp_path / "report.html")
    with refused("report-of-two", naming=[study / "run", "run2"]):
        shutil.copytree(study / "run", tmp_path / "run2")
        ucseg.report([study / "run", tmp_path / "run2"], out=tmp_path / "report.html")
    shutil.copytree(study / "data", tmp_path / "other")
    ucseg.report([study / "run", tmp_path / "other"], out=tmp_path / "copy.html")  # the same cases
    cases = (tmp_path / "other/cases.csv").read_text().splitlines()
    (tmp_path / "other/cases.csv").write_text("\n".join(cases[:-1]) + "\n")
    with refused("report-of-others", naming=[tmp_path / "other", study / "data"]):
        ucseg.report([study / "run", tmp_path / "other"], out=tmp_path / "report.html")
    with refused("report-name", naming="report.pdf"):
        ucseg.report([study / "data"], out=tmp_path / "report.pdf")
    with refused("report-exists", naming=study / "report.html"):
        ucseg.report([study / "data"], out=study / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_cases_are_the_worst_the_middle_and_the_best() -> None:
    scores = {f"c{i}": i / 10 for i in range(11)}
    assert [case for case, _ in chosen(scores)] == ["c0", "c1", "c4", "c5", "c9", "c10"]
    assert [what.split()[-1] for _, what in chosen(scores)] == ["worst", "worst", "middle", "middle", "best", "best"]
    assert [what.split()[-1] for _, what in chosen({"a": 0.1, "b": 0.2, "c": 0.3})] == ["worst", "middle", "best"]
    assert [what.split()[-1] for _, what in chosen({"a": 0.1, "b": 0.2})] == ["worst", "best"]
    assert [case for case, _ in chosen({"a": 0.1})] == ["a"]
    assert chosen({}) == []


def test_the_queue_begins_with_the_highest_failure_score() -> None:
    rows = [
        {"case": case, "status": "ok", "failure_score": score, "mean_uncertainty": "0.1", "organ_px": "7"}
        for case, score in (("a", "0.1"), ("b", "0.9"), ("c", ""), ("d", "0.5"))
    ]
    rows.append({"case": "e", "status": "failed", "reason": "broken"})
    queue = queue_section(rows)
    assert [case for case, _, _ in queue["lines"]] == ["b", "d", "a", "c"]
    assert queue["failed"] == [("e", "broken")]
    for row in rows:
        row["failure_score"] = ""
    assert queue_section(rows)["by"] == "mean uncertainty"


def test_an_evaluation_of_scans_of_another_dataset_has_its_report(study: Path, tmp_path: Path, said: Said) -> None:
    for i in range(3):
        picture(tmp_path / "scans" / "images" / f"new_{i}.png", 20 + i)
        save(tmp_path / "scans" / "masks" / f"new_{i}.png", blob(255, i))
    ucseg.init(tmp_path / "scans", out=tmp_path / "other", classes=f"background,{CLASS}", validation="0", test="0")
    ucseg.predict(study / "run", [tmp_path / "other"], out=tmp_path / "masks", split="all")
    ucseg.evaluate(tmp_path / "masks", tmp_path / "other", out=tmp_path / "numbers", split="all")
    found = find_sources([tmp_path / "numbers"])
    assert (found.data, found.run, found.trained_on) == (tmp_path / "other", study / "run", study / "data")
    said.clear()
    page = ucseg.report([tmp_path / "numbers", study / "run", tmp_path / "other"], out=tmp_path / "report.html")
    assert [str(study / "data") in text for kind, text in said if kind == "report-missing"] == [True]
    assert "new_1" in page.read_text()
    assert find_sources([study / "numbers"]).trained_on is None
