"""What a user would miss if the loop did not do it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import TinyMethod, batches, make_method, problem, train, validate
from torch import Tensor

from refusals import refused
from ucseg.methods.base import Method
from ucseg.training.average import WeightAverage
from ucseg.training.checkpoint import State
from ucseg.training.outcome import FitResult
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.trainer import fit
from ucseg.types import Batch, Progress, StepOutput


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_loss_and_leaves_a_complete_run(tmp_path: Path, dims: int, precision: str) -> None:
    config = TrainConfig(steps=60, precision=precision, lr=0.1, log_every=1, device="cpu")  # type: ignore[arg-type]
    result = train(tmp_path / "run", config, dims=dims)
    run = RunFolder(tmp_path / "run")
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert sum(x["supervised"] for x in lines[-10:]) < 0.8 * sum(x["supervised"] for x in lines[:10])
    assert all(math.isclose(x["loss"], x["supervised"] + x["consistency"], rel_tol=1e-6) for x in lines)
    assert [x["lr"] for x in lines] == pytest.approx([0.1 * (1 - t / 60) for t in range(60)])
    assert all("memory" in x and x["gradient norm"] > 0 for x in lines)
    measured = {x["step"]: x["validation"]["dice"] for x in lines if "validation" in x}
    assert list(measured) == list(range(6, 61, 6))
    highest = max(measured.values())
    best = json.loads((run.path / "best.json").read_text())
    assert best["dice"] == highest
    assert best["step"] == min(step for step, dice in measured.items() if dice == highest)
    assert result.best is not None
    assert result.best["step"] == best["step"]
    assert json.loads((run.path / "last.json").read_text()) == {"step": 60, "of": 60, "dice": measured[60]}
    (start,) = json.loads((run.path / "environment.json").read_text())["starts"]
    assert (start["precision"], start["device"]) == (precision, "cpu")
    assert start["versions"]["torch"] == torch.__version__


def test_best_weights_are_those_that_were_measured(tmp_path: Path) -> None:
    """The Dice in best.json is what the weights in best.safetensors give."""
    train(tmp_path / "run", TrainConfig(steps=40, lr=0.2, device="cpu", precision="fp32", validate_every=3))
    best = json.loads((tmp_path / "run/best.json").read_text())
    method = make_method(seed=5)
    method.load_state_dict(load_file(tmp_path / "run/best.safetensors"))
    with torch.no_grad():
        assert validate(method.eval())["dice"] == best["dice"]


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, Tensor]:
        torch.manual_seed(len(name))  # whatever happened before in the process
        train(tmp_path / name, TrainConfig(steps=8, seed=seed, device="cpu", precision="fp32"))
        return load_file(tmp_path / name / "last.safetensors")

    first, second, other = weights("a", 1), weights("bb", 1), weights("c", 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["student.0.weight"], other["student.0.weight"])


@pytest.mark.parametrize(("share", "small_steps"), [(0.5, 4), (0.0, 0)])
def test_the_first_steps_see_small_images(tmp_path: Path, share: float, small_steps: int) -> None:
    seen: list[tuple[int, ...]] = []
    method = make_method()
    edges = method.problem.patch
    method.problem = replace(method.problem, patch=(64, 64))  # 8 x 8 would keep its size
    step = method.step

    def spy(batch: Batch, progress: Progress) -> StepOutput:
        assert batch.label.shape[1:] == batch.labelled.shape[2:] == batch.unlabelled["image"].shape[2:]
        seen.append(tuple(batch.labelled.shape[2:]))
        return step(batch, progress)

    method.step = spy  # type: ignore[method-assign]
    run = RunFolder(tmp_path / "run")
    run.begin({})
    fit(method, batches(), run, TrainConfig(steps=8, device="cpu", precision="fp32", small_first=share), validate)
    assert seen == [tuple(edge // 2 for edge in edges)] * small_steps + [edges] * (8 - small_steps)


def test_steps_see_a_method_in_training_mode_with_its_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int, bool]] = []
    after: list[int] = []
    method = make_method()
    step, after_update = method.step, method.after_update

    def spy(batch: Batch, progress: Progress):  # type: ignore[no-untyped-def]
        seen.append((progress.step, progress.total, method.training))
        return step(batch, progress)

    def spy_after(progress: Progress) -> None:
        after.append(progress.step)
        after_update(progress)

    method.step, method.after_update = spy, spy_after  # type: ignore[method-assign]
    run = RunFolder(tmp_path / "run")
    run.begin({})
    fit(method, batches(), run, TrainConfig(steps=5, device="cpu", validate_every=1), validate)
    assert seen == [(t, 5, True) for t in range(5)]
    assert after == [0, 1, 2, 3, 4]


def test_gradients_are_clipped(tmp_path: Path) -> None:
    def moved(clip: float | None) -> float:
        name = f"clip{clip}"
        train(
            tmp_path / name, TrainConfig(steps=1, clip_grad_norm=clip, weight_decay=0, device="cpu", precision="fp32")
        )
        new, old = load_file(tmp_path / name / "last.safetensors"), dict(make_method().student.named_parameters())
        return math.sqrt(sum(float((new[f"student.{k}"] - v.detach()).square().sum()) for k, v in old.items()))

    clipped = moved(1e-3)
    assert clipped == pytest.approx(0.03 * 1e-3, rel=1e-2)
    assert moved(None) > 10 * clipped


@pytest.mark.parametrize("clip", [12.0, None])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path, clip: float | None) -> None:
    """It names step, term and cases, and no weight on disk has seen it."""
    config = TrainConfig(steps=9, device="cpu", save_every=0, clip_grad_norm=clip, precision="fp32")
    with refused("loss-not-finite", naming=["step 5: ", "supervised = nan"]) as error:
        train(tmp_path / "run", config, poison_step=4)
    assert "l4a, l4b, u4" in str(error.value)
    assert "consistency" not in str(error.value)
    state = State.load(tmp_path / "run/state.safetensors")
    assert state.step == 4
    assert all(torch.isfinite(value).all() for part in (state.weights, state.optimizer) for value in part.values())
    assert [line["step"] for line in RunFolder(tmp_path / "run").metrics()] == [1, 2, 3, 4]


def test_where_the_device_runs_ahead_it_stops_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's figures are looked at one step late; then too nothing of the bad step may reach the disk."""
    monkeypatch.setattr("ucseg.training.update.runs_ahead", lambda device: True)
    for name, config in (
        ("saves", TrainConfig(steps=9, save_every=0, device="cpu", validate_every=9)),
        ("validates", TrainConfig(steps=9, device="cpu", validate_every=5)),
        ("neither", TrainConfig(steps=9, device="cpu", validate_every=9)),
        ("ends", TrainConfig(steps=5, device="cpu", validate_every=9)),
    ):
        with refused("loss-not-finite", naming=["step 5: ", "l4a, l4b, u4"]):
            train(tmp_path / name, config, poison_step=4)
        for file in (tmp_path / name).glob("*.safetensors"):
            assert all(torch.isfinite(value).all() for value in load_file(file).values()), (name, file)
    assert State.load(tmp_path / "saves/state.safetensors").step == 4


def test_gradients_that_are_not_finite_stop_it_too(tmp_path: Path) -> None:
    """The square root of zero: a finite loss with an infinite gradient."""
    method = make_method()
    step = method.step

    def poisoned(batch: Batch, progress: Progress):  # type: ignore[no-untyped-def]
        output = step(batch, progress)
        if progress.step == 2:
            output.terms["root"] = (method.student[0].bias * 0.0).abs().sum().sqrt()  # type: ignore[union-attr,index]
        return output

    method.step = poisoned  # type: ignore[method-assign]
    run = RunFolder(tmp_path / "run")
    run.begin({})
    with refused("loss-not-finite", naming=["step 3: ", "gradient norm = nan"]):
        fit(method, batches(), run, TrainConfig(steps=5, device="cpu", precision="fp32"))


def test_without_validation_there_is_no_best(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin({})
    result = fit(make_method(), batches(), run, TrainConfig(steps=3, device="cpu"))
    assert result.last is None
    assert not (run.path / "best.safetensors").exists()
    assert (run.path / "last.safetensors").exists()


def test_a_dice_that_is_undefined_is_never_the_best(tmp_path: Path) -> None:
    values = iter([math.nan, 0.2, math.nan, 0.1])
    run = RunFolder(tmp_path / "run")
    run.begin({})
    config = TrainConfig(steps=4, validate_every=1, device="cpu")
    result: FitResult = fit(make_method(), batches(), run, config, lambda *_: {"dice": next(values)})
    assert result.best == {"step": 2, "weights": "last", "dice": 0.2}
    assert run.metrics()[0]["validation"] == {"dice": None}


def test_validation_is_told_when_the_last_step_is_done(tmp_path: Path) -> None:
    told: list[bool] = []

    def noting(_method: object, at_end: bool) -> dict[str, float]:
        told.append(at_end)
        return {"dice": 0.5} | ({"mirrored dice": 0.6} if at_end else {})

    run = RunFolder(tmp_path / "run")
    run.begin({})
    result = fit(make_method(), batches(), run, TrainConfig(steps=3, validate_every=1, device="cpu"), noting)
    assert told == [False, False, True]
    assert result.last == {"step": 3, "dice": 0.5, "mirrored dice": 0.6}
    assert result.best == {"step": 1, "weights": "last", "dice": 0.5}


def test_averaged_weights_follow_the_formula(tmp_path: Path) -> None:
    method = make_method()
    average = WeightAverage(method, 0.6)
    expected = method.student[0].weight.detach().double().clone()  # type: ignore[union-attr,index]
    for step in range(12):
        with torch.no_grad():
            method.student[0].weight.add_(torch.randn(1))  # type: ignore[union-attr,index]
            method.student[1].num_batches_tracked.add_(1)  # type: ignore[union-attr,index]
            method.memory.fill_(step)
        average.update(step)
        d = min(0.6, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * method.student[0].weight.detach().double()  # type: ignore[union-attr,index]
    assert torch.allclose(average.tensors["student.0.weight"].double(), expected, atol=1e-5)
    assert int(average.tensors["student.1.num_batches_tracked"]) == 12  # counters and memories are copied
    assert torch.equal(average.tensors["memory"], torch.full((4,), 11.0))
    own = {k: v.clone() for k, v in method.state_dict().items()}
    with average.in_place():
        assert torch.equal(method.student[0].weight, average.tensors["student.0.weight"])  # type: ignore[union-attr,index]
    assert all(torch.equal(v, own[k]) for k, v in method.state_dict().items())


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    dice = iter([0.3, 0.5, 0.4, 0.2])  # plain, averaged, plain, averaged
    run = RunFolder(tmp_path / "run")
    run.begin({})
    config = TrainConfig(steps=2, ema=0.9, validate_every=1, device="cpu", precision="fp32")
    result = fit(make_method(), batches(), run, config, lambda *_: {"dice": next(dice)})
    assert result.best == {"step": 1, "weights": "ema", "dice": 0.5}
    assert result.last == {"step": 2, "dice": 0.4, "ema dice": 0.2}
    last, ema = load_file(run.path / "last.safetensors"), load_file(run.path / "ema.safetensors")
    assert not torch.equal(last["student.0.weight"], ema["student.0.weight"])


def test_convolutions_are_laid_out_channels_last(tmp_path: Path) -> None:
    for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        method, seen = make_method(dims=dims), []
        step = method.step

        def spy(batch: Batch, progress: Progress, step=step, seen=seen, layout=layout):  # type: ignore[no-untyped-def]
            views = [batch.labelled, *batch.unlabelled.values()]
            seen.append(all(view.is_contiguous(memory_format=layout) for view in views))
            return step(batch, progress)

        method.step = spy  # type: ignore[method-assign]
        run = RunFolder(tmp_path / f"run{dims}")
        run.begin({})
        fit(method, batches(dims=dims), run, TrainConfig(steps=1, device="cpu"))
        assert seen == [True]
        assert method.student[4].weight.is_contiguous(memory_format=layout)  # type: ignore[union-attr,index]


def test_the_loader_is_asked_for_each_step_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def loader(start: int) -> Iterator[Batch]:
        for batch in batches()(start):
            asked.append(batch.labelled_cases[0])
            yield batch

    train(tmp_path / "run", TrainConfig(steps=4, device="cpu"), loader=loader)
    assert asked == ["l0a", "l1a", "l2a", "l3a"]


def test_the_stand_in_is_a_method() -> None:
    assert isinstance(make_method(), Method)
    assert problem(3).dims == 3


@pytest.mark.parametrize(
    ("terms", "metrics", "kind", "named"),
    [
        ({}, {}, "step-without-terms", []),
        ({"pseudo": 0.5}, {}, "step-scalars", ["term 'pseudo'", "float"]),
        (
            {"a": torch.zeros((), requires_grad=True), "b": torch.zeros(2, 3)},
            {},
            "step-scalars",
            ["term 'b'", "2 x 3"],
        ),
        ({"a": torch.zeros((), requires_grad=True)}, {"sure": 1.0}, "step-scalars", ["metric 'sure'", "float"]),
        ({"a": torch.zeros(())}, {}, "step-detached", []),
    ],
)
def test_a_step_that_breaks_the_contract_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: Any, metrics: Any, kind: str, named: list[str]
) -> None:
    monkeypatch.setattr(TinyMethod, "step", lambda *_: StepOutput(terms, metrics))
    with refused(kind, naming=["TinyMethod", *named]):
        train(tmp_path / "run", TrainConfig(steps=1, device="cpu", precision="fp32"))


def test_an_error_in_a_method_ends_a_run_whose_batches_come_from_processes(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
tests = Path({str(Path(__file__).parents[1])!r})
sys.path[:0] = [str(tests), str(tests / "training"), str(tests / "batches")]
import numpy as np
import tiny
from test_stream import IMAGE, make_case, make_plan
from ucseg.batches.stream import Stream, loader
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.trainer import fit

def step(*_):
    raise ValueError("a bug of my own")

tiny.TinyMethod.step = step
folder = Path({str(tmp_path)!r})
case = make_case(folder, "case", np.zeros((1, 16, 16), np.float16), np.zeros((16, 16), np.uint8))
stream = Stream([case], [], make_plan(), 0, IMAGE)
config = TrainConfig(steps=5, device="cpu", precision="fp32")
run = RunFolder(folder / "run")
run.begin(tiny.run_config(config))
fit(tiny.make_method(), lambda start: loader(stream, start, 5, 1), run, config)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("ValueError: a bug of my own")


def test_terms_that_trained_nothing_are_named(tmp_path: Path) -> None:
    # The consistency of the tiny method is weighted by the share of the steps that is done: 0 at the first one.
    one = TrainConfig(steps=1, device="cpu", precision="fp32")
    assert train(tmp_path / "one", one).silent == ["consistency"]
    assert train(tmp_path / "one", one, resume=True).silent == ["consistency"], "a finished run knows it too"
    assert train(tmp_path / "more", TrainConfig(steps=4, device="cpu", precision="fp32", log_every=1)).silent == []
