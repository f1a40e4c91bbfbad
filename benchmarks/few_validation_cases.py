"""Is a calibration from one or a few validation cases better than none?

    OMP_NUM_THREADS=1 python benchmarks/few_validation_cases.py --data DATA --run RUN --name NAME

Half of the validation cases measure. Of the others K are drawn, many times, for the calibration. The figures are means
over the draws, of voxels near the structure: log loss of the chance that a voxel is wrong, and of the probabilities.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from provenance import RESULTS, machine
from ucseg.inference import calibration as calibrating
from ucseg.types import Array

KS = (1, 2, 3, 5, 8, 10, 20, 40)
DRAWS = 40


def records_of(run: Path, data: Path) -> list[calibrating.CaseRecord]:
    """Of every validation case, with mirrored prediction, by the last weights."""
    from ucseg.batches.prepare import prepare
    from ucseg.dataset.manifest import load_dataset
    from ucseg.inference.predictor import Predictor
    from ucseg.inference.validation import validation_dice

    predictor = Predictor.from_run(run, "last", "cpu", precision="fp32")
    cases = prepare(load_dataset(data), predictor.plan, None, 1, progress=False).validation
    found: list[calibrating.CaseRecord] = []
    validation_dice(predictor.method, predictor.plan, cases, "fp32", mirror=True, records=found)
    return found


def measured(records: list[calibrating.CaseRecord], found: calibrating.Calibration | None) -> tuple[float, float]:
    """Log loss of the chance of an error and of the probabilities; mean over cases."""
    rows = []
    for one in records:
        if not one.label.size:
            continue
        chance = one.uncertainty if found is None else found.chance_of_error(one.uncertainty)
        chance = np.clip(chance.astype(np.float64), 1e-6, 1 - 1e-6)
        probabilities = one.probabilities.copy() if found is None else found.soften(one.probabilities.copy())
        own = np.take_along_axis(probabilities, one.label[None].astype(np.int64), axis=0)[0]
        wrong = -np.where(one.wrong, np.log(chance), np.log1p(-chance))
        rows.append((wrong.mean(), -np.log(np.maximum(own, 1e-6)).mean()))
    of_errors, of_probabilities = np.mean(rows, axis=0)
    return float(of_errors), float(of_probabilities)


def study(records: list[calibrating.CaseRecord]) -> dict[str, Any]:
    """Figures without calibration, and with one of K cases."""
    random = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {"none": []}
    for _ in range(DRAWS):
        order = random.permutation(len(records))
        test, pool = ([records[i] for i in part] for part in np.array_split(order, 2))
        found["none"].append(measured(test, None))
        for k in (k for k in KS if k <= len(pool)):
            found.setdefault(str(k), []).append(measured(test, calibrating.calibrate(pool[:k], "", mirror=True)))
    return {k: np.mean(values, axis=0).round(4).tolist() for k, values in found.items()}


def thinned(records: list[calibrating.CaseRecord], most: int = 1500) -> list[calibrating.CaseRecord]:
    """Fewer voxels of each case, for speed."""

    def some(values: Array) -> Array:
        return values[..., :: max(1, values.shape[-1] // most)]

    return [
        calibrating.CaseRecord(
            some(r.probabilities), some(r.uncertainty), some(r.label), some(r.wrong), r.score, r.dice
        )
        for r in records
    ]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    words = parser.parse_args()
    records = thinned(records_of(words.run, words.data))
    file = RESULTS / "few_validation_cases.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[words.name] = {**machine(), "cases": len(records), **study(records)}
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
