"""Does pretraining on the own scans help, beside more training in the same time? hc18 at 112 px, validation cases.

    OMP_NUM_THREADS=1 python benchmarks/pretraining.py --data SCANS --work WORK --seeds 2

Each cell pretrains a U-Net on all training scans for some steps, or not at all, and then trains it supervised on few
labels. Finished cells are kept in benchmarks/results/pretraining; the same command goes on after them. A pretraining
counts with all of its time, though it serves every cell of its seed. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare import FLAT_PLAN, ucseg
from provenance import RESULTS, machine

FILE = RESULTS / "pretraining" / "hc18.json"
INIT = ("--fill-outlines", "--validation", "25%", "--test", "20%", "--seed", "0", "--overwrite")
CELLS = [("2%", 600, 300), ("2%", 0, 300), ("2%", 0, 900), ("5%", 600, 300), ("5%", 0, 300), ("5%", 0, 900)]
"""Labelled amount, steps of pretraining, steps of training. 600 + 300 and 900 take about the same time."""
# A step of pretraining has then as many images as one of supervised training.
HALVES = ("plan.labelled_batch=2", "plan.unlabelled_batch=2")
COMMON = ("precision=fp32", "method.networks=[unet]")


def timed(work: Callable[..., Any], *words: Any, **options: Any) -> tuple[Any, float]:
    """The result of a call, and its CPU seconds."""
    start = time.process_time()
    return work(*words, **options), time.process_time() - start


def shown(work: Path, scans: Path, amount: str) -> Path:
    """The dataset that shows so many masks; all have the plan of the one with the fewest."""
    from ucseg.comparison.datasets import labelled_amounts, write_amount
    from ucseg.dataset.manifest import load_dataset

    folder, whole = work / amount.replace("%", "pct"), work / "data"
    if not whole.exists():
        ucseg("init", scans, "--out", whole, *INIT)
    if not folder.exists():
        amounts, _ = labelled_amounts(load_dataset(whole), [amount])
        write_amount(amounts[0], work).rename(folder)
        ucseg("plan", folder, *(word for setting in FLAT_PLAN for word in ("--set", setting)))
    return folder


def cell(data: Path, work: Path, pretraining: int, steps: int, seed: int, name: str) -> dict[str, Any]:
    """Train a cell; its figures."""
    import ucseg
    from ucseg.training.run_folder import RunFolder

    found: dict[str, Any] = {"cpu_seconds": 0.0}
    start = None
    if pretraining:
        start, known = work / f"pre-{pretraining}-{seed}", work / f"pre-{pretraining}-{seed}.json"
        if not known.exists():
            options = {"steps": pretraining, "seed": seed, "workers": 0, "set": [*COMMON, *HALVES]}
            _, seconds = timed(ucseg.pretrain, data, out=start, **options)
            error = RunFolder(start).metrics()[-1]["reconstruction_unet"]
            known.write_text(json.dumps({"cpu_seconds": seconds, "error of hidden voxels": error}))
        found = json.loads(known.read_text())
    result, seconds = timed(
        ucseg.train, data, out=work / "runs" / name, method="supervised", steps=steps, seed=seed, workers=0, init=start,
        set=[*COMMON, f"validate_every={steps}"],
    )  # fmt: skip
    return {**found, "cpu_seconds": round(found["cpu_seconds"] + seconds, 1), "last": result.last}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    kept = json.loads(FILE.read_text())["cells"] if FILE.exists() else {}
    for seed in range(words.seeds):
        for amount, pretraining, steps in CELLS:
            name = f"{amount.replace('%', 'pct')}-{pretraining}-{steps}-{seed}"
            if name in kept:
                continue
            data = shown(words.work.absolute(), words.data, amount)
            known = {"labelled": amount, "pretraining": pretraining, "training": steps, "seed": seed}
            kept[name] = known | cell(data, words.work.absolute(), pretraining, steps, seed, name) | machine()
            command = f"python benchmarks/pretraining.py --data hc18 --seeds {words.seeds}"
            FILE.parent.mkdir(exist_ok=True)
            FILE.write_text(json.dumps({"command": command, "cells": kept}, indent=1) + "\n")
            sys.stdout.write(f"{name}: {kept[name]['last']}\n")


if __name__ == "__main__":
    main()
