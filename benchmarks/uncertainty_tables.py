"""The section on uncertainty of docs/results.md, from the files in benchmarks/results/uncertainty."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "uncertainty"
BASE = "mean_entropy"
TEXT = """## Uncertainty

`python benchmarks/uncertainty.py` made these figures: one run of UC-Seg for each set, at 96 pixels, with few masks.
[Predict and evaluate](how-to/predict.md#is-the-uncertainty-worth-something) defines them.

**Which score finds bad masks?** On validation cases. The figure is the excess AURC, and in brackets its share of that
of the mean entropy: 0 is the best order there is, 1 is no better than the mean entropy.
By the geometric mean of these shares, `failure_score` is the default: 1 minus the Dice to expect by the probabilities.
On hippocampus, where the Dice of all cases is alike, no score here ranks much better than the mean entropy.
"""
RUNS = """On validation cases as well: how well maps find wrong voxels, and the runs.
"""
TEST = """**What the default is worth.** On test cases, which chose nothing, calibrated on the validation cases.
ECE and Brier are near the structure, of calibrated probabilities. The share of excess AURC is that of the mean entropy.
The goals were an AUROC of .93 and a share of at most .5.
"""


def uncertainty() -> str:
    """The section; empty without files."""
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    if not found:
        return ""
    tested = [one for one in found if "test" in one]
    return "\n".join([TEXT, *_scores(found), "", RUNS, *_maps(found), "", TEST, *_worth(tested), ""])


def _scores(found: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for one in found for name in one["validation"]["scores"]))
    shares = {name: [_share(one["validation"]["scores"], name) for one in found] for name in names}
    means = {name: math.exp(sum(map(math.log, own)) / len(own)) for name, own in shares.items()}
    heads = [f"{one['set']} ({one['validation']['scores'][BASE]['cases']})" for one in found]
    lines = [f"| score | {' | '.join(heads)} | geometric mean of the shares |", f"|{' --- |' * (len(found) + 2)}"]
    for name in sorted(names, key=means.__getitem__):
        cells = [
            f"{one['validation']['scores'][name]['excess_aurc']:.4f} ({share:.2f})"
            for one, share in zip(found, shares[name], strict=True)
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {means[name]:.2f} |")
    return lines


def _maps(found: list[dict[str, Any]]) -> list[str]:
    """Pooled AUROC of wrong voxels, of the method's own map, of entropy, and of the spread of mirrored passes."""
    lines = ["| data | run | Dice | AUROC: own map | entropy | mirrored passes | temperature |", f"|{' --- |' * 7}"]
    for one in found:
        known = one["validation"]
        cells = [one["set"], _run(one), f"{known['dice']:.3f}", *(f"{m['auroc']:.3f}" for m in known["maps"].values())]
        lines.append(f"| {' | '.join([*cells, format(known['calibration']['temperature'], '.2f')])} |")
    return lines


def _run(one: dict[str, Any]) -> str:
    return f"{one['labelled']} masks, {one['steps']} steps, {one['note']}"


def _share(scores: dict[str, Any], name: str) -> float:
    return float(scores[name]["excess_aurc"] / scores[BASE]["excess_aurc"])


def _worth(found: list[dict[str, Any]]) -> list[str]:
    heads = ["data", "test cases", "Dice", "AUROC of wrong voxels", "AUPR", "ECE near", "Brier near"]
    heads += [
        "excess AURC",
        "its share",
        "Spearman",
        "AUROC of Dice < .8",
        "predicted Dice off by",
        "within 90 %",
        "width",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for one in found:
        test, score = one["test"], one["test"]["scores"]["failure_score"]
        cells = [one["set"], str(test["cases"]), f"{test['dice']:.3f}"]
        cells += [f"{test['all'][name]:.3f}" for name in ("auroc", "aupr", "ece_near", "brier_near")]
        cells += [f"{score['excess_aurc']:.4f}", f"{_share(test['scores'], 'failure_score'):.2f}"]
        cells += [_number(score[name]) for name in ("spearman", "failure_auroc")]
        covered = test["predicted_dice"]
        cells += [
            _number(covered.get("mean_distance")),
            _percent(covered.get("within")),
            _number(covered.get("mean_width")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.0%}"
