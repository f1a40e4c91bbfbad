"""At the end of a run one is told where its time went and what would help; looking must not slow a GPU down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tiny import batches, make_method

from ucseg.methods import build_method
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.time_shares import SAMPLED, StageClock, TimeShares, best_change
from ucseg.training.trainer import fit
from ucseg.types import Batch, Problem


def begun(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.begin({})
    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test puts it forward: what else runs on the machine changes nothing."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_waiting_for_batches_is_seen_and_written_down(tmp_path: Path, clock: list[float]) -> None:
    def slowly(start: int) -> Iterator[Batch]:
        for batch in batches()(start):
            clock[0] += 1
            yield batch

    run = begun(tmp_path / "run")
    result = fit(make_method(), slowly, run, TrainConfig(steps=8, device="cpu", precision="fp32"))
    assert result.spent is not None
    shares = asdict(result.spent)
    assert shares["data"] == 1
    assert "--workers" in result.would_help_most
    kept = json.loads((run.path / "time.json").read_text())
    assert kept["shares"] == shares
    assert (kept["from_step"], kept["to_step"]) == (0, 8)
    assert str(result.spent) == "data 100%"


def test_validation_that_takes_long_should_come_less_often(tmp_path: Path, clock: list[float]) -> None:
    def validate(*_: object) -> dict[str, float]:
        clock[0] += 1
        return {"dice": 0.5}

    config = TrainConfig(steps=4, device="cpu", precision="fp32", validate_every=2, save_every=1e9)
    result = fit(make_method(), batches(), begun(tmp_path / "run"), config, validate)
    assert result.spent is not None
    assert result.spent.validation == 1
    assert "validate_every=8" in result.would_help_most


def test_networks_are_timed_apart_from_the_rest_of_the_method(tmp_path: Path) -> None:
    problem = Problem(dims=2, channels=1, classes=2, patch=(32, 32), token=(8, 8))
    image, label = torch.randn(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    method = build_method("supervised", {"networks": ("vnet",)}, problem)
    config = TrainConfig(steps=2, device="cpu", precision="fp32")
    result = fit(method, lambda _: (Batch(image, label, {}) for _ in range(2)), begun(tmp_path / "run"), config)
    assert result.spent is not None
    assert sum(asdict(result.spent).values()) == pytest.approx(1)
    assert result.spent.networks > 0
    assert result.spent.backward > 0
    assert result.spent.update > 0
    assert not any(module._forward_pre_hooks for module in method.modules()), "hooks stay behind"


def test_a_gpu_is_waited_for_in_few_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    at, waits = [0], set()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: waits.add(at[0]))
    method = make_method()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    clock = StageClock(method, method.student, optimizer, torch.device("cuda"))
    for step in range(2 * SAMPLED):
        at[0] = step
        clock.step_begins()
        method.student(torch.randn(1, 1, 8, 8)).sum().backward()
        optimizer.step()
        clock.step_ends()
    assert len(waits) == 2
    assert 0 not in waits
    assert clock.shares() is not None


def test_cores_that_no_process_uses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("ucseg.training.time_shares.cores", lambda: 4)
    shares, cpu = TimeShares(0.01, 0.3, 0.2, 0.45, 0.02, 0.01, 0.0, 0.01), torch.device("cpu")
    assert "(OMP_NUM_THREADS=4)" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120))
    assert "(OMP_NUM_THREADS=2)" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120), processes=2)
    assert "no setting" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120), processes=4)
    assert "(--devices 4)" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120), processes=8)


def test_cores_that_others_keep_busy_are_no_advice_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("ucseg.training.time_shares.cores", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    shares, cpu = TimeShares(0.01, 0.3, 0.2, 0.45, 0.02, 0.01, 0.0, 0.01), torch.device("cpu")
    for load, said in ((6.5, True), (1.0, False)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load,) * 3, raising=False)
        assert ("other programs" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120))) is said
    monkeypatch.delattr("os.getloadavg")
    assert "other programs" not in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120))


def test_what_cannot_be_rarer_is_not_advised() -> None:
    """A single validation is the one at the end; saves that the clock did not ask for come with validations."""
    cpu = torch.device("cpu")
    shares = TimeShares(0.0, 0.1, 0.1, 0.1, 0.0, 0.4, 0.3, 0.0)
    assert "--set validate_every=40" in best_change(shares, "bf16", cpu, (10, 10), (0.0, 120))
    assert "--set save_every=480" in best_change(shares, "bf16", cpu, (1, 10), (1.0, 120))
    assert "ing less often" not in best_change(shares, "bf16", cpu, (1, 10), (0.0, 120))


def test_where_no_setting_helps_the_hardware_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    shares = TimeShares(0.01, 0.3, 0.2, 0.45, 0.02, 0.01, 0.0, 0.01)
    cpu = torch.device("cpu")
    assert "no setting" in best_change(shares, "bf16", cpu, (10, 10), (0.5, 120))
    monkeypatch.setattr("ucseg.training.time_shares.quicker_in_bf16", lambda _device: True)
    assert "--precision bf16" in best_change(shares, "fp32", cpu, (10, 10), (0.5, 120))
