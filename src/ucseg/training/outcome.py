"""What a training reports: while it runs, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ucseg.training.time_shares import TimeShares


@dataclass
class StepReport:
    """What the loop reports to a progress display.

    Attributes:
        steady_at: the step from which all steps cost the same; before, they may be quicker.
        seconds_left: of a run that ends by the clock; None: of another one.
    """

    done: int
    total: int
    terms: dict[str, float]
    validation: Mapping[str, float] | None
    steady_at: int = 0
    seconds_left: float | None = None


@dataclass
class FitResult:
    """How a run ended.

    Attributes:
        last, best: validation results with their "step"; None without validation.
        work: seconds of training as `hours` count them, where they do not count as they pass.
        parameters: how many numbers are trained.
        spent: where the time since the start or resumption went.
        would_help_most: the one change that would save most of it.
        silent: loss terms that were zero whenever they were logged: they trained nothing.
        on: device and precision.
    """

    run: Path
    steps: int
    seconds: float
    last: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    work: float | None = None
    parameters: int = 0
    already_finished: bool = False
    spent: TimeShares | None = None
    would_help_most: str = ""
    silent: list[str] = field(default_factory=list)
    on: str = ""
