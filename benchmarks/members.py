"""Test Dice of both networks of a run of cross teaching, each by itself, and of their mean.

    OMP_NUM_THREADS=1 python benchmarks/members.py DATASET RUN [RUN ...] --out benchmarks/results/members_kvasir.json

DATASET is the one with all masks that the runs were compared on (WORK/data of compare.py), RUN a folder in
WORK/comparison/runs. Last weights; a subject counts with the mean over its cases, a case with that over its classes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from study import machine
from ucseg.comparison.datasets import OWN_TEST, cohort
from ucseg.dataset.masks import read_label
from ucseg.evaluation.metrics import case_metrics
from ucseg.inference.predictor import Predictor
from ucseg.scans.formats import read_scan


def dice_of_members(run: Path, dataset: Path) -> dict[str, float]:
    """Name of a network, or "mean" -> mean Dice of the test cases."""
    tests = cohort(OWN_TEST, dataset)
    predictor = Predictor.from_run(run, "last", "cpu")
    # Whatever the method's own prediction is.
    predictor.method.config = predictor.method.config.model_copy(update={"predict_with": "mean"})
    classes = predictor.plan.classes
    rows = []
    for case in tests.cases:
        assert case.mask is not None
        scan = read_scan(case.image)
        predicted = predictor.predict_scan(scan, members=True)
        reference = tests.to_model(read_label(case.mask, scan.array.shape[1:], tests.dataset.config), classes)
        for name, mask in {"mean": predicted.mask, **predicted.members}.items():
            found = case_metrics(mask, reference, classes, scan.geometry.spacing, 2.0)
            rows.append((name, case.subject, case.case, np.nanmean([one["dice"] for one in found])))
    table = pd.DataFrame(rows, columns=["network", "subject", "case", "dice"])
    by_subject = table.groupby(["network", "subject"])["dice"].mean()
    return {str(name): round(float(value), 4) for name, value in by_subject.groupby("network").mean().items()}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    found = {run.name: dice_of_members(run, words.dataset) for run in words.runs}
    command = f"python benchmarks/members.py WORK/data {' '.join(f'WORK/comparison/runs/{name}' for name in found)}"
    words.out.write_text(json.dumps({"command": command, **machine(), "dice": found}, indent=1) + "\n")
    print(found)


if __name__ == "__main__":
    main()
