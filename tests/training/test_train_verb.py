"""`ucseg train` from the outside: a folder of small scans in, a run out, and the mistakes one makes with its words."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ucseg
from refusals import refused
from ucseg.config import read_yaml
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset as Manifest
from ucseg.dataset.manifest import load_dataset, save_dataset
from ucseg.errors import Interrupted, UserError
from ucseg.inference.predictor import Predictor
from ucseg.inference.step_cost import ThisMachine
from ucseg.planning.budget import Cost
from ucseg.training.checkpoint import load_method
from ucseg.training.run_folder import RunFolder
from ucseg.training.update import Updater

SMALL = [
    "plan.size=[32, 32]", "plan.patch=[32, 32]", "plan.token=[8, 8]", "plan.labelled_batch=2",
    "plan.unlabelled_batch=2", "log_every=1", "validate_every=2",
]  # fmt: skip


Said = list[tuple[str, str]]


def kinds(said: Said) -> list[str]:
    return [kind for kind, _ in said]


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 0.1 s and a validation 0.01 s on every machine: as measured beforehand, and by the loop's clock."""
    now, update = [0.0], Updater.update

    def timed(self: Updater, *words: Any) -> Any:
        now[0] += 0.1
        return update(self, *words)

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter, process_time=lambda: now[0])
    monkeypatch.setattr(Updater, "update", timed)
    monkeypatch.setattr("ucseg.training.trainer.time", clock)
    monkeypatch.setattr(ThisMachine, "step", lambda *_: Cost(0.1, 2**20))
    monkeypatch.setattr(ThisMachine, "validation_seconds", lambda *_: 0.01)


def train(scans: Path, out: Path, **words: Any) -> Any:
    words = {"method": "supervised", "steps": 4, "workers": 0, "device": "cpu", "set": SMALL} | words
    return ucseg.train(scans, out, **words)


def test_without_a_plan_one_is_made_and_settings_of_one_run_are_not_kept(scans: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for name in ("dataset.yaml", "cases.csv"):
        (dataset / name).write_text((scans / name).read_text().replace("root: ..", f"root: {scans.parent}"))
    # The patch follows from the size.
    train(dataset, tmp_path / "larger", steps=1, set=["plan.size=48", "plan.labelled_batch=1"])
    assert read_yaml(tmp_path / "larger" / "plan.yaml")["patch"] == [48, 48]
    assert not (dataset / "plan.yaml").exists()
    train(dataset, tmp_path / "planned", steps=1, set=[])
    assert read_yaml(dataset / "plan.yaml") == read_yaml(tmp_path / "planned" / "plan.yaml")


@pytest.mark.parametrize("method", ["supervised", "uc_seg"])
def test_a_run_holds_everything_and_predicts(scans: Path, tmp_path: Path, method: str, capsys: Any) -> None:
    result = train(scans, tmp_path / "run", method=method)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "plan.yaml", "codes.yaml", "environment.json", "metrics.jsonl", "state.safetensors", "time.json",
        "last.safetensors", "last.json", "best.safetensors", "best.json", "calibration.json",
    }  # fmt: skip
    calibrated = Predictor.from_run(tmp_path / "run", device="cpu").calibration
    assert calibrated is not None and calibrated.cases == 3, "of exactly the weights that were saved"
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["method"]["name"] == method
    assert "calibration_weight" in config["method"]["config"]
    assert config["train"]["momentum"] == 0.9
    assert config["cases"]["labelled"] == ["scan0", "scan1", "scan2", "scan3"]
    assert config["cases"]["unlabelled"] == ["scan4", "scan5", "scan6", "scan7"]
    assert config["cases"]["validation"] == ["scan8", "scan9", "scan10"]
    assert [x["step"] for x in RunFolder(tmp_path / "run").metrics() if "validation" in x] == [2, 4]
    members = {"supervised": {"dice_unet"}, "uc_seg": {"dice_unet_strided", "dice_unet_light"}}[method]
    assert set(result.last) == {"step", "dice", "mirrored dice"} | members
    trained, plan, _ = load_method(result.run, "best")
    assert plan.patch == (32, 32)
    prediction = trained.predict(torch.zeros(1, 1, 32, 32))
    assert torch.allclose(prediction.probabilities.sum(1), torch.ones(1, 32, 32), atol=1e-5)
    shown = capsys.readouterr()
    assert "3 validation cases" in shown.out
    assert f"ucseg predict {tmp_path / 'run'}" in shown.err
    assert f"ucseg evaluate {tmp_path / 'run'}" in shown.err


def test_training_learns_the_discs(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("ucseg.cli.training_bar.Display.show_validation", lambda _self, *counts: seen.append(counts))
    result = train(scans, tmp_path / "run", steps=40, set=[*SMALL, "validate_every=20", "lr=0.05"])
    assert result.best["dice"] > 0.8
    assert seen == [(done, 3) for done in range(4)] * 3  # each of two validations, and the mirrored one beside the last


def test_workers_change_nothing(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "none", workers=0)
    train(scans, tmp_path / "two", workers=2)
    none, two = (load_file(tmp_path / name / "state.safetensors") for name in ("none", "two"))
    assert all(torch.equal(none[name], two[name]) for name in none)


def test_stop_and_resume_without_repeating_the_words(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder knows method, plan and settings; only words that contradict it are refused."""
    settings = [*SMALL, "method.ife_weight=0.3", "accumulate=2"]
    whole = train(scans, tmp_path / "whole", method="uc_seg", set=settings)
    with monkeypatch.context() as patch:
        from ucseg.methods.uc_seg import UCSeg

        step = UCSeg.step

        def stopping(self: UCSeg, batch: Any, progress: Any) -> Any:
            if progress.step == progress.part == 1:
                signal.raise_signal(signal.SIGINT)
            return step(self, batch, progress)

        patch.setattr(UCSeg, "step", stopping)
        with pytest.raises(Interrupted, match="step 2 of 4"):
            train(scans, tmp_path / "run", method="uc_seg", set=settings)
    for words, names in (
        ({"steps": 8}, ["'train.steps'", 4, 8]),
        ({"set": ["method.ife_weight=0.1"]}, ["'method.config.ife_weight'", 0.3, 0.1]),
        ({"set": ["plan.labelled_batch=4"]}, ["'plan.labelled_batch'", 2, 4]),
    ):
        with refused("resume-setting", naming=names):
            ucseg.train(scans, tmp_path / "run", resume=True, **words)  # type: ignore[arg-type]
    with refused("resume-method", naming=["uc_seg", "supervised"]):
        ucseg.train(scans, tmp_path / "run", resume=True, method="supervised")
    again = ucseg.train(scans, tmp_path / "run", resume=True)
    assert (again.last, again.best) == (whole.last, whole.best)
    one, other = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stop_before_the_first_step_says_how_to_go_on(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a run, Ctrl-C is what it always is; afterwards the folder has to be resumed."""

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for place, error, run_there in (
        ("ucseg.batches.prepare.prepare", KeyboardInterrupt, False),
        ("ucseg.training.trainer.fit", Interrupted, True),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, stopped)
            with pytest.raises(error) as stop:
                train(scans, tmp_path / "run")
        assert RunFolder(tmp_path / "run").started == run_there
    assert str(stop.value).endswith(f"ucseg train {scans} --out {tmp_path / 'run'} --resume")
    ucseg.train(scans, tmp_path / "run", resume=True)


def test_the_number_of_devices_changes_nothing_but_rounding(scans: Path, tmp_path: Path) -> None:
    """V-Net has no dropout, whose draws are of each process."""
    settings = [*SMALL, "method.networks=[vnet]"]
    one = train(scans, tmp_path / "one", steps=2, set=settings, precision="fp32")
    two = train(scans, tmp_path / "two", steps=2, set=settings, precision="fp32", devices=2)
    assert two.last == pytest.approx(one.last, abs=1e-3)
    assert {p.name for p in (tmp_path / "one").iterdir()} == {p.name for p in (tmp_path / "two").iterdir()}
    here, there = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(here[name], there[name], rtol=1e-4, atol=1e-5) for name in here)
    with pytest.raises(UserError, match=r"plan.labelled_batch is 2,.* 6 "):
        train(scans, tmp_path / "three", set=[*SMALL, "accumulate=3"], devices=2)


def test_a_run_is_not_put_into_the_folder_of_another_command(scans: Path, tmp_path: Path) -> None:
    before = sorted(scans.iterdir())
    with refused("run-out-taken", naming=[scans, "dataset.yaml"]):
        train(scans, scans)
    (tmp_path / "prediction.json").write_text("{}")
    with refused("run-out-taken", naming=[tmp_path, "prediction.json"]):
        train(scans, tmp_path)
    assert sorted(scans.iterdir()) == before


def test_one_process_at_a_time_trains_in_a_folder(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "run", steps=1)
    other = RunFolder(tmp_path / "run")
    other.hold()
    config = (tmp_path / "run/config.json").read_bytes()
    with refused("run-busy", naming=tmp_path / "run"):
        train(scans, tmp_path / "run", steps=1, resume=True)
    (tmp_path / "run/config.json").unlink()  # as when two have started at once, and neither has written it
    with refused("run-busy", naming=tmp_path / "run"):
        train(scans, tmp_path / "run", steps=1)
    other.let_go()
    (tmp_path / "run/config.json").write_bytes(config)
    assert train(scans, tmp_path / "run", steps=1, resume=True).already_finished


def test_a_run_that_ended_and_lost_its_state_is_not_trained_over(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "run", steps=1)
    (tmp_path / "run/state.safetensors").unlink()
    before = (tmp_path / "run/last.safetensors").read_bytes()
    with refused("state-missing", naming=["state.safetensors", "--init"]):
        train(scans, tmp_path / "run", steps=1, resume=True)
    assert (tmp_path / "run/last.safetensors").read_bytes() == before


def test_cases_that_changed_in_between_are_noticed(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "run")
    data = load_dataset(scans)
    fewer = Manifest(tmp_path / "fewer", data.config, data.cases[1:])
    save_dataset(fewer)
    (tmp_path / "fewer/plan.yaml").write_bytes((scans / "plan.yaml").read_bytes())
    with refused("resume-cases", naming=[tmp_path / "fewer", "labelled", scans]):
        ucseg.train(tmp_path / "fewer", tmp_path / "run", resume=True)
    other = tmp_path / "other.png"
    Image.open(data.cases[0].image.file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    fewer.cases = [replace(data.cases[0], image=other), *data.cases[1:]]
    save_dataset(fewer)
    with refused("resume-cases", naming="same names"):
        ucseg.train(tmp_path / "fewer", tmp_path / "run", resume=True)


def test_a_run_does_not_go_on_where_masks_are_read_in_another_way(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "run")
    data = load_dataset(scans)
    classes = {0: "background", 1: "cyst"}
    edited = data.config.model_copy(update={"mask_threshold": 0.5, "classes": classes})
    save_dataset(Manifest(tmp_path / "edited", edited, data.cases))
    with refused(*2 * ["resume-setting"], naming=["'mask_threshold'", "0.5", "'classes.1'", "cyst", "disc"]):
        ucseg.train(tmp_path / "edited", tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("words", "kind", "names"),
    [
        ({"set": ["stepz=3"]}, "setting-unknown", ["'stepz'", "'steps'"]),
        ({"set": ["mixing=false"]}, "set-elsewhere", "--set method.mixing="),
        ({"set": ["patch=32"]}, "set-elsewhere", "--set plan.patch="),
        ({"set": ["labeled_batch=4"]}, "set-elsewhere", "'plan.labelled_batch'"),
        ({"set": ["mixin=false"]}, "set-elsewhere", "'method.mixing'"),
        ({"set": ["method.lamda_max=1"], "method": "uc_seg"}, "setting-unknown", ["'lamda_max'", "'lambda_max'"]),
        ({"set": ["plan.pach=32"]}, "setting-unknown", ["'pach'", "'patch'", "ucseg plan DATASET --set"]),
        ({"set": ["plan.preset=published"]}, "plan-preset", ["plan.preset=published", "ucseg plan DATASET --set"]),
        ({"set": ["plan.patch=4096"]}, "setting-value", ["patch", "ucseg plan DATASET --set"]),
        ({"set": ["method=supervised"]}, "set-whole", "--method supervised"),
        ({"set": ["lr=fast"]}, "setting-value", "'lr' = 'fast'"),
        ({"set": ["lr"]}, "set-form", ["'--set lr'", "key=value"]),
        ({"set": ["steps=3"]}, "set-contradicts", ["--steps 4", "--set steps=3"]),
        ({"steps": 0}, "setting-value", "'steps' = 0"),
        ({"precision": "fp16"}, "setting-value", "'precision' = 'fp16'"),
        ({"device": "cuda:99"}, "device-missing", "'cuda:99'"),
        ({"plan": Path("nowhere.yaml")}, "yaml-missing", "nowhere.yaml"),
        ({"resume": True}, "run-not-there", "--resume"),
    ],
)
def test_mistakes_are_named_before_a_run_starts(
    scans: Path, tmp_path: Path, words: dict[str, Any], kind: str, names: Any
) -> None:
    if "set" not in words:
        words["set"] = SMALL
    with refused(kind, naming=names):
        train(scans, tmp_path / "run", **words)
    assert not (tmp_path / "run").exists()


def test_a_method_that_is_not_there_is_named_before_a_run_starts(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'uc_sge'.*'uc_seg'"):
        train(scans, tmp_path / "run", method="uc_sge")
    assert not (tmp_path / "run").exists()


def test_a_rate_that_changes_the_optimiser_is_reported(scans: Path, tmp_path: Path, said: Said) -> None:
    encoder = [*SMALL, "plan.encoder=effnet_lite0"]
    for number, settings in enumerate((encoder, [*encoder, "lr=0.01", "optimizer=adamw"], [*SMALL, "lr=0.01"])):
        train(scans, tmp_path / str(number), steps=1, set=settings)
    assert "optimizer-follows" not in kinds(said)
    train(scans, tmp_path / "run", steps=1, set=[*encoder, "lr=0.01"])
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["optimizer"] == "sgd"
    assert "SGD" in dict(said)["optimizer-follows"]


def test_cases_left_out_are_named_at_the_end(scans: Path, tmp_path: Path, said: Said) -> None:
    data = load_dataset(scans)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n half")
    cases = [*data.cases, Case("broken", "b", broken, None, "train")]
    save_dataset(Manifest(tmp_path / "dataset", data.config, cases))
    (tmp_path / "dataset/plan.yaml").write_bytes((scans / "plan.yaml").read_bytes())
    train(tmp_path / "dataset", tmp_path / "run")
    assert [text for kind, text in said if kind == "case-left-out" and "broken" in text]
    assert "broken" in dict(said)["cases-left-out"] and kinds(said)[-1] != "case-left-out"


def test_a_validation_image_that_is_also_trained_on_is_reported(scans: Path, tmp_path: Path, said: Said) -> None:
    dataset = load_dataset(scans)
    copied = scans.parent / "copied.png"
    copied.write_bytes(dataset.cases[0].image.file.read_bytes())
    cases = [replace(one, image=copied) if one.case == "scan9" else one for one in dataset.cases]
    save_dataset(Manifest(tmp_path / "leaking", dataset.config, cases))
    train(tmp_path / "leaking", tmp_path / "run", steps=1)
    assert all(case in dict(said)["copy-leak"] for case in ("scan0", "scan9"))
    assert kinds(said).index("copy-leak") < kinds(said).index("run-ended")
    said.clear()
    train(scans, tmp_path / "sound", steps=1)
    assert not [kind for kind in kinds(said) if "leak" in kind]


def test_leaks_and_rare_classes_are_reported_before_the_first_step(scans: Path, tmp_path: Path, said: Said) -> None:
    """A training image saved again, brighter, as a test image; a subject in two splits; a class that nobody drew."""
    data = load_dataset(scans)
    cases = [replace(case, subject="s0") if case.case == "scan9" else case for case in data.cases]
    picture = np.asarray(Image.open(cases[1].image.file))
    Image.fromarray(np.minimum(picture * 1.2, 255).astype(np.uint8)).save(tmp_path / "again.jpg", quality=80)
    cases.append(Case("again", "again", tmp_path / "again.jpg", None, "test"))
    config = data.config.model_copy(update={"classes": {0: "background", 1: "disc", 2: "ring"}})
    save_dataset(Manifest(tmp_path / "dataset", config, cases))
    train(tmp_path / "dataset", tmp_path / "run", steps=1, set=SMALL)
    texts = dict(said)
    assert all(word in texts["subject-leak"] for word in ("'s0'", "scan0", "scan9"))
    assert all(word in texts["near-duplicate-leak"] for word in ("scan1", "again"))
    assert "'ring'" in texts["class-without-label"]
    assert kinds(said).count("near-duplicate-leak") == 1
    assert kinds(said).index("near-duplicate-leak") < kinds(said).index("run-ended")
    said.clear()
    train(tmp_path / "dataset", tmp_path / "run", steps=1, set=SMALL, resume=True)
    assert not [kind for kind in kinds(said) if "leak" in kind]


@pytest.mark.usefixtures("own_clock")
def test_hours_are_turned_into_steps_by_what_a_step_takes_here(scans: Path, tmp_path: Path, said: Said) -> None:
    hours = 0.001  # 3.6 s
    result = train(scans, tmp_path / "run", steps=None, hours=hours, workers=1)
    first = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert first["hours"] == hours
    assert first["steps"] == 33  # a twentieth and ten validations are kept free
    texts = dict(said)
    assert texts["steps-chosen"].startswith(f"33 steps: {hours} h at") and "10 validations" in texts["steps-chosen"]
    assert texts["few-steps"].startswith("33 steps") and "500" in texts["few-steps"]
    assert "ucseg plan" not in texts["few-steps"]  # its batch and images are as small as that would make them
    assert kinds(said).index("measuring") < kinds(said).index("steps-chosen")
    assert kinds(said).index("few-steps") < kinds(said).index("steps-changed") < kinds(said).index("run-ended")
    assert json.loads((tmp_path / "run/last.json").read_text())["of"] == result.steps == 36
    assert result.seconds == pytest.approx(3600 * hours)
    said.clear()
    train(scans, tmp_path / "large", steps=None, hours=hours, set=[*SMALL, "plan.labelled_batch=3"])
    assert f"'ucseg plan DATASET --hours {hours}'" in dict(said)["few-steps"]
    said.clear()
    assert ucseg.plan(scans, hours=hours, out=tmp_path / "plan.yaml").steps
    assert "steps are few" in dict(said)["few-steps"] and "--set" in dict(said)["few-steps"]
    with pytest.raises(UserError, match="--hours 1e-05"):
        train(scans, tmp_path / "short", steps=None, hours=1e-5)
    with refused("hours-and-steps", naming="--hours"):
        train(scans, tmp_path / "both", hours=hours)
    assert not (tmp_path / "short").exists()
    assert not (tmp_path / "both").exists()


@pytest.mark.usefixtures("own_clock")
def test_a_long_run_is_reported_with_what_to_do(
    scans: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucseg.training.trainer.REPORT_EVERY", 0.0)
    train(scans, tmp_path / "short", steps=8)
    assert "long-run" not in kinds(said)
    monkeypatch.setattr("ucseg.cli.training_bar.LONG_RUN", 0.0)
    train(scans, tmp_path / "long", steps=8)
    assert kinds(said).count("long-run") == 1
    assert all(word in dict(said)["long-run"] for word in ("8 steps", "--hours H", f"ucseg plan {scans} --measure"))
    said.clear()
    train(scans, tmp_path / "timed", steps=None, hours=0.0006)
    assert "long-run" not in kinds(said)


def test_what_can_be_known_before_the_scans_are_read_is_reported_before(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the scans were read")

    monkeypatch.setattr("ucseg.cli.train.say_what_was_found", read)
    monkeypatch.setattr("ucseg.batches.prepare.prepare", read)
    with pytest.raises(UserError, match=r"--set plan.labelled_batch=3 --set plan.unlabelled_batch=3"):
        ucseg.train(scans, out=tmp_path / "cut", steps=1, set=[*SMALL, "accumulate=3"])
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with refused("out-not-writable", naming=[tmp_path, "--out"]):
        ucseg.train(scans, out=tmp_path / "a" / "run", steps=1, set=SMALL)
    assert not [*tmp_path.iterdir()]
