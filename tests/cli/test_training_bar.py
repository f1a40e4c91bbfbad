"""What `ucseg train` shows while it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from ucseg.cli.terminal import progress_bar
from ucseg.cli.training_bar import Display
from ucseg.training.trainer import StepReport


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


def test_validation_has_a_bar_while_it_lasts(tmp_path: Path) -> None:
    with progress_bar() as bar:
        display = Display(bar, "run", tmp_path)
        losses(display, [1.0])
        for done in range(3):
            display.show_validation(done, 3)
            assert [(task.description, task.completed) for task in bar.tasks[1:]] == [("validating", done)]
        display.show_validation(3, 3)
        assert len(bar.tasks) == 1
