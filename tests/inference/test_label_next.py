"""`ucseg label-next` as a user meets it: what it ranks, what it writes, and the way of a corrected mask back."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from threshold_run import make_run, plan_3d

import ucseg
from refusals import refused
from small_scans import volume
from ucseg.dataset.manifest import load_dataset
from ucseg.dataset.slices import Slices
from ucseg.errors import Interrupted
from ucseg.labelling import measures
from ucseg.labelling.shortlist import LabelFolder
from ucseg.scans.reading import read_mask

SHAPE = (20, 24)


def blob(size: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[2 : 2 + size, 3 : 3 + size] = 255
    return array


def call_it_organ(data: Path) -> None:
    """As the run's plan does."""
    config = data / "dataset.yaml"
    config.write_text(config.read_text().replace("1: foreground", "1: organ"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images with a bright square; two have masks, one is for validation and one for testing."""
    for folder in ("images", "masks"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
    for number, name in enumerate("abcdefghij"):
        Image.fromarray(blob(4 + number)).save(tmp_path / "scans" / "images" / f"{name}.png")
        if name in "abgh":
            Image.fromarray(blob(4 + number)).save(tmp_path / "scans" / "masks" / f"{name}.png")
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", validation="0", test="0", modality="other")
    call_it_organ(tmp_path / "data")
    table = tmp_path / "data" / "cases.csv"
    lines = table.read_text().splitlines()
    for name, split in (("g", "validation"), ("h", "test"), ("i", "test")):  # i has no mask, and is still for testing
        lines = [line.replace(",train", f",{split}") if line.startswith(f"{name},") else line for line in lines]
    table.write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def listed(out: Path) -> list[dict[str, str]]:
    with (out / "list.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_unlabelled_training_cases_are_listed_with_masks(
    run: Path, data: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    out = tmp_path / "out"
    rows = ucseg.label_next(run, data, out=out, n=20, strategy="disagreement", device="cpu")
    table = listed(out)
    assert sorted(row["case"] for row in table) == ["c", "d", "e", "f", "j"]
    assert [row["rank"] for row in table] == ["1", "2", "3", "4", "5"]
    assert {row["strategy"] for row in table} == {"disagreement"}
    assert [row["case"] for row in rows] == [row["case"] for row in table]
    for row in table:
        start = read_mask(out / row["start"]).array[0]
        image = np.asarray(Image.open(row["image"]))
        np.testing.assert_array_equal(start, image)  # bright is foreground, 255 as in the dataset's own masks
    page = (out / "sheet.html").read_text()
    assert page.count("<img") == 5
    assert all(f". {row['case']}<" in page for row in table)
    assert list((out / "finished").iterdir()) == []
    assert {"labels-wanted", "correct-and-add"} <= {kind for kind, _ in said}


def test_a_corrected_mask_comes_back(run: Path, data: Path, tmp_path: Path, said: list[tuple[str, str]]) -> None:
    out = tmp_path / "out"
    first, *_ = ucseg.label_next(run, data, out=out, n=2, device="cpu")
    with refused("masks-are-starts", naming=out / "start"):
        ucseg.add_masks(data, out / "start")
    shutil.copy(out / first["start"], out / "finished")
    assert ucseg.add_masks(data, out / "finished").added == [first["case"]]
    assert first["case"] in [case.case for case in load_dataset(data).labelled]
    assert "nearly-chance" not in [kind for kind, _ in said]
    again = ucseg.label_next(run, data, out=tmp_path / "next", n=20, strategy="class-entropy", device="cpu")
    assert first["case"] not in [row["case"] for row in again]
    assert "nearly-chance" in [kind for kind, _ in said]


def test_slices_of_volumes_and_their_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", plan_3d(spacing=(1.0, 1.0, 3.0)), monkeypatch)
    array = np.zeros((20, 18, 24), np.float32)
    array[4:9, 4:9, 10:13] = 100
    for name in "abc":
        volume(tmp_path / "scans" / "images" / f"{name}.nii.gz", array + ord(name) % 3)
    volume(tmp_path / "scans" / "masks" / "a.nii.gz", (array > 0).astype(np.uint8))
    data, out = tmp_path / "data", tmp_path / "out"
    ucseg.init(tmp_path / "scans", out=data, validation="0", test="0", modality="mri")
    call_it_organ(data)
    words: dict[str, Any] = {"slices": True, "strategy": "foreground-random", "device": "cpu"}
    rows = ucseg.label_next(run, data, out=out, n=3, **words)
    assert {row["case"] for row in rows} <= {"b", "c"}
    first, numbers = rows[0], [int(row["slice"]) for row in rows if row["case"] == rows[0]["case"]]
    assert numbers[0] in (10, 11, 12)

    mask = read_mask(out / first["start"]).array[0].copy()
    assert mask.shape == array.shape
    mask[:, :, numbers[0]] = 1  # the expert's word
    volume(out / "finished" / Path(first["start"]).name, mask.astype(np.uint8))
    assert ucseg.add_masks(data, out / "finished").added == [first["case"]]
    assert ucseg.add_masks(data, out / "finished").kept == [first["case"]]
    (case,) = [one for one in load_dataset(data).cases if one.case == first["case"]]
    assert case.slices == Slices(2, tuple(sorted(numbers)))

    again = ucseg.label_next(run, data, out=tmp_path / "next", n=60, **words)
    of_same = [row for row in again if row["case"] == case.case]
    assert of_same
    assert all(abs(int(row["slice"]) - known) > 1 for row in of_same for known in numbers)
    start = tmp_path / "next" / of_same[0]["start"]
    assert (read_mask(start).array[0][:, :, numbers[0]] == 1).all()
    shutil.copy(start, tmp_path / "next" / "finished")
    assert ucseg.add_masks(data, tmp_path / "next" / "finished").replaced == [case.case]
    (case,) = [one for one in load_dataset(data).cases if one.case == first["case"]]
    assert case.slices is not None
    assert {*case.slices.numbers} == {*numbers, *(int(row["slice"]) for row in of_same)}


def test_a_stopped_list_goes_on(run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ucseg.label_next(run, data, out=tmp_path / "whole", n=3, strategy="entropy", device="cpu")
    looked: list[str] = []
    measure = measures.measure_scan

    def stop_at_third(predictor: object, case: str, *args: object, **words: object) -> object:
        if len(looked) == 2:
            raise KeyboardInterrupt
        looked.append(case)
        return measure(predictor, case, *args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(measures, "measure_scan", stop_at_third)
    words: dict[str, Any] = {"out": tmp_path / "out", "n": 3, "strategy": "entropy", "device": "cpu"}
    with pytest.raises(Interrupted, match="--resume"):
        ucseg.label_next(run, data, **words)
    with (tmp_path / "out" / "measures.jsonl").open("a") as file:
        file.write('{"case": "half a l')
    before = [*looked]
    looked[:] = ["never"] * 9  # the third call does not stop again
    with refused("list-differs", naming="seed"):
        ucseg.label_next(run, data, **words, seed=1, resume=True)
    with refused("out-has-list", naming="--resume"):
        ucseg.label_next(run, data, **words)
    rows = ucseg.label_next(run, data, **words, resume=True)
    assert not {*before} & {*looked[9:]}
    assert [row["case"] for row in rows] == [row["case"] for row in whole]
    kept = [json.loads(line)["case"] for line in (tmp_path / "out" / "measures.jsonl").read_text().splitlines()]
    assert sorted(kept) == ["c", "d", "e", "f", "j"]


def test_a_broken_scan_is_named_and_the_others_are_listed(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "scans" / "images" / "c.png").write_bytes(b"no image")
    with refused("scans-not-ranked", naming="1"):
        ucseg.label_next(run, data, out=tmp_path / "out", n=20, strategy="entropy", device="cpu")
    assert sorted(row["case"] for row in listed(tmp_path / "out")) == ["d", "e", "f", "j"]


@pytest.mark.parametrize("at", ["figures", "mask"])
def test_memory_that_runs_out_costs_one_scan(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, written = measures.measure_scan, LabelFolder.write_start

    def measure_scan(predictor: Any, case: str, *rest: Any, **words: Any) -> Any:
        if (at, case) == ("figures", "c"):
            raise MemoryError
        return measured(predictor, case, *rest, **words)

    def write_start(self: LabelFolder, case: Any, *rest: Any) -> None:
        if (at, case.case) == ("mask", "c"):
            raise MemoryError
        written(self, case, *rest)

    monkeypatch.setattr(measures, "measure_scan", measure_scan)
    monkeypatch.setattr(LabelFolder, "write_start", write_start)
    with refused("scans-not-ranked", naming="1"):
        ucseg.label_next(run, data, out=tmp_path / "out", n=20, strategy="entropy", device="cpu")
    assert {row["case"] for row in listed(tmp_path / "out")} >= {"d", "e", "f", "j"}
    assert "c.png: there is not enough memory for it" in " ".join(capsys.readouterr().err.split())


def test_mistakes_before_any_work(run: Path, data: Path, tmp_path: Path) -> None:
    with refused("strategy-unknown", naming=["best", "foreground-random"]):
        ucseg.label_next(run, data, out=tmp_path / "out", strategy="best")
    with refused("data-without-slices", naming="--slices"):
        ucseg.label_next(run, data, out=tmp_path / "out", slices=True, n=1, device="cpu")
    assert not (tmp_path / "out").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cases.csv").write_text((data / "cases.csv").read_text())
    config = (data / "dataset.yaml").read_text()
    (tmp_path / "other" / "dataset.yaml").write_text(config.replace("organ", "lung"))
    with refused("run-of-other-classes", naming=["organ", "lung"]):
        ucseg.label_next(run, tmp_path / "other", out=tmp_path / "out", n=1, device="cpu")
    with refused("list-out-taken", naming=data):
        ucseg.label_next(run, data, out=data, device="cpu")


def test_masks_of_an_unknown_model_are_not_listed(tmp_path: Path) -> None:
    """A list's record was removed to make the list again, with another run say: its masks would stay."""
    (tmp_path / "start").mkdir()
    LabelFolder(tmp_path, {"run": "a"})
    (tmp_path / "label_next.json").unlink()
    (tmp_path / "start" / "c.png").write_bytes(b"mask")
    for resume in (False, True):
        with refused("starts-of-unknown-model", naming="start"):
            LabelFolder(tmp_path, {"run": "b"}, resume=resume)
    assert not (tmp_path / "label_next.json").exists()
