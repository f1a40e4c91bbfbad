"""The section on uncertainty of docs/results.md, from the files in benchmarks/results/uncertainty."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "uncertainty"
BASE = "mean_entropy"
TEXT = """## Uncertainty

`python benchmarks/uncertainty.py` made these figures: three runs of UC-Seg for each set, with few masks.
Pictures have 96 pixels. Figures are the mean and the standard deviation over the runs.
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
The goals were an AUROC of .93 and a share of at most .5. The predicted Dice was a line with a free intercept then.
"""
LINE = """**The line of the predicted Dice.** `python benchmarks/predicted_dice.py` predicts the Dice of validation
cases from the failure scores of a few others. The figure is the mean absolute error over many draws and three runs.
A line through Dice 1 at score 0 is better than a free one nearly everywhere, and on hippocampus the mean is as good.
The default, from three cases on, is this line, or the mean where that is less than half as far from the known cases.
On kvasir and isic 1 - failure score itself is nearer to the Dice than any line of few cases. On the others it is not.
"""
FEW = """**A calibration of few cases.** `python benchmarks/few_validation_cases.py` calibrates one run of each set on a
few of its validation cases, and measures on half of the others. The figure is the log loss of the chance that a voxel
near the structure is wrong. On two sets one case is much better than none, on kvasir it takes two. For the
probabilities themselves kvasir takes more than three.
"""


def uncertainty() -> str:
    """The section; empty without files."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(RESULTS.glob("*.json")):
        one = json.loads(file.read_text())
        found.setdefault(one["set"], []).append(one)
    if not found:
        return ""
    tested = {name: [one["test"] for one in runs if "test" in one] for name, runs in found.items()}
    tested = {name: tests for name, tests in tested.items() if tests}
    return "\n".join(
        [
            TEXT,
            *_scores(found),
            "",
            RUNS,
            *_maps(found),
            "",
            TEST,
            *_worth(tested),
            "",
            LINE,
            *_lines(),
            "",
            FEW,
            *_few(),
            "",
        ]
    )


def _scores(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    scores = {name: [one["validation"]["scores"] for one in runs] for name, runs in found.items()}
    names = list(dict.fromkeys(name for runs in scores.values() for one in runs for name in one))
    shares = {name: [[_share(one, name) for one in runs] for runs in scores.values()] for name in names}
    means = {name: math.exp(fmean(math.log(fmean(runs)) for runs in own)) for name, own in shares.items()}
    heads = [f"{name} ({runs[0][BASE]['cases']})" for name, runs in scores.items()]
    lines = [f"| score | {' | '.join(heads)} | geometric mean of the shares |", f"|{' --- |' * (len(found) + 2)}"]
    for name in sorted(names, key=means.__getitem__):
        cells = [
            f"{fmean(one[name]['excess_aurc'] for one in runs):.4f} ({_over_seeds(share, '.2f')})"
            for runs, share in zip(scores.values(), shares[name], strict=True)
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {means[name]:.2f} |")
    return lines


def _maps(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Pooled AUROC of wrong voxels, of the method's own map, of entropy, and of the spread of mirrored passes."""
    heads = ("data", "runs", "Dice", "AUROC: own map", "entropy", "mirrored passes", "temperature")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, runs in found.items():
        known = [one["validation"] for one in runs]
        first = runs[0]
        cells = [name, f"{len(runs)}, {first['labelled']} masks, {first['steps']} steps"]
        cells += [_over_seeds([one["dice"] for one in known])]
        cells += [_over_seeds([one["maps"][kind]["auroc"] for one in known]) for kind in known[0]["maps"]]
        cells += [_over_seeds([one["calibration"]["temperature"] for one in known], ".2f")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _lines() -> list[str]:
    """Errors of each way to predict the Dice, by set and number of cases."""
    found = json.loads((RESULTS.parent / "predicted_dice.json").read_text())
    sets = list(dict.fromkeys(run.rsplit("-", 1)[0] for run in found))
    numbers = ("1", "3", "5", "8", "18")
    lines = [f"| data, way | {' | '.join(numbers)} |", f"|{' --- |' * (len(numbers) + 1)}"]
    for one in sets:
        runs = [values for run, values in found.items() if run.rsplit("-", 1)[0] == one]
        plain = fmean(run["1 - failure score"] for run in runs)
        lines.append(f"| {one}, 1 - failure score |{f' {plain:.3f} |' * len(numbers)}")
        for name in ("line through 1", "mean", "default", "free line", "within"):
            known = [[run[number].get(name) for run in runs] for number in numbers]
            cells = ["" if None in errors else f"{fmean(errors):.3f}" for errors in known]
            title = "new cases within the 90 % interval" if name == "within" else name
            lines.append(f"| {one}, {title} | {' | '.join(cells)} |")
    return lines


def _few() -> list[str]:
    """Log loss of the chance of an error, by set and number of cases."""
    found = json.loads((RESULTS.parent / "few_validation_cases.json").read_text())
    numbers = ("none", "1", "2", "5", "10", "20")
    lines = [f"| data | {' | '.join(numbers)} |", f"|{' --- |' * (len(numbers) + 1)}"]
    for name, one in found.items():
        cells = [f"{one[number][0]:.3f}" if number in one else "" for number in numbers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _share(scores: dict[str, Any], name: str) -> float:
    return float(scores[name]["excess_aurc"] / scores[BASE]["excess_aurc"])


WORTH: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Dice": lambda test: test["dice"],
    "AUROC of wrong voxels": lambda test: test["all"]["auroc"],
    "AUPR": lambda test: test["all"]["aupr"],
    "ECE near": lambda test: test["all"]["ece_near"],
    "Brier near": lambda test: test["all"]["brier_near"],
    "excess AURC": lambda test: test["scores"]["failure_score"]["excess_aurc"],
    "its share": lambda test: _share(test["scores"], "failure_score"),
    "Spearman": lambda test: test["scores"]["failure_score"]["spearman"],
    "AUROC of Dice < .8": lambda test: test["scores"]["failure_score"]["failure_auroc"],
    "predicted Dice off by": lambda test: test["predicted_dice"].get("mean_distance"),
    "within 90 % interval": lambda test: test["predicted_dice"].get("within"),
    "width": lambda test: test["predicted_dice"].get("mean_width"),
}


def _worth(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row a measure, a column a set."""
    heads = [f"{name} ({tests[0]['cases']})" for name, tests in found.items()]
    lines = [f"| test cases | {' | '.join(heads)} |", f"|{' --- |' * (len(heads) + 1)}"]
    for name, value in WORTH.items():
        lines.append(
            f"| {name} | {' | '.join(_over_seeds([value(one) for one in tests]) for tests in found.values())} |"
        )
    return lines


def _over_seeds(values: list[float | None], shown: str = ".3f") -> str:
    """Mean and standard deviation of the values there are."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return ""
    return format(fmean(known), shown) + (f" ± {stdev(known):{shown}}" if len(known) > 1 else "")
