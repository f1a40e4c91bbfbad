"""Weights of a run come back as they were, or one sentence says what is wrong with them."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from refusals import refused
from ucseg.errors import UserError
from ucseg.machine.reading import read_json
from ucseg.machine.writing import write_json
from ucseg.methods import build_method
from ucseg.planning.plan import Plan, write_plan
from ucseg.training.average import WeightAverage
from ucseg.training.checkpoint import State, load_method, save_tensors, save_weights
from ucseg.training.optim import learning_rate, make_optimizer, optimizer_tensors, restore_optimizer
from ucseg.training.run_folder import RunFolder

PLAN = Plan.model_validate(
    {
        "dims": 2, "unit": "px", "spacing": (1, 1), "size": 16, "patch": 16, "token": 8, "labelled_batch": 1,
        "unlabelled_batch": 1, "channels": 1, "classes": {0: "background", 1: "organ"}, "normalisation": "unit",
    }
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of the supervised method with last weights."""
    torch.manual_seed(0)
    method = build_method("supervised", {"networks": ["vnet"]}, PLAN.problem)
    folder = RunFolder(tmp_path / "run")
    settings = method.config.model_dump(mode="json")  # type: ignore[union-attr,operator]
    config = {"method": {"name": "supervised", "config": settings}, "problem": asdict(PLAN.problem)}
    config["plan"] = PLAN.model_dump(mode="json", exclude={"made_of"})
    folder.begin(config, lambda path: write_plan(PLAN, path))
    save_weights(folder, "last", method.state_dict(), {"step": 7})
    return folder


def test_a_method_comes_back_with_its_settings_weights_and_plan(run: RunFolder) -> None:
    torch.manual_seed(0)
    before = build_method("supervised", {"networks": ["vnet"]}, PLAN.problem).eval()
    method, plan, config = load_method(run.path)
    assert plan == PLAN
    assert config["method"]["config"]["networks"] == ["vnet"]
    assert not method.training
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(method.predict(image).probabilities, before.predict(image).probabilities)


def test_a_run_whose_settings_the_code_has_no_more_is_named(run: RunFolder) -> None:
    run.config_file.write_text(run.config_file.read_text().replace('"networks"', '"nets"'))
    save_weights(
        run, "last", load_file(run.weights_file("last")), {"step": 1}
    )  # as if the settings had been called so then
    with refused("run-config-outdated", naming=["config.json", "'nets'", "'networks'"]):
        load_method(run.path)


def test_weights_of_an_earlier_version_are_named(run: RunFolder) -> None:
    """It built the network in another way, before there was a setting for it."""
    weights = load_file(run.weights_file("last"))
    config = json.loads(run.config_file.read_text())
    del config["method"]["config"]["networks"]
    run.config_file.write_text(json.dumps(config))
    save_weights(run, "last", weights, {"step": 1})
    with refused("run-older", naming=[run.path, "networks", "--init"]):
        load_method(run.path)


def test_settings_that_were_edited_after_training_are_refused(run: RunFolder) -> None:
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace('"norm": "batch"', '"norm": "instance"'))
    assert run.config_file.read_text() != text
    with refused("run-changed", naming=["config.json", "last.safetensors"]):
        load_method(run.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", 3), ("method", {"name": ["a"]}), ("train", "x"), ("verb", "eat"), ("dataset", None), ("init", [1])],
)
def test_a_config_that_says_what_cannot_be_is_named(run: RunFolder, key: str, value: Any) -> None:
    write_json(run.config_file, read_json(run.config_file) | {key: value})
    with refused("setting-value", naming=[run.config_file, key]):
        load_method(run.path)


@pytest.mark.parametrize("problem", [None, {}, {"dims": 9}, asdict(PLAN.problem) | {"patch": [10**6, 10**6]}])
def test_a_problem_that_is_not_the_plans_is_not_built(run: RunFolder, problem: Any) -> None:
    write_json(run.config_file, read_json(run.config_file) | {"problem": problem})
    save_weights(run, "last", load_file(run.weights_file("last")), {"step": 1})
    with refused("run-problem-changed", naming=run.config_file):
        load_method(run.path)


@pytest.mark.parametrize(
    "header",
    [
        "{", "[" * 100_000, "[]", '{"step": -1, "notes": {}}', '{"step": 1, "notes": {"precision": "half"}}',
        '{"step": 1, "notes": {"last": {"step": 1, "dice": "high"}}}', '{"step": 1, "notes": {"steps": 1e30}}',
    ],
)  # fmt: skip
def test_a_state_whose_notes_cannot_be_is_named(tmp_path: Path, header: str) -> None:
    save_file({"weights/a": torch.zeros(1)}, tmp_path / "state.safetensors", metadata={"ucseg": header})
    with pytest.raises(UserError) as refusal:
        State.load(tmp_path / "state.safetensors")
    assert refusal.value.code in ("state-damaged", "weights-header")


def test_a_plan_that_was_edited_after_training_is_refused(run: RunFolder) -> None:
    write_plan(PLAN.model_copy(update={"normalisation": "zscore", "nonzero": True}), run.plan_file)
    with refused("run-plan-changed", naming=[run.plan_file, "normalisation", "nonzero"]):
        load_method(run.path)


def test_missing_weights_say_which_there_are(run: RunFolder, tmp_path: Path) -> None:
    with refused("checkpoint-missing", naming=["'best'", "validation", ": last."]):
        load_method(run.path, "best")
    with refused("checkpoint-missing", naming=["'ema'", "ema=0.99"]):
        load_method(run.path, "ema")
    with refused("checkpoint-name", naming=["'newest'", "last, best, ema"]):
        load_method(run.path, "newest")
    with refused("run-missing", naming=tmp_path):
        load_method(tmp_path)
    (tmp_path / "model.onnx").touch()
    with refused("run-is-exported", naming=tmp_path):
        load_method(tmp_path)


def test_damaged_weights_are_named(run: RunFolder) -> None:
    file = run.weights_file("last")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04 not safetensors"):
        file.write_bytes(damaged)
        with refused("weights-damaged", naming=file):
            load_method(run.path)
    save_file({"a": torch.zeros(1)}, file)
    with refused("weights-foreign", naming=file):
        load_method(run.path)
    with refused("state-damaged", naming=file):
        save_tensors(file, {"a": torch.zeros(1)}, {"step": 1, "notes": {}})
        State.load(file)


def test_weights_of_another_method_are_refused(run: RunFolder) -> None:
    other = build_method("supervised", {"networks": ["unet"]}, PLAN.problem)
    save_weights(run, "last", other.state_dict(), {"step": 7})
    with refused("weights-misfit", naming=[run.weights_file("last"), "(differs in networks."]):
        load_method(run.path)


def test_json_that_was_damaged_is_named(run: RunFolder) -> None:
    run.config_file.write_text('{"method": {}}')
    with refused("run-config-damaged", naming=run.config_file):
        load_method(run.path)
    run.config_file.write_text("[1]")
    with refused("json-damaged", naming=run.config_file):
        load_method(run.path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.safetensors"
    save_tensors(file, {"a": torch.ones(3)}, {})

    def full_disk(_: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full", str(path))

    monkeypatch.setattr("ucseg.training.checkpoint.save_file", full_disk)
    with refused("not-written", naming=file):
        save_tensors(file, {"a": torch.zeros(3)}, {})
    assert torch.equal(load_file(file)["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_tensors_that_share_storage_are_all_written(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_tensors(
        tmp_path / "x.safetensors", {"a": whole, "b": whole, "c": whole[:3], "d": whole[3:], "e": whole.t()}, {}
    )
    back = load_file(tmp_path / "x.safetensors")
    assert torch.equal(back["a"], whole)
    assert torch.equal(back["b"], whole)
    assert torch.equal(back["c"], whole[:3])
    assert torch.equal(back["d"], whole[3:])


def test_files_can_be_read_by_others_as_the_umask_says(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {})
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"dice": float("nan"), "far": [float("inf"), 1.5], "path": Path("a"), "t": (1,)})
    assert read_json(tmp_path / "x.json") == {"dice": None, "far": [None, 1.5], "path": "a", "t": [1]}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_any_layout_move_the_right_weights(name: Any, weights: torch.memory_format) -> None:
    """`--set compile=true` can give gradients that lie otherwise in memory than their weights."""
    torch.manual_seed(0)
    modules = [nn.Conv2d(4, 8, 3, bias=False).to(memory_format=weights) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    optimizers = [make_optimizer(module, name, 0.1, 0.9, 1e-3) for module in modules]
    for _ in range(3):
        gradient = torch.randn(8, 4, 3, 3)
        modules[0].weight.grad = torch.empty_like(modules[0].weight).copy_(gradient)
        other = torch.channels_last if weights == torch.contiguous_format else torch.contiguous_format
        modules[1].weight.grad = gradient.contiguous(memory_format=other)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(modules[1].weight, modules[0].weight)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_weight_may_get_its_first_gradient_later_than_others(name: Any) -> None:
    """As the weights of a part that a method uses from a later step on."""

    def trained(make: Any) -> nn.Module:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        optimizer = make(module)
        for step in range(3):
            (module if step else module[0])(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return module

    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    also = {"sgd": {"momentum": 0.9}, "adamw": {"betas": (0.9, 0.999)}}[name]
    whole = trained(lambda module: kind(module.parameters(), lr=0.1, weight_decay=1e-3, foreach=False, **also))
    found = trained(lambda module: make_optimizer(module, name, 0.1, 0.9, 1e-3))
    torch.testing.assert_close(list(found.parameters()), list(whole.parameters()))


def test_the_optimiser_goes_on_as_if_never_saved() -> None:
    """Momentum comes back with the parameter's memory layout and for the right parameter."""

    def steps(module: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            image = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            module(image).square().mean().backward()
            optimizer.step()

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)).to(memory_format=torch.channels_last)
        module[0].bias.requires_grad_(False)  # type: ignore[union-attr]
        return module

    whole, parts = fresh(), fresh()
    steps(whole, make_optimizer(whole, "sgd", 0.1, 0.9, 1e-3), range(6))
    first = make_optimizer(parts, "sgd", 0.1, 0.9, 1e-3)
    steps(parts, first, range(3))
    second = make_optimizer(parts, "sgd", 0.1, 0.9, 1e-3)
    restore_optimizer(second, {k: v.contiguous() for k, v in optimizer_tensors(first).items()})
    steps(parts, second, range(3, 6))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.state[parts[0].weight]["momentum_buffer"].is_contiguous(memory_format=torch.channels_last)  # type: ignore[index,union-attr]


def test_learning_rates() -> None:
    assert [learning_rate(1.0, "linear", t, 4) for t in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [learning_rate(1.0, "poly", t, 4) for t in range(4)] == pytest.approx([1.0, 0.75**0.9, 0.5**0.9, 0.25**0.9])
    assert {learning_rate(0.3, "constant", t, 4) for t in range(4)} == {0.3}


def test_an_average_shares_nothing_with_the_weights() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.9)
    kept = average.tensors["weight"].clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    assert torch.equal(average.tensors["weight"], kept)
