"""Dice of a trained run by size and overlap of the windows: whether quicker prediction costs any.

    python benchmarks/windows.py RUN DATASET --cases 20

Mean foreground Dice on the network's grid of evenly picked validation and test cases, and differences case by case
from the default windows. Adds its row to benchmarks/results/predict_windows.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from predict import spread
from ucseg.data.formats import read_scan
from ucseg.data.manifest import load_dataset
from ucseg.data.masks import read_label
from ucseg.data.preprocess import label_to_network_grid, to_network_grid
from ucseg.inference.predictor import GROWTH, OVERLAP, Predictor
from ucseg.inference.validation import foreground_dice

WAYS = {
    "defaults": (GROWTH, OVERLAP),
    "overlap 0.25": (1.0, 0.25),
    "growth 1.25": (1.25, 0.5),
    "growth 1.5": (1.5, 0.5),
}


def main() -> None:
    """See the module's docstring."""
    from study import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "predict_windows.json")
    words = parser.parse_args()
    dataset = load_dataset(words.dataset)
    predictors = {
        name: Predictor.from_run(words.run, device="cpu", growth=growth, overlap=overlap)
        for name, (growth, overlap) in WAYS.items()
    }
    plan = predictors["defaults"].plan
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    cases = dataset.test + dataset.validation
    shapes = []
    for case in cases[:: -(-len(cases) // words.cases)]:
        assert case.mask is not None
        scan = read_scan(case.image)
        image, grid = to_network_grid(scan, plan)
        label = read_label(case.mask, scan.array.shape[1:], dataset.config, scan.geometry)
        reference = label_to_network_grid(label, grid)
        shapes.append(grid.shape)
        for name, predictor in predictors.items():
            answer, _ = predictor.predict_prepared(image)
            found[name].append(float(np.nanmean(foreground_dice(answer, reference, len(plan.classes)))))
    row = {
        "run": words.run.name,
        "patch": plan.patch,
        "median_scan": np.median(shapes, axis=0).tolist(),
        "cases": len(shapes),
        "dice": {name: round(float(np.mean(values)), 4) for name, values in found.items()},
        "minus_defaults": {
            name: spread(np.array(found[name]) - np.array(found["defaults"])) for name in WAYS if name != "defaults"
        },
    }
    print(row)
    rows = json.loads(words.out.read_text())["rows"] if words.out.exists() else []
    command = f"python benchmarks/windows.py RUN DATASET --cases {words.cases}"
    words.out.write_text(json.dumps({"command": command, **machine(), "rows": [*rows, row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
