"""Dice of trained runs by the windows of prediction: whether quicker ones cost any.

    python benchmarks/windows.py RUN DATASET --cases 20

Mean foreground Dice on the network's grid of evenly picked validation cases, and differences case by case. Compared
are our windows as they are, quicker ones, and the authors' dense loop (see predict.py; fp32, with strides in the same
proportion to the run's patch). Adds its row to
benchmarks/results/predict_windows.json, or replaces that of the same run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from predict import STRIDE, WINDOW, dense_loop
from ucseg.batches.preprocess import label_to_network_grid, to_network_grid
from ucseg.dataset.manifest import load_dataset
from ucseg.dataset.masks import read_label
from ucseg.inference.disagreement import foreground_dice
from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import GROWTH, OVERLAP
from ucseg.methods.uc_seg import UCSeg
from ucseg.scans.reading import read_scan
from ucseg.training.checkpoint import load_method

LOOP, DEFAULTS = "loop", "defaults"
WAYS = {
    DEFAULTS: (GROWTH, OVERLAP),
    "growth 1": (1.0, OVERLAP),
    "growth 1.1": (1.1, OVERLAP),
    "overlap 0.25": (GROWTH, 0.25),
    "growth 1.25": (1.25, OVERLAP),
    "growth 1.5": (1.5, OVERLAP),
}


def spread(difference: np.ndarray) -> dict[str, float]:
    """Of paired differences over cases."""
    return {
        "mean": round(float(difference.mean()), 5),
        "standard_error": round(float(difference.std(ddof=1) / len(difference) ** 0.5), 5),
        "lowest": round(float(difference.min()), 4),
        "highest": round(float(difference.max()), 4),
    }


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--made-by", action="append", default=[], help="a command that made the run, for the file")
    parser.add_argument("--out", type=Path, default=RESULTS / "predict_windows.json")
    words = parser.parse_args()
    dataset = load_dataset(words.dataset)
    predictors = {
        name: Predictor.from_run(words.run, device="cpu", growth=growth, overlap=overlap, mirror=False)
        for name, (growth, overlap) in WAYS.items()
    }
    plain, plan, _ = load_method(words.run, "last")
    assert isinstance(plain, UCSeg)
    plain.eval()
    stride = [max(1, round(edge * s / w)) for edge, s, w in zip(plan.patch, STRIDE, WINDOW, strict=True)]
    found: dict[str, list[float]] = {name: [] for name in (LOOP, *WAYS)}
    cases = [case for case in dataset.validation if case.mask is not None]
    shapes = []
    for case in cases[:: -(-len(cases) // words.cases)]:
        assert case.mask is not None
        scan = read_scan(case.image)
        image, grid = to_network_grid(scan, plan)
        label = read_label(case.mask, scan.array.shape[1:], dataset.config, scan.geometry)
        reference = label_to_network_grid(label, grid)
        shapes.append(image.shape[1:])
        dense = dense_loop(plain, torch.from_numpy(image), plan.patch, stride, None).numpy().astype(np.uint8)
        answers = {LOOP: predictors[DEFAULTS].keep_components(dense)}
        answers |= {name: predictor.predict_prepared(image)[0] for name, predictor in predictors.items()}
        for name, answer in answers.items():
            found[name].append(float(np.nanmean(foreground_dice(answer, reference, len(plan.classes)))))
    values = {name: np.array(dice) for name, dice in found.items()}
    row = {
        "run": words.run.name,
        "made_by": words.made_by,
        "command": f"python benchmarks/windows.py RUN DATASET --cases {words.cases}",
        **machine(),
        "patch": plan.patch,
        "stride_of_loop": stride,
        "median_scan": np.median(shapes, axis=0).tolist(),
        "validation_cases": len(shapes),
        "dice": {name: round(float(dice.mean()), 4) for name, dice in values.items()},
        "minus_loop": {name: spread(values[name] - values[LOOP]) for name in WAYS},
        "minus_defaults": {name: spread(values[name] - values[DEFAULTS]) for name in WAYS if name != DEFAULTS},
    }
    print(row)
    rows = json.loads(words.out.read_text())["rows"] if words.out.exists() else []
    rows = [one for one in rows if one["run"] != row["run"]]
    words.out.write_text(json.dumps({"rows": [*rows, row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
