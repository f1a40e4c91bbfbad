"""How far a grid is, and how long it still takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ucseg.comparison.grid import Cell
from ucseg.training.run_folder import RunFolder

TAIL = 8192  # bytes of a log that hold its last lines


def training_so_far(run: Path, total: float, counted: str = "step") -> tuple[float, float]:
    """Share of a training run that is done, and seconds taken, as its log says; zeros before the first line.

    Args:
        total: how much of what is counted makes the whole run.
        counted: "step", or "work" (seconds, as runs of equal time count them).
    """
    file = RunFolder(run).metrics_file
    if not file.exists():
        return 0.0, 0.0
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - TAIL))
        lines = log.read().splitlines()
    for line in reversed(lines):  # the last one may be half written
        try:
            found = json.loads(line)
            return min(1.0, float(found[counted]) / total), float(found["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0.0, 0.0


def cells_done(done: int, running: Mapping[Cell, tuple[float, float]]) -> float:
    """Cells done, those that run counted by their shares."""
    return done + sum(share for share, _ in running.values())


def seconds_left(
    waiting: Iterable[Cell],
    running: Mapping[Cell, tuple[float, float]],
    done: Mapping[Cell, Mapping[str, Any]],
    jobs: int,
) -> float | None:
    """Seconds until the last cell ends; None while nothing is known.

    A cell takes as long as finished cells of its variant took. Where there is none, the speed of a running one counts;
    else the mean over the other variants.
    """
    known: dict[str, list[float]] = {}
    for cell, result in done.items():
        took = result["training"]["seconds"] + result["evaluation_seconds"]
        known.setdefault(cell.variant.text, []).append(took)
    for cell, (share, seconds) in running.items():
        if cell.variant.text not in known and share:
            known[cell.variant.text] = [seconds / share]
    if not known:
        return None
    means = {variant: sum(each) / len(each) for variant, each in known.items()}
    usual = sum(means.values()) / len(means)
    left = sum(means.get(cell.variant.text, usual) for cell in waiting)
    parts = [means.get(cell.variant.text, usual) * (1 - share) for cell, (share, _) in running.items()]
    return max([(left + sum(parts)) / jobs, *parts])
