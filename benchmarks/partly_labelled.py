"""A few slices of many scans, or all slices of few scans? Hippocampus, validation cases.

    OMP_NUM_THREADS=1 python benchmarks/partly_labelled.py --data SCANS --work WORK --seeds 2

Each arm shows training other masks: three slices of 27 scans, all slices of nine of these scans, or all slices of two
of them, which are about as many slices as the three of 27. The three slices lie at a quarter, a half and three quarters
of each scan ("middle"), or a third of the scan apart from a random start ("spread"). All other training scans are
unlabelled. Arms of a seed have the same plan, steps and validation cases. Finished cells are kept in
benchmarks/results/partly_labelled; the same command goes on after them. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from compare import HIPPOCAMPUS, HIPPOCAMPUS_PLAN, ucseg
from provenance import RESULTS, machine

FOLDER = RESULTS / "partly_labelled"
ARMS = {
    "27 scans, 3 spread slices": (27, "spread"),
    "2 scans": (2, ""),
    "9 scans": (9, ""),
    "27 scans, 3 middle slices": (27, "middle"),
}
"""Labelled scans, and which three slices of each are; "": all."""
STEPS = {"supervised": 450, "uc_seg": 200}
COMMON = ("precision=fp32",)


def shown(work: Path, arm: str, seed: int) -> tuple[Path, int]:
    """The dataset of an arm, and how many slices it shows."""
    from ucseg.dataset.manifest import Dataset, load_dataset, save_dataset
    from ucseg.dataset.slices import Slices
    from ucseg.randomness import numpy_generator
    from ucseg.scans.reading import read_header

    whole = load_dataset(work / "data")
    scans, which = ARMS[arm]
    names = sorted(case.case for case in whole.labelled)
    chosen = set(numpy_generator(seed, "partly labelled", 0).permutation(names)[:scans].tolist())
    cases, count = [], 0
    for case in whole.training:
        if case.case not in chosen:
            cases.append(replace(case, mask=None))
            continue
        depth = read_header(case.image)[0][2]
        first = 1 / 4 if which == "middle" else float(numpy_generator(seed, case.case, 1).random()) / 3
        apart = 1 / 4 if which == "middle" else 1 / 3
        numbers = tuple(min(depth - 1, round((first + apart * k) * depth)) for k in range(3))
        slices = Slices(2, numbers) if which else None
        count += 3 if which else depth
        cases.append(replace(case, slices=slices))
    folder = work / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    config = whole.config.model_copy(update={"root": str(whole.root)})
    folder.mkdir(exist_ok=True)
    save_dataset(Dataset(folder, config, [*cases, *whole.validation]))
    return folder, count


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    work = words.work.absolute()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (work / "data").exists():
        ucseg("init", words.data, "--out", work / "data", *HIPPOCAMPUS)
    for seed in range(words.seeds):
        for method, steps in STEPS.items():
            for arm in ARMS:
                file = FOLDER / f"{method}-{arm.replace(', ', '-').replace(' ', '-')}-{seed}.json"
                if not file.exists():
                    cell = {"method": method, "arm": arm, "seed": seed, "steps": steps}
                    cell |= measured(work, arm, seed, method, steps) | machine()
                    cell["command"] = f"python benchmarks/partly_labelled.py --data hippocampus --seeds {words.seeds}"
                    file.write_text(json.dumps(cell, indent=1) + "\n")
                    sys.stdout.write(f"{file.stem}: {cell['last']}\n")


def measured(work: Path, arm: str, seed: int, method: str, steps: int) -> dict[str, Any]:
    """Train a cell; its figures on the validation cases."""
    import ucseg as package

    data, slices = shown(work, arm, seed)
    plan = work / f"plan-{seed}.yaml"
    if not plan.exists():  # of nine whole scans: the facts of a plan that partly labelled ones do not tell
        from_whole, _ = shown(work, "9 scans", seed)
        ucseg("plan", from_whole, *(word for setting in HIPPOCAMPUS_PLAN for word in ("--set", setting)))
        shutil.copy(from_whole / "plan.yaml", plan)
    start = time.process_time()
    run = work / "runs" / f"{data.name}-{method}"
    shutil.rmtree(run, ignore_errors=True)  # of a try that was stopped
    result = package.train(
        data, out=run, method=method, steps=steps, seed=seed, workers=0, plan=plan, cache=work / "cache",
        set=[*COMMON, f"validate_every={steps}"],
    )  # fmt: skip
    return {
        "labelled slices": slices,
        "cpu_seconds": round(time.process_time() - start, 1),
        "last": result.last,
    }


if __name__ == "__main__":
    main()
