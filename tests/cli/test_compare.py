"""`ucseg compare` from the outside: one small grid from beginning to end, going on with it, and wrong words."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ucseg
from browser import require_sound
from cells import run_here
from refusals import refused
from ucseg.comparison.processes import Job, run_jobs
from ucseg.comparison.summary import Summary
from ucseg.demonstration.scans import draw_dataset
from ucseg.errors import Interrupted, UserError

WORDS = {"classes": "background,organ", "modality": "ultrasound"}
SMALL = ["plan.encoder=null", "plan.width=8", "plan.labelled_batch=1", "plan.unlabelled_batch=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset `data`, and `other` from elsewhere."""
    root = tmp_path_factory.mktemp("compare")
    draw_dataset(root / "scans", "ultrasound", 12, (32, 32), 0)
    draw_dataset(root / "elsewhere", "ultrasound", 2, (32, 32), 1)
    ucseg.init(root / "scans", out=root / "data", validation="2", test="4", **WORDS)
    ucseg.init(root / "elsewhere", out=root / "other", validation="0", test="0", **WORDS)
    return root


def compare(root: Path, out: Path, **words: Any) -> Summary:
    words = {"methods": "mean_teacher", "labelled": "2", "seeds": 1, "steps": 1, "set": ["workers=0"]} | words
    given = [words["set"]] if isinstance(words["set"], str) else words["set"]
    return ucseg.compare(root / "data", out=out, **words | {"set": [*given, *SMALL]})


@pytest.fixture(scope="module")
def grid(data: Path) -> Path:
    """A finished comparison of three runs: the first in a process of its own, as all are for users."""

    def run(jobs: list[Job], at_once: int, on_end: Any, on_wait: Any, keep_open: Any) -> bool:
        reports = (on_end, on_wait, keep_open)
        with pytest.MonkeyPatch.context() as undrawn:  # the page is written after each run; the last one has figures
            undrawn.setattr("ucseg.comparison.figures._uri", lambda figure: "data:,")
            started = run_jobs(jobs[:1], at_once, *reports) and run_here(jobs[1:-1], at_once, *reports)
        return started and run_here(jobs[-1:], at_once, *reports)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ucseg.comparison.processes.run_jobs", run)
        compare(data, data / "grid", test_on=data / "other")
    return data / "grid"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No process is started; the names of those that would have been."""
    started: list[str] = []
    monkeypatch.setattr("ucseg.comparison.figures._uri", lambda figure: "data:,")  # drawing takes longest

    def run(jobs: list[Job], at_once: int, on_end: Any, on_wait: Any, keep_open: Any) -> bool:
        started.extend(job.name for job in jobs)
        return False

    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", run)
    return started


def test_every_case_class_variant_and_both_weights_are_in_the_tables(grid: Path) -> None:
    cases = pd.read_csv(grid / "cases.csv", dtype={"labelled": str})
    assert set(cases["variant"]) == {"supervised", "supervised/unet", "supervised/unet_strided", "mean_teacher"}
    assert set(cases["weights"]) == {"last", "best"}
    per_place = cases.groupby(["test", "labelled", "variant", "weights"])["case"].nunique()
    assert set(per_place) == {4, 2}
    assert len(per_place) == 2 * 2 * (3 + 3 + 1)  # test sets, weights, rows of supervised at 2 and all, mean_teacher
    table = pd.read_csv(grid / "table.csv", dtype={"labelled": str})
    one = table[
        (table["variant"] == "supervised/unet_strided") & (table["labelled"] == "2") & (table["weights"] == "last")
    ]
    rows = cases[
        (cases["variant"] == "supervised/unet_strided") & (cases["labelled"] == "2") & (cases["weights"] == "last")
    ]
    for title in set(cases["test"]):
        assert float(one.loc[one["test"] == title, "dice"].iloc[0]) == pytest.approx(
            rows.loc[rows["test"] == title, "dice"].mean(), abs=1e-5
        )


def test_finished_runs_keep_their_weights_and_no_state(grid: Path) -> None:
    assert len(list(grid.glob("runs/*/last.safetensors"))) == 3
    assert not list(grid.glob("runs/*/state.safetensors"))


def test_figures_are_those_of_predict_and_evaluate(grid: Path, data: Path, tmp_path: Path) -> None:
    ucseg.predict(grid / "runs" / "supervised-2-seed0", data / "data", out=tmp_path / "masks", members=True)
    found = {"supervised": tmp_path / "masks", "supervised/unet": tmp_path / "masks" / "members" / "unet"}
    cases = pd.read_csv(grid / "cases.csv", dtype={"labelled": str})
    for variant, masks in found.items():
        numbers = ucseg.evaluate(masks, data / "data", out=tmp_path / "numbers", overwrite=True)
        here = cases[(cases["variant"] == variant) & (cases["labelled"] == "2") & (cases["weights"] == "last")]
        own = here[here["case"].isin(numbers.case_means("dice")) & here["test"].str.contains("test split")]
        for metric in ("dice", "hd95", "surface_dice"):
            values = own.set_index("case")[metric].to_dict()
            assert values == pytest.approx(numbers.case_means(metric), rel=1e-4)


def test_a_run_saw_only_the_shown_masks_and_no_test_case(grid: Path) -> None:
    seen = {
        run.name: json.loads((run / "config.json").read_text())["cases"] for run in (grid / "runs").iterdir()
    }  # fmt: skip
    assert len(seen) == 3
    tested = set(pd.read_csv(grid / "cases.csv").query("test.str.contains('test split')")["case"])
    for cases in seen.values():
        assert not tested & {*cases["labelled"], *cases["unlabelled"], *cases["validation"]}
    assert seen["supervised-2-seed0"]["labelled"] == seen["mean_teacher-2-seed0"]["labelled"]
    assert len(seen["mean_teacher-2-seed0"]["labelled"]) == 2
    assert len(seen["mean_teacher-2-seed0"]["unlabelled"]) == 4
    assert len(seen["supervised-all-seed0"]["labelled"]) == 6


def test_the_page_is_one_file_that_says_it_all(grid: Path, tmp_path: Path) -> None:
    page = (grid / "index.html").read_text()
    bare = re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert "://" not in bare
    assert str(grid.parent) not in bare.partition("<pre>")[0]  # of this machine; the command is as it was typed
    assert page.count("data:image/png;base64,") == 2 * 2 * 3
    assert "Not finished" not in page
    assert "one seed" in page
    assert "Holm" in page
    assert "with a mask" in page  # the other dataset has no test split
    require_sound(grid / "index.html", tmp_path)
    summary = json.loads((grid / "summary.json").read_text())
    assert (summary["finished"], summary["cells"], summary["failed"]) == (3, 3, {})
    assert summary["training"]["mean_teacher-2-seed0"]["peak_bytes"] > 1e8
    assert summary["reference"] == "mean_teacher"


def test_what_is_finished_is_kept_and_only_what_is_new_runs(
    grid: Path, data: Path, no_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.stat().st_mtime_ns for file in (grid / "cells").iterdir()}
    with pytest.raises(Interrupted, match="3 of 6 runs"):
        compare(data, grid, test_on=data / "other", seeds=2)
    assert no_process == ["supervised-2-seed1", "supervised-all-seed1", "mean_teacher-2-seed1"]
    assert before == {file: file.stat().st_mtime_ns for file in (grid / "cells").iterdir()}
    assert "Not finished" in (grid / "index.html").read_text()
    no_process.clear()
    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", lambda jobs, *more: not jobs)
    assert {row.test for row in compare(data, grid).rows} == {"test"}  # fewer test sets: nothing to do


def test_other_code_is_reported_before_anything_runs_and_at_the_top_of_the_page(
    grid: Path,
    data: Path,
    tmp_path: Path,
    no_process: list[str],
    said: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "grid"
    shutil.copytree(grid, copy)
    cell = copy / "cells" / "supervised-2-seed0.json"
    cell.write_text(cell.read_text().replace('"ucseg":"', '"ucseg":"0.0.1-of-old-', 1))
    with pytest.raises(Interrupted):
        compare(data, copy, seeds=2)
    assert "0.0.1-of-old-" in dict(said)["several-versions"]
    assert "0.0.1-of-old-" in (copy / "index.html").read_text().partition("<h2>")[0]
    assert "0.0.1-of-old-" not in (grid / "index.html").read_text()
    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", lambda jobs, *more: not jobs)
    for file in (copy / "cells").iterdir():
        file.write_text(cell.read_text())
    compare(data, copy)
    assert "0.0.1-of-old-" in dict(said)["other-version"]
    said.clear()
    compare(data, grid)
    assert not {"several-versions", "other-version"} & set(dict(said))


def test_a_further_test_set_hides_nothing_of_what_is_measured_on_the_others(
    grid: Path, data: Path, tmp_path: Path, no_process: list[str]
) -> None:
    copy = tmp_path / "grid"
    shutil.copytree(grid, copy)
    for file in (copy / "cells").iterdir():
        cell = json.loads(file.read_text())
        cell["tests"] = {"test": cell["tests"]["test"]}
        file.write_text(json.dumps(cell))
    with pytest.raises(Interrupted, match="0 of 3 runs"):
        compare(data, copy, test_on=data / "other")
    assert len(no_process) == 3
    table, whole = (pd.read_csv(folder / "table.csv") for folder in (copy, grid))
    assert table["dice"].tolist() == whole.loc[whole["test"].str.contains("test split"), "dice"].tolist()
    summary = json.loads((copy / "summary.json").read_text())
    assert (summary["finished"], summary["cells"]) == (0, 3)


def test_other_steps_settings_and_labelled_cases_are_refused(grid: Path, data: Path, no_process: list[str]) -> None:
    with refused("comparison-changed", naming=[grid, "'steps' was 1", "is 2"]):
        compare(data, grid, steps=2)
    with refused("comparison-changed", naming=["'lr' was 0.03", "is 0.5"]):
        compare(data, grid, set=["lr=0.5"])
    assert no_process == []


def test_a_failed_run_is_named_the_others_are_done_and_it_is_tried_again(
    grid: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {file.name: file.read_text() for file in (grid / "cells").iterdir()}
    tried: list[list[str]] = []
    monkeypatch.setattr("ucseg.comparison.figures._uri", lambda figure: "data:,")

    def run(jobs: list[Job], at_once: int, on_end: Any, on_wait: Any, keep_open: Any) -> bool:
        tried.append([job.name for job in jobs])
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text("ucseg: no memory left.\n")
            fails = job.name == "supervised-all-seed0"
            if not fails:
                file = tmp_path / "out" / "cells" / f"{job.name}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(cells[file.name])
            on_wait([job.name])
            on_end(job, 2 if fails else 0)
        return True

    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", run)
    for _ in range(2):
        log = tmp_path / "out" / "logs" / "supervised-all-seed0.log"
        with refused("runs-failed", naming=["1 of 3 runs", "supervised, all labelled", "no memory left.", log]):
            compare(data, tmp_path / "out")
        assert "no memory left" in (tmp_path / "out" / "index.html").read_text()
    assert [len(names) for names in tried] == [3, 1]
    assert "is not finished" in (tmp_path / "out" / "index.html").read_text()  # no ceiling, so no gap


def test_all_that_is_wrong_is_said_before_anything_begins(data: Path, tmp_path: Path, no_process: list[str]) -> None:
    with pytest.raises(UserError) as error:
        compare(
            data, tmp_path / "out", methods=["uc_sge", "supervised:lr=0.1"], labelled="0,2,50", seeds=0,
            set=["seed=3", "stepz=3"], reference="cps", test_on=[tmp_path],
        )  # fmt: skip
    found = {"common-seed", "no-seed", "reference-unknown", "amount-nothing"}
    assert found < set(error.value.codes)
    for named in ("'uc_sge'", "'uc_seg'", "--labelled 0", "--labelled 50", "--seeds 0", "--reference cps", tmp_path):
        assert str(named) in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"variant 'supervised:method.networks=\[nunet\]': .*nunet"):
        compare(data, tmp_path / "out", variants="supervised:method.networks=[nunet]")
    with refused("variants-same", naming=["'uc_seg:lr=0.020:method.mixing=true'", "'uc_seg'"]):
        compare(data, tmp_path / "out", variants="uc_seg,uc_seg:lr=0.020:method.mixing=true", set=["lr=0.02"])
    ucseg.init(data / "scans", out=tmp_path / "bare", test="0", validation="0", **WORDS)
    with refused("no-test-mask", "no-validation-mask", naming=[tmp_path / "bare", "--test", "--validation"]):
        ucseg.compare(tmp_path / "bare", out=tmp_path / "out", labelled="2")
    draw_dataset(tmp_path / "scans", "ultrasound", 2, (32, 32), 1)
    ucseg.init(tmp_path / "scans", out=tmp_path / "liver", test="0", validation="0", classes="background,liver")
    with refused("test-set-classes", naming=[tmp_path / "liver", "liver", "organ"]):
        compare(data, tmp_path / "out", test_on=tmp_path / "liver")
    assert no_process == []


def test_training_images_in_another_test_set_are_reported(
    data: Path, tmp_path: Path, no_process: list[str], said: list[tuple[str, str]]
) -> None:
    with (data / "data" / "cases.csv").open() as file:
        split = {row["case"]: row["split"] for row in csv.DictReader(file)}
    seen = next(case for case, where in split.items() if where == "train")
    for kind in ("images", "masks"):
        (tmp_path / "again" / kind).mkdir(parents=True)
        for folder, case in (("scans", seen), ("elsewhere", "*")):
            for file in sorted((data / folder / kind).glob(f"{case}.*"))[:1]:
                shutil.copy(file, tmp_path / "again" / kind / f"{folder}{file.suffix}")
    ucseg.init(tmp_path / "again", out=tmp_path / "again-data", validation="0", test="0", **WORDS)
    with pytest.raises(Interrupted):
        compare(data, tmp_path / "out", test_on=tmp_path / "again-data", set="workers=0")
    (note,) = [text for kind, text in said if kind == "note"]
    for named in ("1 of its images", "training cases", "data (scans)"):
        assert str(named) in note
    with refused("test-set-own", naming=data / "data"):
        compare(data, tmp_path / "out", test_on=data / "data")


def test_what_is_finished_and_not_named_is_reported(
    grid: Path, data: Path, tmp_path: Path, no_process: list[str], said: list[tuple[str, str]]
) -> None:
    shutil.copytree(grid, tmp_path / "out", ignore=shutil.ignore_patterns("runs"))
    with pytest.raises(Interrupted, match="2 of 2 runs"):
        compare(data, tmp_path / "out", methods="supervised")
    for named in ("(mean_teacher-2-seed0)", str(data / "other")):
        assert named in dict(said)["note"]
        assert named in (tmp_path / "out" / "index.html").read_text()


def test_an_amount_has_one_name_and_what_rounding_makes_of_it_is_reported(
    grid: Path, data: Path, tmp_path: Path, no_process: list[str], said: list[tuple[str, str]]
) -> None:
    with refused("amount-twin", naming=[grid, "--labelled 33%", "2 cases"]):
        compare(data, grid, labelled="33%")
    with pytest.raises(Interrupted):
        compare(data, tmp_path / "out", labelled="0.01,0.5,1.0")
    (note,) = [text for kind, text in said if kind == "note"]
    for named in ("--labelled 1% of 6", "0.06", "1 (16.7%)"):
        assert named in note
    assert no_process[:3] == ["supervised-1pct-seed0", "supervised-50pct-seed0", "supervised-all-seed0"]
    assert len(no_process) == 6


def test_cells_are_started_with_all_that_they_must_know(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    tasks: list[dict[str, Any]] = []

    def run(jobs: list[Job], at_once: int, *others: Any) -> bool:
        tasks.extend(json.loads(job.command[-1]) for job in jobs)
        return False

    monkeypatch.setattr("ucseg.comparison.processes.run_jobs", run)
    with pytest.raises(Interrupted, match="same command"):
        compare(data, tmp_path / "out", variants="uc_seg:method.mixing=false", set=["lr=0.02"], steps=7)
    by_name = {task["name"]: task for task in tasks}
    ablated = by_name["uc_seg+method.mixing=false-2-seed0"]
    assert ablated["settings"] == ["lr=0.02", "method.mixing=false"]
    assert by_name["supervised-2-seed0"]["settings"] == ["lr=0.02", "method.networks=[unet,unet_strided]"]
    assert {task["steps"] for task in tasks} == {7}
    assert all(Path(task["dataset"]).is_dir() for task in tasks)


def test_an_array_job_has_a_line_for_each_run_that_is_left(
    data: Path, grid: Path, tmp_path: Path, no_process: list[str], said: list[tuple[str, str]]
) -> None:
    shutil.copytree(grid, tmp_path / "the out")
    (tmp_path / "the out" / "cells" / "mean_teacher-2-seed0.json").unlink()
    compare(data, tmp_path / "the out", test_on=data / "other", slurm=True)
    lines = (tmp_path / "the out" / "slurm_cells.txt").read_text().splitlines()
    assert [json.loads(line.partition("\t")[2])["name"] for line in lines] == ["mean_teacher-2-seed0"]
    assert not no_process
    assert any(kind == "slurm" and f"sbatch '{tmp_path / 'the out' / 'slurm.sh'}'" in text for kind, text in said)


def test_ray_and_slurm_exclude_each_other(data: Path, tmp_path: Path) -> None:
    with refused("ray-and-slurm"):
        compare(data, tmp_path / "out", ray="local", slurm=True)
    with refused("ray-gpu-number", naming="cpu:1"):
        compare(data, tmp_path / "out", ray="local", set=["workers=0", "device=cpu:1"])
    assert not (tmp_path / "out").exists()
