"""What is seen while `ucseg train` trains."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucseg.cli.terminal import console, say
from ucseg.inference.validation import MIRRORED

if TYPE_CHECKING:
    from ucseg.training.outcome import StepReport

LONG_RUN = 12.0
"""Hours; of a longer run a message says how to fit it to the time."""
UNVALIDATED = 0.05
"""Share of the steps after which the pace is measured again where nothing is validated."""
WORTH_SAYING = 300.0
"""Seconds: with less left, the first validation says soon enough how long it takes."""
STEPS_TIMED = 5
"""Steps after which that is known."""


class Display:
    """Losses (smoothed), the last validation and the time left on the bar; a line stays for each validation.

    Args:
        dataset: of a run whose number of steps was chosen without a look at the time; None: no message if it is long.
    """

    def __init__(self, bar: Any, name: str, dataset: Path | None = None) -> None:
        self.bar, self.name, self.untimed = bar, name, dataset
        self.first: tuple[float, int] | None = None
        self.marks: list[tuple[float, int]] = []
        self.task: Any = None
        self.total = 0
        self.smooth: dict[str, float] = {}
        self.weight = 0.0
        self.validated = 0
        self.timed = False
        self.validating: Any = None

    def show(self, report: StepReport) -> None:
        self._say_if_long(report)
        now: dict[str, float] = {}
        for term, value in report.terms.items():  # supervised_1 and supervised_2 are shown as one
            kind = term.split("_")[0]
            now[kind] = now.get(kind, 0.0) + value
        # A mean that forgets: the large first losses count no more than those that follow.
        self.weight = 0.9 * self.weight + 1
        for kind, value in now.items():
            before = self.smooth.get(kind, value)
            self.smooth[kind] = before + (value - before) / self.weight
        losses = "  ".join(f"{kind} {value:.3f}" for kind, value in self.smooth.items())
        measured = report.validation
        dice = f"  Dice {measured['dice']:.3f}" if measured else ""
        wide = console.width >= 90 + len(losses)
        text = f"{self.name}  {losses if wide else f'loss {sum(self.smooth.values()):.3f}'}{dice}"
        if self.task is None:
            self.task = self.bar.add_task(text, total=report.total, completed=report.done, left="")
            self.marks = [(time.monotonic(), report.done)]
        elif report.total != self.total:
            say("steps-changed", f"{report.total} steps fit into the time, judged by the {report.done} so far.")
        self.total = report.total
        left = self._left(report)
        self.bar.update(self.task, completed=report.done, total=report.total, description=text, left=left)
        if measured and measured["step"] != self.validated:
            self.validated = int(measured["step"])
            if self.validated == report.done:
                line = f"step {report.done} of {report.total}: {losses}; validation Dice {measured['dice']:.4f}"
                mirrored = f", mirrored {measured[MIRRORED]:.4f}" if MIRRORED in measured else ""
                say("validated", line + mirrored + (f"; {left} left" if left else ""))
                self._mark(report)
        elif not measured and report.done - self.marks[-1][1] >= UNVALIDATED * report.total:
            self._mark(report)

    def show_validation(self, done: int, total: int) -> None:
        """A separate bar for the cases that are being validated; it goes when all are."""
        if self.validating is None:
            self.validating = self.bar.add_task("validating", total=total, left="")
        self.bar.update(self.validating, completed=done)
        if done == total:
            self.bar.remove_task(self.validating)
            self.validating = None

    def _mark(self, report: StepReport) -> None:
        """The pace is of the time from the last mark but one."""
        self.marks = [self.marks[-1], (time.monotonic(), report.done)]

    def _left(self, report: StepReport) -> str:
        """The time to the end at the pace since the last validation but one: later steps may be slower than the first.

        The bar's own pace would leave validations out. Before the slower steps no pace shows the end, but a clock may.
        """
        started, before = self.marks[0]
        if not before < report.done < report.total:
            return ""
        slower = report.done < report.steady_at
        if slower and report.seconds_left is not None:
            return str(timedelta(seconds=round(report.seconds_left)))
        seconds = (time.monotonic() - started) / (report.done - before) * (report.total - report.done)
        return f"{'over ' if slower else ''}{timedelta(seconds=round(seconds))}"

    def _say_if_long(self, report: StepReport) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, report.done)
        started, before = self.first
        if self.timed or report.done < before + STEPS_TIMED:
            return
        self.timed = True
        seconds = (now - started) / (report.done - before)
        slower = report.done < report.steady_at
        clock = report.seconds_left if slower else None
        hours = (seconds * (report.total - report.done) if clock is None else clock) / 3600
        over = "over " if slower and clock is None else ""
        later = f", as they are slower from step {report.steady_at} on" if slower else ""
        if hours > LONG_RUN and self.untimed is not None:
            say(
                "long-run",
                f"At {seconds:.2g} s per step, the {report.total} steps take {over}{hours:.0f} h more{later}. "
                f"If that is too long, stop, and start another run with --hours H: it makes as many steps as fit. "
                f"'ucseg plan {self.untimed} --measure' fits batch and patch to this machine's memory.",
                "yellow",
            )
        elif not console.is_terminal and 3600 * hours >= WORTH_SAYING:
            # No bar is seen, and the first validation may be an hour away.
            left = f"{over}{timedelta(seconds=round(3600 * hours))}{later}"
            say("pace", f"At {seconds:.2g} s per step, the {report.total - report.done} steps left take {left}.")
