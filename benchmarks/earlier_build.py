"""How long an earlier version of ucseg takes to a Dice: one run of its `uc_seg` with its own defaults.

    git worktree add --detach EARLIER 918fd4a
    OMP_NUM_THREADS=1 python benchmarks/earlier_build.py kvasir --build EARLIER --work WORK --steps 800 --seed 0

WORK is that of `benchmarks/compare.py kvasir_time` after its first run: cases, masks and image size are those of that
study. All else is the earlier version's own: networks, augmentation, learning rate, schedule. Its clock is replaced by
the CPU seconds of its process. Its validation curve goes to results/time_to_dice/SET, as [CPU seconds, step, Dice].
On a slower machine than that of the study's runs, `--slower R` divides the seconds by R, as in `compare.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from provenance import RESULTS, machine

KNOWN = ("channels", "classes", "dims", "fill_outlines", "mask_threshold", "modality", "name", "root", "seed")
"""What the earlier version knows of dataset.yaml."""

FLAT_PLAN = ("plan.size=96", "plan.strides=null", "plan.labelled_batch=4", "plan.unlabelled_batch=4")
SETS = {
    "hc18": ("5pct", FLAT_PLAN),
    "isic": ("5pct", FLAT_PLAN),
    "kvasir": ("10pct", FLAT_PLAN),
    "hippocampus": (
        "5pct",
        ("plan.patch=[32,48,32]", "plan.strides=null", "plan.labelled_batch=2", "plan.unlabelled_batch=2"),
    ),
}
"""Amount of labels and plan of the studies."""


def as_then(dataset: Path, copy: Path) -> Path:
    """A copy of a data set whose dataset.yaml has only what the earlier version knows."""
    shutil.copytree(dataset, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cache", "plan.yaml"))
    settings = yaml.safe_load((dataset / "dataset.yaml").read_text())
    (copy / "dataset.yaml").write_text(yaml.safe_dump({key: settings[key] for key in KNOWN}))
    return copy


def curve(build: Path, study: Path, name: str, run: Path, steps: int, seed: int) -> list[list[Any]]:
    """Train with the package in `build`; its validations."""
    labelled, plan = SETS[name]
    sys.path.insert(0, str(build / "src"))
    package = importlib.import_module("ucseg")
    if not Path(package.__file__ or "").is_relative_to(build):
        sys.exit(f"{package.__file__}: is not the ucseg of {build}; start python without another one on its path.")
    trainer = importlib.import_module("ucseg.training.trainer")
    vars(trainer)["time"] = SimpleNamespace(monotonic=time.process_time, perf_counter=time.perf_counter)
    shutil.rmtree(run, ignore_errors=True)
    data = as_then(study / "datasets" / labelled, run.with_name(f"{run.name}-data"))
    package.train(data, out=run, steps=steps, seed=seed, workers=0, precision="fp32", set=list(plan))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[one["seconds"], one["step"], round(one["validation"]["dice"], 5)] for one in lines if "validation" in one]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--build", type=Path, required=True, help="checkout of the earlier version")
    parser.add_argument("--work", type=Path, required=True, help="folder of the study of equal time")
    parser.add_argument("--steps", type=int, required=True, help="that take as long as the study's runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1.0, help="how many times as long a supervised step takes here")
    words = parser.parse_args()
    work, build = words.work.absolute(), words.build.absolute()
    name = f"earlier-{words.seed}"
    found = curve(build, work / "comparison", words.set, work / name, words.steps, words.seed)
    file = RESULTS / "time_to_dice" / words.set / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    found = [[seconds / words.slower, step, dice] for seconds, step, dice in found]
    known = {"build": build.name, "seed": words.seed, "steps": words.steps, "slower": words.slower, **machine()}
    file.write_text(json.dumps(known | {"curve": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
