"""Two sections of docs/results.md: what to label next (results/label_next), and training that goes on (warm_start)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
REFERENCE = "foreground-random"
NEXT = """\
## What to label next

Masks are hidden, and shown when `ucseg label-next` chooses their case: three at first, then three more in each of five
rounds, of a pool of 80. Training goes on from the weights of the round before.
The method is supervised training of both networks of UC-Seg, small and short, on one thread.
Figures are Dice on validation cases, mean ± standard deviation over the seeds.
**Mean** is the mean over the five rounds, **beside** its difference to `foreground-random` with the same seed.
**At equal voxels** is the Dice at the same number of labelled foreground voxels, on the line between two rounds.
It is the smallest number that a strategy with that seed has at the end.
"""
WARM = """\
## Training that goes on after new labels

UC-Seg is trained on three cases. Then twelve more have masks, and `ucseg train` starts again: from random weights,
or with `--init RUN` from those of the first training.
Figures are Dice on validation cases, mean ± standard deviation over the seeds.
`as-scratch` has the schedule for random weights, the other rows change it:
"""


def labels() -> str:
    """Both sections, as far as they are measured."""
    return "\n".join(part for part in (_next(), _warm()) if part)


def _read(folder: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((RESULTS / folder).glob("*.json"))]


def _next() -> str:
    cells = _read("label_next")
    parts = [NEXT]
    sets = sorted({cell["set"] for cell in cells})
    parts += [_strategies(name, [cell for cell in cells if cell["set"] == name]) for name in sets]
    return "\n".join(parts) if cells else ""


def _strategies(name: str, cells: list[dict[str, Any]]) -> str:
    """The table of a data set: a row for each strategy that has a cell."""
    by_seed = {(cell["strategy"], cell["seed"]): cell["points"] for cell in cells}
    seeds = sorted({seed for _, seed in by_seed})
    strategies = sorted({REFERENCE, *(strategy for strategy, _ in by_seed)}, key=lambda one: (one != REFERENCE, one))
    # Of seeds that not all strategies have, one could not compare the rows.
    whole = [seed for seed in seeds if all((strategy, seed) in by_seed for strategy in strategies)]
    if not whole:
        return f"**{name}:** not all strategies have been measured yet.\n"
    least = {seed: min(by_seed[strategy, seed][-1]["foreground"] for strategy in strategies) for seed in whole}
    counts = [point["cases"] for point in next(iter(by_seed.values()))][1:]
    heads = ["strategy", *(f"{count} cases" for count in counts), "mean", "beside", "at equal voxels"]
    lines = [f"**{name}**, {len(whole)} seed{'s' * (len(whole) != 1)}:", "", f"| {' | '.join(heads)} |"]
    lines.append(f"|{' --- |' * len(heads)}")
    for strategy in strategies:
        points = [by_seed[strategy, seed] for seed in whole]
        rounds = [_text([of[1 + k]["dice"] for of in points]) for k in range(len(counts))]
        means = [mean(point["dice"] for point in of[1:]) for of in points]
        others = [mean(point["dice"] for point in by_seed[REFERENCE, seed][1:]) for seed in whole]
        beside = _text([a - b for a, b in zip(means, others, strict=True)], "+.3f")
        equal = [
            float(np.interp(least[seed], [point["foreground"] for point in of], [point["dice"] for point in of]))
            for seed, of in zip(whole, points, strict=True)
        ]
        lines.append(f"| `{strategy}` | {' | '.join([*rounds, _text(means), beside, _text(equal)])} |")
    steps = f"{cells[0]['first']} steps at first, {cells[0]['round']} a round; {', '.join(cells[0]['plan'])}"
    return "\n".join([*lines, "", f"    {steps}", ""])


def _warm() -> str:
    cells = _read("warm_start")
    if not cells:
        return ""
    rows: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for cell in cells:
        rows.setdefault((cell["set"], cell["variant"], cell["steps"]), []).append(cell)
    changed = {
        cell["variant"]: ", ".join(f"`{key}={value:g}`" for key, value in cell["changed"].items()) for cell in cells
    }
    lines = [WARM, *(f"- `{variant}`: {texts}" for variant, texts in sorted(changed.items()) if texts), ""]
    lines += ["| data | start | steps | Dice | CPU seconds | seeds |", "| --- | --- | --- | --- | --- | --- |"]
    for (name, variant, steps), found in sorted(rows.items(), key=lambda row: (row[0][0], -row[0][2], row[0][1])):
        start = "random weights" if variant == "scratch" else f"`{variant}`"
        dice, seconds = _text([one["dice"] for one in found]), mean(one["cpu_seconds"] for one in found)
        lines.append(f"| {name} | {start} | {steps} | {dice} | {seconds:.0f} | {len(found)} |")
    for name in sorted({cell["set"] for cell in cells}):
        before = [cell["dice_of_first"] for cell in cells if cell["set"] == name and cell["variant"] == "scratch"]
        lines += ["", f"Before the new masks the Dice on {name} was {_text(before)}."] if before else []
    return "\n".join([*lines, ""])


def _text(values: list[float], form: str = ".3f") -> str:
    return f"{mean(values):{form}}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
