"""`ucseg predict` as a user meets it: what it writes, what it says, what it leaves alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from threshold_run import BRIGHT, DARK, make_run, plan_2d, plan_3d

import ucseg
from refusals import refused
from ucseg.cli.main import main
from ucseg.cli.predict import _coded, predict
from ucseg.cli.prediction_words import say_what_did_not_learn, say_which_are_empty
from ucseg.demonstration.scans import draw_dataset
from ucseg.errors import Interrupted
from ucseg.folder.inputs import HOW_TO_PREDICT_MASKS
from ucseg.inference import outputs
from ucseg.inference.outputs import PredictionFolder
from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import CasePrediction
from ucseg.machine.writing import PART
from ucseg.planning.origin import Origin
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Scan


def image_of(*shape: int, value: int = 255) -> np.ndarray:
    """Dark, with a bright quarter (rounded down on each side)."""
    image = np.zeros(shape, np.uint8)
    image[: shape[0] // 2, : shape[1] // 2] = value
    return image


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(image_of(40, 30)).save(folder / "a.png")
    Image.fromarray(image_of(21, 17)).save(folder / "b.tif")
    Image.fromarray(image_of(10, 10)).save(folder / "more" / "a.png")
    return folder


def test_files_and_table(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = predict(run, [scans], out=out, device="cpu", members=True, probabilities=True)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    cases = {"scans_a", "b", "more_a"}
    assert files == (
        {f"{case}.png" for case in cases}
        | {f"uncertainty/{case}.tif" for case in cases}
        | {f"probabilities/{name}/{case}.tif" for case in cases for name in ("background", "organ")}
        | {f"members/{name}/{case}.png" for case in cases for name in ("low", "high")}
        | {"cases.csv", "prediction.json"}
    )
    mask = np.asarray(Image.open(out / "scans_a.png"))
    np.testing.assert_array_equal(mask, image_of(40, 30, value=1))
    doubt = np.asarray(Image.open(out / "uncertainty" / "scans_a.tif"))
    np.testing.assert_allclose(doubt, np.where(mask == 1, BRIGHT, DARK), atol=1e-6)

    row = table(out)["scans_a"]
    assert row["file"] == str(scans / "a.png")
    assert (row["status"], row["reason"], row["mask"]) == ("ok", "", "scans_a.png")
    assert row["organ_px"] == "300"
    assert float(row["mean_uncertainty"]) == pytest.approx((BRIGHT + 3 * DARK) / 4, rel=1e-5)
    assert float(row["failure_score"]) == pytest.approx(0, abs=1e-6)
    assert row["mirror_variance"] == row["run_disagreement"] == row["predicted_dice"] == ""
    assert [str(one["case"]) for one in folder.rows] == list(table(out))


def test_a_scan_whose_package_is_missing_leaves_the_others_alone(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scans / "volume.mha").write_bytes(b"NDims = 3")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    monkeypatch.delitem(sys.modules, "ucseg.scans.itk", raising=False)
    with refused("scans-failed", naming="1 of 4 scans"):
        predict(run, [scans], out=tmp_path / "out", device="cpu")
    rows = table(tmp_path / "out")
    assert "pip install SimpleITK" in rows.pop("volume")["reason"]
    assert {row["status"] for row in rows.values()} == {"ok"}


@pytest.mark.parametrize(("always", "score", "named"), [((1,), 1, "holds organ"), ((), 0, "look at these")])
def test_empty_masks_are_named_and_do_not_pass_for_the_best_ones(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[tuple[str, str]],
    always: tuple[int, ...],
    score: float,
    named: str,
) -> None:
    plan = plan_2d(normalisation="ct", ct_window={"low": 0, "high": 255, "mean": 0, "std": 255}, always_present=always)
    run = make_run(tmp_path / "run", plan, monkeypatch)
    Image.fromarray(image_of(20, 20, value=9)).save(scans / "dark.png")
    for name in "xyz":
        Image.fromarray(image_of(12, 14)).save(scans / f"{name}.png")
    out = tmp_path / "out"
    for resume in (False, True):
        said.clear()
        predict(run, [scans], out=out, device="cpu", resume=resume)
        texts = dict(said)
        assert "1 (dark)" in texts["empty-masks"] and named in texts["empty-masks"]
        assert ("dark 1.00" in texts.get("look-or-label", "")) == (score > 0)
    scores = {case: float(row["failure_score"]) for case, row in table(out).items()}
    assert [scores[case] for case in ("b", "dark")] == pytest.approx([0, score], abs=1e-6)


@pytest.mark.parametrize(("volumes", "never"), [([(5, 0), (7, 0)], ["tumour"]), ([(5, 0), (0, 2)], []), ([], [])])
def test_a_class_that_every_training_mask_holds_and_no_mask_here_is_named(
    said: list[tuple[str, str]], volumes: list[tuple[float, float]], never: list[str]
) -> None:
    plan = plan_2d(classes={0: "background", 1: "organ", 2: "tumour"}, always_present=(1, 2))
    columns = outputs.volume_columns(plan)
    rows = [{"case": "a", "status": "ok", **dict(zip(columns, volume, strict=True))} for volume in volumes]
    files = SimpleNamespace(plan=plan)
    here = SimpleNamespace(rows=[*rows, {"case": "b", "status": "failed"}], files=files, empty=[])
    say_which_are_empty(cast(PredictionFolder, here))
    assert [name in dict(said).get("classes-never-found", "") for name in never] == [True] * len(never)
    assert len(said) == len(never)


def test_weights_that_are_not_final_are_reported(
    run: Path, scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for step, reported in ((9, True), (24, False)):
        said.clear()
        (copy / "last.json").write_text(json.dumps({"step": step, "of": 24}))
        predict(copy, [scans / "b.tif"], out=tmp_path / f"out{step}", device="cpu")
        text = dict(said).get("not-final", "")
        assert ("step 9 of 24" in text and f"ucseg train DATA --out {copy} --resume" in text) is reported


@pytest.mark.parametrize(("of_dataset", "kind"), [(True, "look-first"), (False, "look-or-label")])
def test_cases_of_a_dataset_are_not_named_to_be_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]], of_dataset: bool, kind: str
) -> None:
    """To label test cases would be a leak."""
    window = {"low": 0, "high": 255, "mean": 0, "std": 255}
    plan = plan_2d(normalisation="ct", ct_window=window, always_present=(1,))
    run = make_run(tmp_path / "run", plan, monkeypatch)
    draw_dataset(tmp_path / "scans", "ultrasound", 6, (32, 32), 0)
    dark = tmp_path / "scans" / "images" / "synthetic000.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(dark)
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", modality="ultrasound", test=0, validation=0)
    said.clear()
    inputs = tmp_path / ("data" if of_dataset else "scans/images")
    predict(run, [inputs], out=tmp_path / "out", device="cpu", split="all")
    assert "synthetic000 1.00" in dict(said)[kind]
    assert len({"look-first", "look-or-label"} & {*dict(said)}) == 1


def test_volumes_are_in_millilitres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", plan_3d(spacing=(2.0, 3.0, 5.0)), monkeypatch)
    voxels = np.zeros((12, 10, 8), np.float32)
    voxels[:5, :4, :5] = 1
    nib.save(nib.Nifti1Image(voxels, np.diag([-2.0, 3.0, 5.0, 1.0])), tmp_path / "scan.nii.gz")
    predict(run, [tmp_path / "scan.nii.gz"], out=tmp_path / "out", device="cpu")
    assert float(table(tmp_path / "out")["scan"]["organ_ml"]) == pytest.approx(100 * 30 / 1000)


def test_scans_that_are_all_of_another_kind_than_the_runs_are_refused_once(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    volumes, out = tmp_path / "volumes", tmp_path / "out"
    volumes.mkdir()
    for name in "xyz":
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), volumes / f"{name}.nii")
    other = make_run(tmp_path / "other", plan_3d(), monkeypatch)
    flat = make_run(tmp_path / "flat", plan_2d(unit="mm"), monkeypatch)
    for made, given, naming in (
        (run, volumes, ["2D scans in px", "the 3 scans", "x.nii", "3D in mm"]),
        (run, volumes / "x.nii", ["2D scans in px", "x.nii is 3D in mm"]),
        (other, scans, ["3D scans in mm", "the 3 scans", "2D in px"]),
        (flat, scans, ["2D scans in mm", "the 3 scans", "2D in px", "--spacing"]),
    ):
        with refused("scans-not-of-run", naming=[made, *naming]):
            predict(made, [given], out=out, device="cpu")
    (volumes / "a.nii").write_bytes(b"no header")
    with refused("scans-not-of-run", naming=[run, "the 3 scans", "x.nii"]):
        predict(run, [volumes], out=out, device="cpu")
    assert not out.exists()
    assert "scan-failed" not in dict(said)


def test_a_broken_scan_is_named_and_the_others_are_done(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (scans / "b.tif").read_bytes()
    (scans / "broken.tif").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8) + np.arange(3, dtype=np.uint8)).save(scans / "colour.png")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), scans / "volume.nii")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(run), str(scans), "--out", str(out), "--device", "cpu"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "3 of 6 scans" in said
    rows = table(out)
    for case, reason in {"broken": "damaged or cut short", "colour": "3 channels", "volume": "3D"}.items():
        assert rows[case]["status"] == "failed"
        assert reason in rows[case]["reason"]
        assert str(scans / case) in rows[case]["reason"]
        assert rows[case]["reason"] in said
        assert not list(out.rglob(f"{case}.*"))
    for case in ("scans_a", "more_a", "b"):
        assert rows[case]["status"] == "ok"
        assert (out / f"{case}.png").exists()


@pytest.mark.parametrize(
    ("failure", "at", "named"),
    [
        (MemoryError(), "mask", "other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "map", "programs"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB."), "windows", "--device cpu"),
    ],
)
def test_memory_that_runs_out_costs_one_scan_and_leaves_nothing_of_it(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, at: str, named: str
) -> None:
    written, predicted = outputs.write_like, Predictor.predict_scan

    def write_like(array: np.ndarray, like: Scan, path: Path, colours: Any = None) -> None:
        if path.stem == "b" and at == {"organ": "map", "out": "mask"}.get(path.parent.name):
            raise failure
        written(array, like, path, colours)

    def predict_scan(self: Predictor, scan: Scan, **options: Any) -> CasePrediction:
        if at == "windows" and scan.source.name == "b.tif":
            raise failure
        return predicted(self, scan, **options)

    monkeypatch.setattr(outputs, "write_like", write_like)
    monkeypatch.setattr(Predictor, "predict_scan", predict_scan)
    out = tmp_path / "out"
    with refused("scans-failed", naming="1 of 3 scans"):
        predict(run, [scans], out=out, device="cpu", probabilities=True)
    rows = table(out)
    assert [rows[case]["status"] for case in ("scans_a", "b", "more_a")] == ["ok", "failed", "ok"]
    assert str(scans / "b.tif") in rows["b"]["reason"] and named in rows["b"]["reason"]
    assert not list(out.rglob("b.*")) and not list(out.rglob(PART))


def test_an_input_without_scans_is_named_and_the_others_are_done(run: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with refused("inputs-left-out", naming=tmp_path / "out"):
        predict(run, [tmp_path / "empty", scans], out=tmp_path / "out", device="cpu")
    assert table(tmp_path / "out")


def test_masks_among_the_scans_are_reported_in_one_line_and_not_predicted(
    run: Path, scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    for name in ("a_Annotation.png", "more/a_Annotation.png"):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8) + np.arange(3, dtype=np.uint8)).save(scans / name)
    main_ok(["predict", str(run), str(scans), "--out", str(tmp_path / "out"), "--device", "cpu"])
    (text,) = [text for kind, text in said if kind == "masks-left-out"]
    assert "2 (a_Annotation.png, a_Annotation.png)" in text and HOW_TO_PREDICT_MASKS in text
    assert [kind for kind, text in said if "Annotation" in text] == ["masks-left-out"]
    assert set(table(tmp_path / "out")) == {"scans_a", "b", "more_a"}


def test_python_call_takes_plain_text(run: Path, scans: Path, tmp_path: Path) -> None:
    folder = ucseg.predict(str(run), str(scans / "b.tif"), out=str(tmp_path / "out"), device="cpu")
    assert [row["case"] for row in folder.rows] == ["b"]
    assert folder.failed == []
    assert repr(folder) == f"<PredictionFolder {tmp_path / 'out'}: 1 cases, 0 failed>"


def test_networks_with_empty_masks_everywhere_are_named(said: list[tuple[str, str]]) -> None:
    for silent, text in (("a", "network a are empty in all 2 cases: it has"), ("a b", "networks a, b are")):
        rows = [{"case": case, "status": "ok", "empty_networks": silent} for case in "xy"]
        say_what_did_not_learn(cast(PredictionFolder, SimpleNamespace(rows=rows, empty=[])), [])
        assert text in dict(said)["network-not-learned"]
    assert "they have not learned" in dict(said)["network-not-learned"]


def test_no_components_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", plan_2d(one_component=(1,)), monkeypatch)
    image = image_of(20, 20)
    image[-3:, -3:] = 255
    Image.fromarray(image).save(tmp_path / "scan.png")
    sizes = []
    for option in ([], ["--no-components"]):
        out = tmp_path / f"out{len(option)}"
        main_ok(["predict", str(run), str(tmp_path / "scan.png"), "--out", str(out), "--device", "cpu", *option])
        sizes.append(int(np.asarray(Image.open(out / "scan.png")).sum()))
    assert sizes == [100, 109]


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code


def stopped_at_the_last(out: Path, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are predicted at the same time: the last one waits until the lines of the others are written."""
    as_it_is = Predictor.predict_scan

    def predict_scan(self: Predictor, scan: Scan, **options: Any) -> CasePrediction:
        if scan.source.parent.name == "more":
            until = time.monotonic() + 30
            while time.monotonic() < until and (not (out / "cases.csv").exists() or len(table(out)) < 2):
                time.sleep(0.01)
            stop()
        return as_it_is(self, scan, **options)

    monkeypatch.setattr(Predictor, "predict_scan", predict_scan)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_interrupted_then_resumed(run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    predict(run, [scans], out=whole, device="cpu")
    with monkeypatch.context() as patch:
        stopped_at_the_last(out, interrupt, patch)
        with pytest.raises(Interrupted, match=r"2 of 3 .*--resume"):
            predict(run, [scans], out=out, device="cpu")
    assert set(table(out)) == {"scans_a", "b"}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    predict(run, [scans], out=out, device="cpu", resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "only what was not done is predicted"
    assert (out / "cases.csv").read_text() == (whole / "cases.csv").read_text()
    for file in whole.glob("*.png"):
        assert (out / file.name).read_bytes() == file.read_bytes()

    (out / "b.png").unlink()
    predict(run, [scans], out=out, device="cpu", resume=True)
    changed = [path.name for path in out.glob("*.png") if path.stat().st_mtime_ns != before.get(path)]
    assert sorted(changed) == ["b.png", "more_a.png"], "a mask that was removed is made again"
    with refused("out-has-predictions", naming=[out, "--resume"]):
        predict(run, [scans], out=out, device="cpu")


def test_a_kill_takes_back_no_case_that_has_ended(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    predict(run, [scans], out=whole, device="cpu")
    process = os.fork()
    if not process:  # a copy of this process, which dies at its third scan
        stopped_at_the_last(out, lambda: os.kill(os.getpid(), signal.SIGKILL), monkeypatch)
        try:
            predict(run, [scans], out=out, device="cpu")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert set(table(out)) == {"scans_a", "b"}
    with (out / "cases.csv").open("a") as file:
        file.write("more_a,/scans/cut")  # as by a power cut
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    predict(run, [scans], out=out, device="cpu", resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "cases.csv").read_text() == (whole / "cases.csv").read_text()


def test_resuming_predicts_a_scan_again_that_was_replaced(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, [scans], out=out, device="cpu")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    Image.fromarray(255 - image_of(21, 17)).save(scans / "b.tif")
    (out / "uncertainty/.12-34-b.tif.part.tif").write_bytes(b"half")  # of a process that was killed
    predict(run, [scans], out=out, device="cpu", resume=True)
    assert not list(out.rglob(".*"))
    assert [path.name for path, time in before.items() if path.stat().st_mtime_ns != time] == ["b.png"]
    assert np.array_equal(np.array(Image.open(out / "b.png")) > 0, image_of(21, 17) == 0)


def test_resuming_keeps_the_precision_that_was_timed_first(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucseg.training.device.quicker_in_bf16", lambda device: False)
    predict(run, [scans / "b.tif"], out=tmp_path / "out", device="cpu")
    monkeypatch.setattr("ucseg.training.device.quicker_in_bf16", lambda device: True)
    predict(run, [scans], out=tmp_path / "out", device="cpu", resume=True)
    assert json.loads((tmp_path / "out/prediction.json").read_text())["precision"] == "fp32"
    with refused("resume-differs", naming="'precision'"):
        predict(run, [scans], out=tmp_path / "out", device="cpu", precision="bf16", resume=True)


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("prediction.json", "{", "json-damaged"),
        ("prediction.json", "[" * 100_000, "json-damaged"),
        ("prediction.json", '{"precision": "half"}', "setting-value"),
        ("prediction.json", '{"classes": 3}', "setting-value"),
        ("cases.csv", "case,file,mask\na,b\0,c\n", "prediction-table"),
        ("cases.csv", f"case,file,mask\na,{'x' * 2**21},c\n", "prediction-table"),
    ],
)
def test_a_folder_whose_notes_are_damaged_is_not_gone_on_with(
    run: Path, scans: Path, tmp_path: Path, file: str, text: str, kind: str
) -> None:
    predict(run, [scans / "b.tif"], out=tmp_path / "out", device="cpu")
    (tmp_path / "out" / file).write_text(text)
    with refused(kind, naming=file):
        predict(run, [scans], out=tmp_path / "out", device="cpu", resume=True)


def test_classes_whose_names_make_one_folder_get_two(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "named", plan_2d(classes={0: "a b", 1: "A_b"}), monkeypatch)
    predict(run, [scans / "b.tif"], out=tmp_path / "out", device="cpu", probabilities=True)
    maps = [np.array(Image.open(tmp_path / "out/probabilities" / name / "b.tif")) for name in ("a_b", "A_b_2")]
    assert np.allclose(maps[0] + maps[1], 1) and not np.allclose(*maps)


def test_how_masks_of_training_are_coded_is_noted_where_they_hold_no_class_indices() -> None:
    said: dict[str, Any] = {
        "dims": 2,
        "modality": "other",
        "channels": 1,
        "classes": {0: "background", 1: "a"},
        "cases": "",
    }
    said |= {"mask_threshold": None, "fill_outlines": False, "labelled": 1, "unlabelled": 0}
    plan = plan_2d()
    assert _coded(plan.model_copy(update={"made_of": Origin(**said)})) == {}
    other = Origin(**said, values={2: 1}, not_annotated=[255])
    assert _coded(plan.model_copy(update={"made_of": other})) == {"values": {"2": 1}, "not_annotated": [255]}


def test_resuming_with_another_model_is_refused(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(run, [scans], out=out, device="cpu")
    about = json.loads((out / "prediction.json").read_text())
    assert about["checkpoint"] == "last"
    with refused("resume-differs", naming=[out, "'components'"]):
        predict(run, [scans], out=out, device="cpu", components=False, resume=True)
    before = (out / "cases.csv").read_bytes()
    other = make_run(tmp_path / "other", plan_2d(), monkeypatch)
    with refused("resume-differs", naming=[out, "'run'", other]):
        predict(other, [scans], out=out, device="cpu", resume=True)
    assert (out / "cases.csv").read_bytes() == before


def test_freed_memory_is_kept_from_the_first_scan_to_the_last(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def spy(keep: bool = True, *, shared: bool = False) -> Iterator[None]:
        assert shared, "scans are at work in several threads"
        events.append(f"keep {keep}")
        yield
        events.append("give back")

    def one(*arguments: Any) -> Any:
        events.append("scan")
        return read_scan(*arguments)

    monkeypatch.setattr("ucseg.training.allocator.kept_memory", spy)
    monkeypatch.setattr("ucseg.inference.cases.read_scan", one)
    predict(run, [scans], out=tmp_path / "out", device="cpu")
    assert events == ["keep True", *["scan"] * (len(events) - 2), "give back"]
    assert len(events) > 3


def test_nothing_of_the_users_is_overwritten(run: Path, scans: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in [*scans.rglob("*.png"), run / "config.json"]}
    with refused("out-holds-scan", naming=["a.png", scans, "--out"]):
        predict(run, [scans], out=scans, device="cpu")
    with refused("out-taken", naming=run):
        predict(run, [scans], out=run, device="cpu")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.yaml").touch()
    with refused("out-taken", naming=tmp_path / "set"):
        predict(run, [scans / "a.png"], out=tmp_path / "set", device="cpu")
    with refused("out-below-file", naming=[run / "config.json" / "masks", "--out"]):
        predict(run, [scans], out=run / "config.json" / "masks", device="cpu")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "ema"], "'ema'"),
        (["--checkpoint", "newest"], "'newest'"),
        (["--device", "tpu9"], "tpu9"),
        (["--precision", "fp8"], "fp8"),
        (["--overlap", "1"], "--overlap 1.0"),
        (["--window-growth", "0.5"], "--window-growth 0.5"),
        (["--window-growth", "nan"], "--window-growth nan"),
    ],
)
def test_options_that_cannot_be(
    run: Path, scans: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(run), str(scans), "--out", str(tmp_path / "out"), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
