"""A run that was given a time makes as many steps as fit into it, however wrong the first estimate was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_resume import FP32, assert_same_run
from tiny import TinyMethod, batches, train

from ucseg.errors import Interrupted
from ucseg.methods import build_method
from ucseg.training.outcome import StepReport
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.types import Batch, Problem

HOURS = 100 / 3600


class Clock:
    """Stands still but for the batches: each takes the seconds that `cost` tells of its step, and one of work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], stop_at: int = -1) -> None:
        self.now, self.cost, self.stop_at = 0.0, cost, stop_at
        self.worked = 0.0
        clocks = SimpleNamespace(
            monotonic=lambda: self.now, perf_counter=time.perf_counter, process_time=lambda: self.worked
        )
        monkeypatch.setattr("ucseg.training.trainer.time", clocks)

    def loader(self, start: int) -> Iterator[Batch]:
        for step, batch in enumerate(batches()(start), start):
            self.now += self.cost(step)
            self.worked += 1.0
            if step == self.stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def config(steps: int, clock: str = "wall") -> TrainConfig:
    return TrainConfig(steps=steps, hours=HOURS, clock=clock, log_every=1, **FP32)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimated", "cost", "made"),
    [
        (50, lambda step: 1.0, 100),  # a step was thought to take twice as long
        (200, lambda step: 1.0, 100),
        (97, lambda step: 1.0, 97),  # near enough
        (4, lambda step: 20.0 if step == 0 else 4.0, 21),  # warms up
        (1, lambda step: 20.0, 5),
        (100, lambda step: 1.0 if step < 30 else 3.0, 53),  # 30 s for 30 steps, 70 s for 23
        (5, lambda step: 60.0, 2),
    ],
)
def test_the_steps_follow_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimated: int, cost: Callable[[int], float], made: int
) -> None:
    clock = Clock(monkeypatch, cost)
    result = train(tmp_path / "run", config(estimated), loader=clock.loader)
    assert abs(result.steps - made) <= max(1, 0.05 * made)
    assert RunFolder(tmp_path / "run").metrics()[-1]["validation"]  # of the last step, wherever that came to be
    rates = [line["lr"] for line in RunFolder(tmp_path / "run").metrics()]
    assert rates[0] == 0.03
    assert rates[-1] <= 0.03 / result.steps + 1e-9  # the schedule comes to its end with the run


def test_quick_early_steps_do_not_stretch_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a method that sees labelled images alone at first, in a third of the time."""
    problem = Problem(2, 1, 2, (16, 16), (8, 8))
    assert [build_method(name, {}, problem).steady_from for name in ("uc_seg", "bcp", "cps")] == [0.4, 0.2, 0.0]
    monkeypatch.setattr(TinyMethod, "steady_from", 0.4)
    clock = Clock(monkeypatch, lambda step: 1.0 if step < 20 else 3.0)
    reports: list[StepReport] = []
    result = train(tmp_path / "run", config(50), loader=clock.loader, on_step=reports.append)
    assert abs(result.steps - 47) <= 1  # 20 s for 20 steps, 80 s for 27
    assert [(one.steady_at, one.seconds_left) for one in reports[:2]] == [(20, 99.0), (20, 98.0)]
    rates = [line["lr"] for line in RunFolder(tmp_path / "run").metrics()]
    assert rates[19] == pytest.approx(0.03 * (1 - 19 / 50), rel=0.01)


@pytest.mark.parametrize("clock", ["wall", "work"])
def test_a_resumed_run_knows_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    def cost(step: int) -> float:
        return (
            1.0 if clock == "wall" else 1.0 + step % 7
        )  # others work on the machine too: that counts only as it passes

    whole = train(tmp_path / "whole", config(50, clock), loader=Clock(monkeypatch, cost).loader)
    stopped: Any = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="step 38 of 100"):
        train(stopped, config(50, clock), loader=Clock(monkeypatch, cost, stop_at=37).loader)
    ended = train(stopped, config(50, clock), loader=Clock(monkeypatch, cost).loader, resume=True)
    assert (whole.steps, whole.seconds > 300) == (100, clock == "work")
    assert whole.work == ended.work == (None if clock == "wall" else 100)
    assert_same_run(tmp_path / "whole", stopped)
