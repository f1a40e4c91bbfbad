"""`ucseg train` from the outside: a folder of small scans in, a run out, and the mistakes one makes with its words."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ucseg
from ucseg.config import read_yaml
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset as Manifest
from ucseg.dataset.manifest import load_dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import Interrupted, UserError
from ucseg.training.checkpoint import load_method
from ucseg.training.run_folder import RunFolder

SMALL = [
    "plan.size=[32, 32]", "plan.patch=[32, 32]", "plan.token=[8, 8]", "plan.labelled_batch=2",
    "plan.unlabelled_batch=2", "log_every=1", "validate_every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen 32 x 32 images of a bright disc; eight to train on, four of these labelled, three to validate on."""
    root = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(14):
        y, x = np.mgrid[:32, :32]
        centre = rng.integers(10, 22, 2)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 40
        image = np.clip(90 * disc + rng.normal(80, 15, disc.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / f"scan{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(root / f"scan{number}_mask.png")
        split = "train" if number < 8 else "validation" if number < 11 else "test"
        mask = root / f"scan{number}_mask.png" if number not in range(4, 8) else None
        cases.append(Case(f"scan{number}", f"s{number}", root / f"scan{number}.png", mask, split))
    config = DatasetConfig(
        name="discs", root=str(root), dims=2, modality="ultrasound", channels=1, classes={0: "background", 1: "disc"}
    )
    save_dataset(Manifest(root / "dataset", config, cases))
    ucseg.plan(root / "dataset")
    return root / "dataset"


def train(scans: Path, out: Path, **words: Any) -> Any:
    words = {"method": "supervised", "steps": 4, "workers": 0, "device": "cpu", "set": SMALL} | words
    return ucseg.train(scans, out, **words)


def test_without_a_plan_one_is_made_and_settings_of_one_run_are_not_kept(scans: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for name in ("dataset.yaml", "cases.csv"):
        (dataset / name).write_text((scans / name).read_text().replace("root: ..", f"root: {scans.parent}"))
    train(
        dataset, tmp_path / "larger", set=["plan.size=48", "plan.labelled_batch=1"]
    )  # the patch follows from the size
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
        "last.safetensors", "last.json", "best.safetensors", "best.json",
    }  # fmt: skip
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["method"]["name"] == method
    assert "calibration_weight" in config["method"]["config"]
    assert config["train"]["momentum"] == 0.9
    assert config["cases"]["labelled"] == ["scan0", "scan1", "scan2", "scan3"]
    assert config["cases"]["unlabelled"] == ["scan4", "scan5", "scan6", "scan7"]
    assert config["cases"]["validation"] == ["scan8", "scan9", "scan10"]
    assert [x["step"] for x in RunFolder(tmp_path / "run").metrics() if "validation" in x] == [2, 4]
    members = {"supervised": {"dice_unet"}, "uc_seg": {"dice_unet", "dice_vnet"}}[method]
    assert set(result.last) == {"step", "dice"} | members
    trained, plan, _ = load_method(result.run, "best")
    assert plan.patch == (32, 32)
    prediction = trained.predict(torch.zeros(1, 1, 32, 32))
    assert torch.allclose(prediction.probabilities.sum(1), torch.ones(1, 32, 32), atol=1e-5)
    said = capsys.readouterr()
    assert "Dice on 3 validation cases" in said.out
    assert f"ucseg predict {tmp_path / 'run'}" in said.err
    assert f"ucseg evaluate {tmp_path / 'run'}" in said.err


def test_training_learns_the_discs(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("ucseg.cli.training_bar.Display.show_validation", lambda _self, *counts: seen.append(counts))
    result = train(scans, tmp_path / "run", steps=40, set=[*SMALL, "validate_every=20", "lr=0.05"])
    assert result.best["dice"] > 0.8
    assert seen == [(done, 3) for done in range(4)] * 2  # each validation showed its three cases


def test_workers_change_nothing(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "none", workers=0)
    train(scans, tmp_path / "two", workers=2)
    none, two = (load_file(tmp_path / name / "state.safetensors") for name in ("none", "two"))
    assert all(torch.equal(none[name], two[name]) for name in none)


def test_stop_and_resume_without_repeating_the_words(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder knows method, plan and settings; only words that contradict it are refused."""
    settings = [*SMALL, "method.ic_weight=0.3", "accumulate=2"]
    whole = train(scans, tmp_path / "whole", method="uc_seg", set=settings)
    with monkeypatch.context() as patch:
        from ucseg.methods.uc_seg import UCSeg

        step = UCSeg.step

        def stopping(self: UCSeg, batch: Any, progress: Any) -> Any:
            if progress.step == progress.part == 1:
                signal.raise_signal(signal.SIGINT)
            return step(self, batch, progress)

        patch.setattr(UCSeg, "step", stopping)
        with pytest.raises(Interrupted, match="after step 2 of 4"):
            train(scans, tmp_path / "run", method="uc_seg", set=settings)
    for words, message in (
        ({"steps": 8}, r"'train.steps' was 4 when the run began and is 8 now"),
        ({"method": "supervised"}, r"^[^\n]*: this is a run of method uc_seg, not of supervised; [^\n]*$"),
        ({"set": ["method.ic_weight=0.2"]}, r"'method.config.ic_weight' was 0.3 .* is 0.2 now"),
        ({"set": ["plan.labelled_batch=4"]}, r"'plan.labelled_batch' was 2"),
    ):
        with pytest.raises(UserError, match=message):
            ucseg.train(scans, tmp_path / "run", resume=True, **words)  # type: ignore[arg-type]
    again = ucseg.train(scans, tmp_path / "run", resume=True)
    assert (again.last, again.best) == (whole.last, whole.best)
    one, other = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_number_of_devices_changes_nothing_but_rounding(scans: Path, tmp_path: Path) -> None:
    """V-Net has no dropout, whose draws are of each process."""
    settings = [*SMALL, "method.networks=[vnet]"]
    one = train(scans, tmp_path / "one", steps=2, set=settings, precision="fp32")
    two = train(scans, tmp_path / "two", steps=2, set=settings, precision="fp32", devices=2)
    assert two.last == pytest.approx(one.last, abs=1e-3)
    assert {p.name for p in (tmp_path / "one").iterdir()} == {p.name for p in (tmp_path / "two").iterdir()}
    here, there = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(here[name], there[name], rtol=1e-4, atol=1e-5) for name in here)
    with pytest.raises(UserError, match=r"plan.labelled_batch is 2, .*cut into 6 equal pieces"):
        train(scans, tmp_path / "three", set=[*SMALL, "accumulate=3"], devices=2)


def test_cases_that_changed_in_between_are_noticed(scans: Path, tmp_path: Path) -> None:
    train(scans, tmp_path / "run")
    data = load_dataset(scans)
    fewer = Manifest(tmp_path / "fewer", data.config, data.cases[1:])
    save_dataset(fewer)
    (tmp_path / "fewer/plan.yaml").write_bytes((scans / "plan.yaml").read_bytes())
    said = rf"fewer are not those that the run began with \(other labelled cases\); resume with {scans} as it was then"
    with pytest.raises(UserError, match=said):
        ucseg.train(tmp_path / "fewer", tmp_path / "run", resume=True)
    other = tmp_path / "other.png"
    Image.open(data.cases[0].image.file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    fewer.cases = [replace(data.cases[0], image=other), *data.cases[1:]]
    save_dataset(fewer)
    with pytest.raises(UserError, match=r"\(the same names, but of other scans or masks\)"):
        ucseg.train(tmp_path / "fewer", tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"set": ["stepz=3"]}, "unknown setting 'stepz'; did you mean 'steps'"),
        ({"set": ["mixing=false"]}, r"a setting of the method; write --set method\.mixing="),
        ({"set": ["patch=32"]}, r"a setting of the plan; write --set plan\.patch="),
        ({"set": ["method.lamda_max=1"], "method": "uc_seg"}, "'lamda_max'; did you mean 'lambda_max'"),
        ({"set": ["plan.pach=32"]}, "'pach'; did you mean 'patch'"),
        ({"set": ["plan.patch=4096"]}, "'ucseg plan DATASET --set KEY=VALUE' makes a plan that fits"),
        ({"set": ["method=supervised"]}, "use --method supervised"),
        ({"set": ["lr=fast"]}, "'lr' = 'fast'"),
        ({"set": ["lr"]}, "not of the form key=value"),
        ({"set": ["steps=3"]}, "--steps 4 and --set steps=3 contradict"),
        ({"steps": 0}, "'steps' = 0"),
        ({"method": "uc_sge"}, "there is no method 'uc_sge'; did you mean 'uc_seg'"),
        ({"precision": "fp16"}, "'precision' = 'fp16'"),
        ({"device": "cuda:99"}, "'cuda:99' is not there"),
        ({"plan": Path("nowhere.yaml")}, "nowhere.yaml: there is no such file"),
        ({"resume": True}, "no run to resume"),
    ],
)
def test_mistakes_are_named_before_a_run_begins(
    scans: Path, tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    if "set" not in words:
        words["set"] = SMALL
    with pytest.raises(UserError, match=message):
        train(scans, tmp_path / "run", **words)
    assert not (tmp_path / "run").exists()


def test_cases_left_out_are_named_at_the_end(scans: Path, tmp_path: Path, capsys: Any) -> None:
    data = load_dataset(scans)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n half")
    cases = [*data.cases, Case("broken", "b", broken, None, "train")]
    save_dataset(Manifest(tmp_path / "dataset", data.config, cases))
    (tmp_path / "dataset/plan.yaml").write_bytes((scans / "plan.yaml").read_bytes())
    train(tmp_path / "dataset", tmp_path / "run")
    assert "left out: broken: " in capsys.readouterr().err


def test_a_validation_image_that_is_also_trained_on_is_told_before_training(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load_dataset(scans)
    copied = scans.parent / "copied.png"
    copied.write_bytes(dataset.cases[0].image.file.read_bytes())
    cases = [replace(one, image=copied) if one.case == "scan9" else one for one in dataset.cases]
    save_dataset(Manifest(tmp_path / "leaking", dataset.config, cases))
    train(tmp_path / "leaking", tmp_path / "run", steps=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "leak: scan0 (train), scan9 (validation) are copies of one image; keep it in one split" in said
    train(scans, tmp_path / "sound", steps=1)
    assert "leak" not in capsys.readouterr().err


def test_leaks_and_rare_classes_are_told_before_the_first_step(scans: Path, tmp_path: Path, capsys: Any) -> None:
    """A training image saved again, brighter, as a test image; a subject in two splits; a class that nobody drew."""
    data = load_dataset(scans)
    cases = [replace(case, subject="s0") if case.case == "scan9" else case for case in data.cases]
    picture = np.asarray(Image.open(cases[1].image.file))
    Image.fromarray(np.minimum(picture * 1.2, 255).astype(np.uint8)).save(tmp_path / "again.jpg", quality=80)
    cases.append(Case("again", "again", tmp_path / "again.jpg", None, "test"))
    config = data.config.model_copy(update={"classes": {0: "background", 1: "disc", 2: "ring"}})
    save_dataset(Manifest(tmp_path / "dataset", config, cases))
    train(tmp_path / "dataset", tmp_path / "run", steps=1, set=SMALL)
    said = " ".join(capsys.readouterr().err.split())
    assert "leak: subject 's0' is in train and validation (scan0, scan9); give all its cases one split" in said
    assert "possible leak: cases scan1 (train) and again (test) show nearly the same image" in said
    assert "no labelled training mask holds class 2 'ring'; label a case that has it" in said
    assert said.count("possible leak") == 1
    assert said.index("possible leak") < said.index("steps in")
    train(tmp_path / "dataset", tmp_path / "run", steps=1, set=SMALL, resume=True)
    assert "leak: " not in capsys.readouterr().err


def test_hours_are_turned_into_steps_by_what_a_step_takes_here(scans: Path, tmp_path: Path, capsys: Any) -> None:
    hours = 0.001
    result = train(scans, tmp_path / "run", steps=None, hours=hours, workers=1)
    said = " ".join(capsys.readouterr().err.split())
    begun = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert begun["hours"] == hours
    assert f"{begun['steps']} steps: {hours} h at" in said
    assert "with 10 validations of" in said
    assert f"{begun['steps']} steps are few: below 500, often little or nothing is learned; give it more time" in said
    assert said.index("steps are few") < said.index("steps in")
    assert "ucseg plan" not in said  # its batch and images are as small as that would make them
    assert json.loads((tmp_path / "run/last.json").read_text())["of"] == result.steps > 5
    # Generous: other processes may slow the machine down in the last tenth of it.
    assert 0.8 < result.seconds / (3600 * hours) < 2
    train(scans, tmp_path / "large", steps=None, hours=hours, set=[*SMALL, "plan.labelled_batch=3"])
    assert "'ucseg plan DATASET --hours 0.001' makes a plan of quicker steps" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(UserError, match=r"--hours 1e-05: a step takes .* give it more time"):
        train(scans, tmp_path / "short", steps=None, hours=1e-5)
    with pytest.raises(UserError, match="--hours and the number of steps contradict each other"):
        train(scans, tmp_path / "both", hours=hours)
    assert not (tmp_path / "short").exists()
    assert not (tmp_path / "both").exists()


def test_a_long_run_is_told_with_what_to_do(
    scans: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucseg.training.trainer.REPORT_EVERY", 0.0)
    train(scans, tmp_path / "short", steps=8)
    assert "--hours" not in capsys.readouterr().err
    monkeypatch.setattr("ucseg.cli.training_bar.LONG_RUN", 0.0)
    train(scans, tmp_path / "long", steps=8)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("s a step the 8 steps take") == 1
    assert "begin another run with --hours H" in said
    train(scans, tmp_path / "timed", steps=None, hours=0.0006)
    assert "begin another run" not in " ".join(capsys.readouterr().err.split())


def test_what_can_be_known_before_the_scans_are_read_is_said_before(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the scans were read")

    monkeypatch.setattr("ucseg.cli.train.say_what_was_found", read)
    monkeypatch.setattr("ucseg.batches.prepare.prepare", read)
    with pytest.raises(UserError, match=r"--set plan.labelled_batch=3 --set plan.unlabelled_batch=3"):
        ucseg.train(scans, out=tmp_path / "cut", steps=1, set=[*SMALL, "accumulate=3"])
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may write everywhere
    with pytest.raises(UserError, match=r"nothing can be written in .*; choose another --out"):
        ucseg.train(scans, out=tmp_path / "a" / "run", steps=1, set=SMALL)
    assert not [*tmp_path.iterdir()]
