"""A run that is stopped, killed or resumed in any way ends as if nothing had happened, or says why it cannot go on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from multiprocessing.context import BaseContext
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import STEPS, killed
from safetensors.torch import load_file
from tiny import batches, train

from refusals import refused
from ucseg.errors import Interrupted
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.stopping import STEP_FIRST
from ucseg.types import Batch

FP32 = {"device": "cpu", "precision": "fp32"}


def assert_same_run(one: Path, other: Path) -> None:
    """Equal weights, optimiser and averages bit for bit, equal figures but for the clock, and nothing left over."""
    # time.json is of the last start alone, and a run killed after its last save has none.
    assert {p.name for p in one.iterdir()} - {"time.json"} == {p.name for p in other.iterdir()} - {"time.json"}
    for file in sorted(one.glob("*.safetensors")):
        here, there = load_file(file), load_file(other / file.name)
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here), file.name
    for name in ("last.json", "best.json"):
        assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
    timeless = [[{**x, "seconds": 0} for x in RunFolder(folder).metrics()] for folder in (one, other)]
    assert timeless[0] == timeless[1]


def test_a_run_killed_at_any_moment_ends_bit_identical(tmp_path: Path, forkserver: BaseContext) -> None:
    precisions = ("fp32", "bf16")
    with ProcessPoolExecutor(1, forkserver) as parent:
        counted = {one: parent.submit(killed, tmp_path / one, one).result(timeout=1800) for one in precisions}
    for precision, of_it in counted.items():
        assert of_it["kills"] >= 6
        assert len(set(of_it["at"])) >= 3, "the kills came at too few different steps to show anything"
        assert_same_run(tmp_path / precision / "whole", tmp_path / precision / "killed")
        assert RunFolder(tmp_path / precision / "killed").metrics()[-1]["step"] == STEPS


def stopping_at(step: int, number: int) -> Any:
    """A loader that sends this process a signal while the batch of `step` is asked for."""

    def loader(start: int) -> Iterator[Batch]:
        for at, batch in enumerate(batches()(start), start):
            if at == step:
                os.kill(os.getpid(), number)
            yield batch

    return loader


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(tmp_path: Path, number: int) -> None:
    config = TrainConfig(steps=20, log_every=1, ema=0.9, **FP32)  # type: ignore[arg-type]
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="step 6 of 20") as stop:
        train(tmp_path / "stopped", config, loader=stopping_at(5, number))
    assert f"ucseg train DATA --out {tmp_path / 'stopped'} --resume" in str(stop.value)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert json.loads((tmp_path / "stopped/last.json").read_text())["step"] == 6  # usable for prediction as it is
    for name in (".tmpTNMg7l", ".last.safetensors.17.part"):  # what a kill amid saving leaves behind
        (tmp_path / "stopped" / name).write_bytes(b"half")
    train(tmp_path / "stopped", config, resume=True)
    train(tmp_path / "whole", config)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    starts = json.loads((tmp_path / "stopped/environment.json").read_text())["starts"]
    assert [start["from_step"] for start in starts] == [0, 6]


def test_a_run_is_not_overwritten_and_none_is_resumed_from_nothing(tmp_path: Path) -> None:
    config = TrainConfig(steps=2, **FP32)  # type: ignore[arg-type]
    with refused("run-not-there", naming=tmp_path / "run"):
        train(tmp_path / "run", config, resume=True)
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", config)
    before = (tmp_path / "run/last.safetensors").read_bytes()
    with refused("run-exists", naming=[tmp_path / "run", "--resume"]):
        train(tmp_path / "run", config)
    assert (tmp_path / "run/last.safetensors").read_bytes() == before
    (tmp_path / "file").write_text("")
    with refused("out-is-other", naming=tmp_path / "file"):
        train(tmp_path / "file", config)


def test_resuming_a_finished_run_does_nothing_and_says_so(tmp_path: Path) -> None:
    config = TrainConfig(steps=3, **FP32)  # type: ignore[arg-type]
    first = train(tmp_path / "run", config)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    again = train(tmp_path / "run", config, resume=True)
    assert again.already_finished
    assert not first.already_finished
    assert (again.steps, again.last, again.best) == (first.steps, first.last, first.best)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"steps": 12}, ["'train.steps'", 10, 12]),
        ({"lr": 0.5}, ["'train.lr'", 0.02, 0.5]),
        ({"seed": 1}, ["'train.seed'", 0, 1]),
    ],
)
def test_resuming_with_another_setting_names_it(tmp_path: Path, change: dict[str, Any], names: list[Any]) -> None:
    settings = {"steps": 10, "lr": 0.02, **FP32}
    with pytest.raises(Interrupted):
        train(tmp_path / "run", TrainConfig(**settings), loader=stopping_at(3, signal.SIGINT))
    with refused("resume-setting", naming=names):
        train(tmp_path / "run", TrainConfig(**(settings | change)), resume=True)
    with refused("resume-setting", naming=["'method.config.width'", 8, 4]):
        train(tmp_path / "run", TrainConfig(**settings), resume=True, width=4)


def test_a_stop_is_answered_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "run", TrainConfig(steps=10, **FP32), loader=stopping_at(3, signal.SIGINT))  # type: ignore[arg-type]
    assert STEP_FIRST in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is = RunFolder.__init__

    def onto_a_full_disk(self: RunFolder, path: Path) -> None:
        as_it_is(self, path)
        self.metrics_file = Path("/dev/full")

    monkeypatch.setattr(RunFolder, "cut_metrics", lambda self, step: None)
    monkeypatch.setattr(RunFolder, "__init__", onto_a_full_disk)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with refused("not-written", naming=["/dev/full", "no space"]):
        train(tmp_path / "run", TrainConfig(steps=2, log_every=1, **FP32))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["method.config.width", "train.small_first"])
def test_a_run_of_an_earlier_version_is_named_in_one_line(tmp_path: Path, place: str) -> None:
    settings = {"steps": 10, **FP32}
    with pytest.raises(Interrupted):
        train(tmp_path / "run", TrainConfig(**settings), loader=stopping_at(3, signal.SIGINT))
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    *rooms, setting = place.split(".")
    del reduce(getitem, rooms, config)[setting]  # as if it had not been there
    file.write_text(json.dumps(config))
    with refused("resume-older", naming=[place, f"--init {tmp_path / 'run'}"]):
        train(tmp_path / "run", TrainConfig(**settings), resume=True)


def test_settings_that_change_no_result_may_change_on_resume(tmp_path: Path) -> None:
    settings = {"steps": 10, "log_every": 1, **FP32}
    with pytest.raises(Interrupted):
        train(tmp_path / "run", TrainConfig(**settings), loader=stopping_at(3, signal.SIGINT))
    train(tmp_path / "run", TrainConfig(**settings, workers=3, save_every=1.0), resume=True)
    train(tmp_path / "whole", TrainConfig(**settings))
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_killed_before_its_first_save_begins_anew(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, log_every=1, **FP32)  # type: ignore[arg-type]
    run = RunFolder(tmp_path / "run")
    train(tmp_path / "whole", config)
    run.begin(RunFolder(tmp_path / "whole").config)
    run.metrics_file.write_text('{"step": 1, "loss": 9.0}\n{"step": 2, "lo')  # what the killed process had logged
    (run.path / ".state.safetensors.1.part").write_bytes(b"half")
    train(run.path, config, resume=True)
    assert_same_run(tmp_path / "whole", run.path)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    settings = {"steps": 10, **FP32}
    with pytest.raises(Interrupted):
        train(tmp_path / "run", TrainConfig(**settings), loader=stopping_at(3, signal.SIGINT))
    file = tmp_path / "run/state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with refused("weights-damaged", naming="state.safetensors"):
        train(tmp_path / "run", TrainConfig(**settings), resume=True)
    (tmp_path / "run/config.json").write_text("{")
    with refused("json-damaged", naming="config.json"):
        train(tmp_path / "run", TrainConfig(**settings), resume=True)
