"""A plan that fits by itself against a hand-set one: the same cases, labels, method, seed and time.

    OMP_NUM_THREADS=1 python benchmarks/self_planned.py hippocampus --data SCANS --work WORK     # or kvasir, hc18, isic

The hand-set run is that of benchmarks/compare.py (its cell in benchmarks/results/compare): a plan and training settings
that were tried out before. The self-planned one is trained without any setting but its time: `ucseg plan DATASET
--hours H` chooses, from the training images, the visible labels and the time of a step, what is seen at which size, how
many at once and for how many steps. H is what the hand-set plan's steps and validations take, measured just before in
the same process: both have the same time on the same machine. (Without --hours a plan is for 50,000 steps of the
paper's batch: days on a processor.)

Test cases give the numbers and choose nothing. --plan-only stops before training. Runs are kept in WORK and can be
stopped and resumed; what came out is added to benchmarks/results/self_planned.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from compare import RESULTS, STUDIES
from study import ucseg
from ucseg.config import parse_overrides
from ucseg.dataset.manifest import load_dataset
from ucseg.evaluation.evaluate import Settings, evaluate_folder
from ucseg.inference.machine import ThisMachine
from ucseg.planning.budget import VALIDATIONS
from ucseg.planning.choosing import plan_with_reasons
from ucseg.planning.plan import write_plan
from ucseg.scans.formats import read_header
from ucseg.training.environment import environment
from ucseg.training.settings import TrainConfig

AMOUNT = {"hippocampus": "5%", "kvasir": "10%", "hc18": "5%", "isic": "5%"}
KEPT = RESULTS.parent / "self_planned.json"
TOLERANCE = 0.01
"""By which a plan of our own choice may stay behind."""
_CASE, _CLASS, _DICE = 2, 4, 6
"""Columns of a cell's rows."""


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=AMOUNT)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan-only", action="store_true")
    words = parser.parse_args()
    name, amount, seed = words.study, AMOUNT[words.study], words.seed
    cell = json.loads((RESULTS / name / "cells" / f"uc_seg-{amount.rstrip('%')}pct-seed{seed}.json").read_text())
    dataset, run = words.work.absolute() / f"{name}-seen", words.work.absolute() / f"{name}-seed{seed}"
    if not (dataset / "dataset.yaml").exists():
        ucseg("init", words.data, "--out", dataset, *STUDIES[name].init, "--labelled", amount, "--seed", "0")
    if not (dataset / "time.json").exists():
        plan_in_equal_time(dataset, STUDIES[name].plan, cell["training"]["last"]["step"])
    if words.plan_only:
        return
    resume = ["--resume"] if (run / "config.json").exists() else []
    ucseg("train", dataset, "--out", run, "--seed", seed, "--workers", "0", *resume)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own = {
        "seconds": log[-1]["seconds"],
        "steps": log[-1]["step"],
        "plan": yaml.safe_load((run / "plan.yaml").read_text()),
    }
    result: dict[str, Any] = {
        "labelled": amount,
        "seed": seed,
        "time": json.loads((dataset / "time.json").read_text()),
        "environments": {"self": environment(), "hand": cell["environment"]},
    }
    hand = {
        "seconds": cell["training"]["seconds"],
        "steps": cell["training"]["last"]["step"],
        "plan": list(STUDIES[name].plan),
    }
    for weights in ("last", "best"):
        predictions = words.work.absolute() / f"{name}-seed{seed}-{weights}"
        ucseg("predict", run, dataset, "--out", predictions, "--checkpoint", weights, "--resume")
        found = evaluate_folder(predictions, dataset, Settings(split="test"))
        ours = {(case.case, row["name"]): row["dice"] for case in found.cases for row in case.rows}
        theirs = {
            (r[_CASE], r[_CLASS]): r[_DICE] for r in cell["tests"]["test"]["rows"] if r[1] == weights and not r[0]
        }
        if ours.keys() != theirs.keys():
            raise SystemExit(f"{name}: the two runs were not evaluated on the same cases and classes.")
        # Undefined (NaN) where both runs rightly left a class out.
        both = np.array([(ours[key], theirs[key]) for key in ours], dtype=float)
        both = both[np.isfinite(both).all(axis=1)]
        own[f"dice_{weights}"], hand[f"dice_{weights}"] = both.mean(axis=0).round(4).tolist()
        apart = both[:, 0] - both[:, 1]
        result[f"difference_{weights}"] = {
            "mean": round(float(apart.mean()), 4),
            "standard_error": round(float(apart.std(ddof=1) / len(apart) ** 0.5), 4),
        }
    result |= {"self": own, "hand": hand, "within": result["difference_last"]["mean"] >= -TOLERANCE}
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[f"{name}-seed{seed}"] = result
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key not in ("self", "hand")}))


def plan_in_equal_time(dataset: Path, settings: Sequence[str], steps: int) -> None:
    """Write plan.yaml for the time that `steps` of the hand-set plan take, and time.json with what that is made of."""
    data = load_dataset(dataset)
    machine = ThisMachine("uc_seg", {}, TrainConfig(), len(data.validation))
    hand = plan_with_reasons(data, overrides=parse_overrides(list(settings))).plan
    step = machine.step(hand.problem, hand.labelled_batch).seconds
    shapes = [read_header(case.image)[0] for case in data.validation]
    shape = hand.size or tuple(np.median(shapes, axis=0).astype(int).tolist())
    validation = machine.validation_seconds(hand, shape)
    hours = (steps * step + VALIDATIONS * validation) / 0.95 / 3600  # the inverse of `steps_in`
    planned = plan_with_reasons(data, machine=machine, hours=hours)
    write_plan(planned.plan, dataset / "plan.yaml", planned.reasons)
    found = {
        "hours": round(hours, 4),
        "hand_step": round(step, 3),
        "hand_validation": round(validation, 3),
        "self_step": round(planned.cost.seconds, 3) if planned.cost else None,
    }
    (dataset / "time.json").write_text(json.dumps(found))
    print(planned.plan.patch, planned.plan.labelled_batch, planned.plan.steps, found)


if __name__ == "__main__":
    main()
