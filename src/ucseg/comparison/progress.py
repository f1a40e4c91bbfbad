"""How far a grid is, and how long it still takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ucseg.comparison.grid import Cell
from ucseg.training.run_folder import RunFolder

TAIL = 8192  # bytes of a log that hold its last lines


def training_so_far(run: Path) -> tuple[int, float]:
    """Steps done and seconds taken by a training run, as its log says; (0, 0.0) before the first line."""
    file = RunFolder(run).metrics_file
    if not file.exists():
        return 0, 0.0
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - TAIL))
        lines = log.read().splitlines()
    for line in reversed(lines):  # the last one may be half written
        try:
            found = json.loads(line)
            return int(found["step"]), float(found["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0, 0.0


def cells_done(done: int, running: Mapping[Cell, tuple[int, float]], steps: int) -> float:
    """Cells done, those that run counted by their steps."""
    return done + sum(min(1.0, step / steps) for step, _ in running.values())


def seconds_left(
    waiting: Iterable[Cell],
    running: Mapping[Cell, tuple[int, float]],
    done: Mapping[Cell, Mapping[str, Any]],
    steps: int,
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
    for cell, (step, seconds) in running.items():
        if cell.variant.text not in known and step:
            known[cell.variant.text] = [seconds / step * steps]
    if not known:
        return None
    means = {variant: sum(each) / len(each) for variant, each in known.items()}
    usual = sum(means.values()) / len(means)
    left = sum(means.get(cell.variant.text, usual) for cell in waiting)
    parts = [means.get(cell.variant.text, usual) * (1 - min(1.0, step / steps)) for cell, (step, _) in running.items()]
    return max([(left + sum(parts)) / jobs, *parts])
