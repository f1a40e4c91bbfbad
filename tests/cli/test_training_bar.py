"""What `ucseg train` and `ucseg predict` show while they work."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.progress import Progress

from ucseg.cli.predict import _shown
from ucseg.cli.terminal import console, progress_bar
from ucseg.cli.training_bar import Display
from ucseg.training.outcome import StepReport


def losses(display: Display, values: list[float]) -> list[float]:
    shown = []
    for done, value in enumerate(values, start=1):
        display.show(StepReport(done, 100, {"supervised_1": value / 2, "supervised_2": value / 2}, None))
        shown.append(display.smooth["supervised"])
    return shown


def test_the_loss_shown_is_a_mean_in_which_the_first_one_counts_no_more_than_others(tmp_path: Path) -> None:
    with progress_bar() as bar:
        shown = losses(Display(bar, "run", tmp_path), [10.0, 1.0, 1.0])
        assert shown[:2] == pytest.approx([10.0, (0.9 * 10 + 1) / 1.9])
        assert shown[2] == pytest.approx((0.81 * 10 + 0.9 + 1) / 2.71)
        assert losses(Display(bar, "run", tmp_path), [5.0] + [1.0] * 80)[-1] == pytest.approx(1.0, abs=0.01)


def test_the_time_left_follows_the_recent_pace_with_its_validations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_bar(own_estimate=True) as bar:
        display = Display(bar, "run")
        for done in range(1, 61):
            now += 1.0 if done <= 20 else 4.0
            measured = None
            if done % 10 == 0:
                now += 20.0
                measured = {"step": done, "dice": 0.5}
            display.show(StepReport(done, 100, {"supervised": 1.0}, measured))
        # Ten steps of 4 s and a validation of 20 s, four times.
        assert bar.tasks[0].fields["left"] == "0:04:00"
    assert [text.rpartition("; ")[2] for kind, text in said if kind == "validated"][-1] == "0:04:00 left"


def test_without_a_terminal_the_time_is_reported_after_the_first_steps(
    monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for terminal in (True, False):
        monkeypatch.setattr(console, "_force_terminal", terminal)
        with progress_bar(own_estimate=True) as bar:
            display = Display(bar, "run")
            for done in range(1, 21):
                now += 2.0
                display.show(StepReport(done, 3606, {"supervised": 1.0}, None))
    assert said == [("pace", "At 2 s per step, the 3600 steps left take 2:00:00.")]


@pytest.mark.parametrize("clock", [None, 9000.0])
def test_before_the_slower_steps_the_pace_is_a_least_time_unless_a_clock_ends_the_run(
    clock: float | None, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(console, "_force_terminal", False)
    shown = {}
    with progress_bar(own_estimate=True) as bar:
        display = Display(bar, "run")
        for done in range(1, 51):
            now += 2.0
            left = None if clock is None else clock - now
            display.show(StepReport(done, 3606, {"supervised": 1.0}, None, steady_at=50, seconds_left=left))
            shown[done] = bar.tasks[0].fields["left"]
    later = ", as they are slower from step 50 on"
    if clock is None:
        assert (shown[49], shown[50]) == ("over 1:58:34", "1:58:32")
        assert said == [("pace", f"At 2 s per step, the 3600 steps left take over 2:00:00{later}.")]
    else:
        assert (shown[49], shown[50]) == ("2:28:22", "1:58:32")
        assert said == [("pace", f"At 2 s per step, the 3600 steps left take 2:29:48{later}.")]


@pytest.mark.parametrize("total", [5, 11])
def test_no_line_says_that_nearly_nothing_is_left(
    total: int, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(console, "_force_terminal", False)
    with progress_bar(own_estimate=True) as bar:
        display = Display(bar, "run")
        for done in range(total + 1):
            display.show(StepReport(done, total, {"supervised": 1.0}, None))
            now += 12.0
    assert said == []


def test_validation_has_a_bar_while_it_lasts(tmp_path: Path) -> None:
    with progress_bar() as bar:
        display = Display(bar, "run", tmp_path)
        losses(display, [1.0])
        for done in range(3):
            display.show_validation(done, 3)
            assert [(task.description, task.completed) for task in bar.tasks[1:]] == [("validating", done)]
        display.show_validation(3, 3)
        assert len(bar.tasks) == 1


def test_no_part_of_a_scan_counts_twice_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scans are at work at a time, and one ends every 5 s."""
    now, rows = 0, list[dict[str, str]]()
    bar = Progress(get_time=lambda: float(now), disable=True, speed_estimate_period=100)
    monkeypatch.setattr(sys.modules["ucseg.cli.predict"], "progress_bar", lambda: bar)
    folder: Any = SimpleNamespace(rows=rows, add=rows.append, save_table=lambda: None)
    with _shown(folder, 20) as (done, report):
        for now in range(1, 51):
            if now % 5 == 0 and now >= 10:
                done({"status": "ok"})
            parts = [(now - start) / 10 for start in range(0, now, 5)]
            report(sum(part for part in parts if part < 1))
        assert len(rows) == 9
        assert bar.tasks[0].completed == pytest.approx(9.5)
        assert bar.tasks[0].speed == pytest.approx(0.2, rel=0.1)
