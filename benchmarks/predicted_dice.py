"""Which line from failure score to Dice predicts new cases best, after N validation cases?

    python benchmarks/predicted_dice.py

From the scores that are kept: of each run in results/uncertainty N validation cases are drawn, many times, and the
others are predicted. Figures are mean absolute errors of the Dice: of a free line, of a line through Dice 1 at score 0,
of the mean Dice, of the default, and of 1 - failure score itself. "within" is the share of new cases in the 90 %
interval that `ucseg train` would keep.
"""

from __future__ import annotations

import json

import numpy as np

from provenance import RESULTS
from ucseg.inference.calibration import CaseRecord, calibrate

NUMBERS = (1, 2, 3, 5, 8, 12, 18, 30, 50)
DRAWS = 200


def errors(score: np.ndarray, dice: np.ndarray, number: int, random: np.random.Generator) -> dict[str, float]:
    """Mean absolute errors on the cases that were not drawn."""
    found: dict[str, list[float]] = {"free line": [], "line through 1": [], "mean": [], "default": []}
    for _ in range(DRAWS):
        order = random.permutation(len(score))
        known, new = order[:number], order[number:]
        whole = {"mean": np.full(len(score), dice[known].mean())}
        whole["line through 1"] = np.clip(1 - (1 - dice[known]).sum() / max(1e-6, score[known].sum()) * score, 0, 1)
        said = {name: values[new] for name, values in whole.items()}
        far = {name: np.abs(values - dice)[known].sum() for name, values in whole.items()}
        said["default"] = said["mean" if far["mean"] < far["line through 1"] / 2 else "line through 1"]
        if number > 2:
            slope, intercept = np.polyfit(1 - score[known], dice[known], 1)
            said["free line"] = intercept + slope * (1 - score[new]) if slope > 0 else said["mean"]
        for name, values in said.items():
            found[name].append(float(np.abs(np.clip(values, 0, 1) - dice[new]).mean()))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}


def within(score: np.ndarray, dice: np.ndarray, number: int, random: np.random.Generator) -> float:
    """Share of the cases that were not drawn whose Dice lies in the interval; mean over the draws."""
    nothing = np.zeros((2, 1), np.float32), np.zeros(1, np.float32), np.zeros(1, np.uint8), np.zeros(1, bool)
    shares = []
    for _ in range(DRAWS):
        order = random.permutation(len(score))
        records = [CaseRecord(*nothing, float(score[i]), float(dice[i])) for i in order[:number]]
        found = calibrate(records, "", mirror=True)
        assert found is not None and found.dice is not None
        ends = [found.dice.of(float(score[i]))[1:] for i in order[number:]]
        shares.append(np.mean([low <= dice[i] <= high for i, (low, high) in zip(order[number:], ends, strict=True)]))
    return round(float(np.mean(shares)), 4)


def main() -> None:
    """See the module's docstring."""
    table = {}
    for file in sorted((RESULTS / "uncertainty").glob("*.json")):
        rows = json.loads(file.read_text())["validation"]["cases"]
        pairs = np.array([(row["failure_score"], row["dice"]) for row in rows], float)
        score, dice = pairs[~np.isnan(pairs).any(axis=1)].T
        random = np.random.default_rng(0)
        table[file.stem] = {"1 - failure score": round(float(np.abs(1 - score - dice).mean()), 4)}
        for number in (number for number in NUMBERS if number < len(score) - 5):
            known = errors(score, dice, number, random)
            known |= {"within": within(score, dice, number, random)} if number >= 18 else {}
            table[file.stem][str(number)] = known
    (RESULTS / "predicted_dice.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
