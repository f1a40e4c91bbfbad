"""New masks have come: how many steps does `train --init RUN` need for the Dice that a training from scratch reaches?

    OMP_NUM_THREADS=1 python benchmarks/warm_start.py hc18 --data DATASET --work WORK --seeds 2

DATASET, of `ucseg init`, has all masks. RUN is trained on three cases. Then twelve more have masks, of a pool of 80.
Each cell trains on these fifteen, from scratch or from RUN, for the steps after its @, and measures the last weights on
the validation cases, without mirrors. Cells are kept in benchmarks/results/warm_start; the same command goes on after
them. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from label_next import SETS, plan_of, shown
from provenance import RESULTS, machine

KEPT = RESULTS / "warm_start"
POOL, FIRST, LATER = 80, 3, 15
SCRATCH = {"hc18": 450, "hippocampus": 300}
"""Steps of RUN, and from scratch."""
# The schedule for random weights, and what is changed of it.
AS_SCRATCH = {
    "small_first": 0.7, "lr": 0.03, "method.unlabelled_start": 0.4, "method.mixing_start": 0.1,
    "method.lambda_ramp": 0.2,
}  # fmt: skip
UNLABELLED = {"method.unlabelled_start": 0, "method.mixing_start": 0, "method.lambda_ramp": 0}
VARIANTS: dict[str, dict[str, float]] = {
    "as-scratch": {},
    "full-size": {"small_first": 0},
    "slow": {"small_first": 0, "lr": 0.01},
    "slow-small": {"lr": 0.01},
    "unlabelled": {"small_first": 0, **UNLABELLED},
    "unlabelled-slow": {"small_first": 0, "lr": 0.01, **UNLABELLED},
}


def cell(name: str, variant: str, steps: int, seed: int, source: Path, work: Path) -> dict[str, Any]:
    """Train and measure; the cell's figures."""
    from ucseg.batches.prepare import prepare
    from ucseg.dataset.manifest import load_dataset
    from ucseg.inference.validation import validation_dice
    from ucseg.randomness import numpy_generator
    from ucseg.training.checkpoint import load_method

    full = load_dataset(source)
    names = sorted(case.case for case in full.training if case.mask is not None)
    pool = [names[i] for i in numpy_generator(seed, "pool").permutation(len(names))[:POOL]]
    base, cache = work / f"first-{seed}", work / "cache"
    plan = plan_of(full, pool, base, SETS[name], set(pool[:FIRST]))
    validation = prepare(full, plan, cache, 1, False).validation
    first = base / "uc_seg"
    if not (first / "last.json").exists():
        train(base / "data", base / "data" / "plan.yaml", first, SCRATCH[name], seed, cache, ())
    later = work / f"later-{seed}"
    shown(full, pool, set(pool[:LATER]), later)
    start = time.process_time()
    run = work / "warm" / f"{variant}@{steps}-{seed}"
    changed = {} if variant == "scratch" else VARIANTS[variant]
    more = tuple(f"{key}={value:g}" for key, value in (AS_SCRATCH | changed).items())
    more += () if variant == "scratch" else (f"init={first}",)
    train(later, base / "data" / "plan.yaml", run, steps, seed + 100, cache, more)
    seconds = time.process_time() - start
    method, plan, _ = load_method(run)
    before, plan, _ = load_method(first)
    return {
        "changed": changed,
        "cpu_seconds": round(seconds, 1),
        "dice": validation_dice(method, plan, validation, "fp32")["dice"],
        "dice_of_first": validation_dice(before, plan, validation, "fp32")["dice"],
    }


def train(data: Path, plan: Path, run: Path, steps: int, seed: int, cache: Path, more: tuple[str, ...]) -> None:
    """Train UC-Seg in this process, with the plan of the first cases."""
    import ucseg

    words = ["precision=fp32", f"validate_every={steps}", *more]
    resume = (run / "config.json").exists()
    ucseg.train(data, out=run, steps=steps, seed=seed, workers=0, cache=cache, plan=plan, set=words, resume=resume)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="dataset with all masks")
    parser.add_argument("--work", type=Path, required=True, help="folder for datasets and runs")
    parser.add_argument("--variants", required=True, help="scratch@450,slow@150,...")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    words = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    for seed in range(words.first_seed, words.seeds):
        for name in words.variants.split(","):
            file = KEPT / f"{words.set}-{name}-{seed}.json"
            if not file.exists():
                variant, steps = name.split("@")
                work = words.work.absolute() / words.set
                found = cell(words.set, variant, int(steps), seed, words.data.absolute(), work)
                known = {"set": words.set, "variant": variant, "steps": int(steps), "seed": seed, **machine()}
                file.write_text(json.dumps({**known, **found}, indent=1) + "\n")
                print(name, seed, found, flush=True)


if __name__ == "__main__":
    main()
