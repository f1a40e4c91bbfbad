"""UC-Seg against supervised baselines and the ceiling, on real data: same cases, same steps, same augmentation.

    python benchmarks/study.py isic --data ../shared/data/isic --work /tmp/isic-study

Every cell (method, labels, seed) trains, predicts the test cases with its last and its best-on-validation weights, and
is evaluated, all through the package's own verbs. Finished cells are kept in --work, so the command can be stopped
and given again. After each cell the results so far are written to benchmarks/results/STUDY.json.

The split and the choice of labelled cases are those of `ucseg init --seed 0`; seeds are of training. The supervised
baselines U-Net and V-Net are trained side by side in one run without seeing each other, and their mean is the third.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.evaluation.evaluate import Settings, evaluate_folder

RESULTS = Path(__file__).parent / "results"
METRICS = ("dice", "jaccard", "hd95", "assd", "surface_dice")
SUPERVISED = ["--method", "supervised", "--set", "method.networks=[unet,vnet]"]


@dataclass(frozen=True)
class Study:
    """What is run: `init` and `plan` are options of the verbs, `train` settings common to every method."""

    init: tuple[str, ...]
    plan: tuple[str, ...]
    labelled: tuple[str, ...]
    seeds: int
    steps: int
    train: tuple[str, ...] = ()


STUDIES = {
    "hippocampus": Study(
        ("--classes", "1=anterior,2=posterior", "--modality", "mri", "--validation", "20", "--test", "60"),
        # Anterior and posterior are told apart by where they lie: turns and flips along that axis would hide it.
        (
            *("patch=[32,48,32]", "strides=null", "labelled_batch=2", "unlabelled_batch=2"),
            *("augmentation.rotate90=0", "augmentation.flip_axes=[0]"),
        ),
        ("5%", "10%"),
        seeds=3,
        steps=600,
        train=("lr=0.03", "validate_every=200"),  # V-Net has no norm and learns nothing in 300 steps at 0.01
    ),
    "isic": Study(
        ("--validation", "40", "--test", "120"),
        ("size=112", "strides=null", "labelled_batch=4", "unlabelled_batch=4"),
        ("2%", "5%"),
        seeds=3,
        steps=600,
        train=("validate_every=300",),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training run of a study. `labelled` is "all" for the ceiling."""

    method: str
    labelled: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.labelled.rstrip('%')}-{self.seed}"


def cells(study: Study) -> list[Cell]:
    """All cells, seed by seed, so that a study stopped early has whole seeds."""
    return [
        Cell(method, labelled, seed)
        for seed in range(study.seeds)
        for method, amounts in (("uc_seg", study.labelled), ("supervised", (*study.labelled, "all")))
        for labelled in amounts
    ]


def ucseg(*words: str | Path) -> None:
    """One verb in a process of its own."""
    command = [sys.executable, "-m", "ucseg.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def make_dataset(study: Study, data: Path, work: Path, labelled: str) -> Path:
    """The dataset with so many labels visible, its plan and its cache."""
    out = work / f"data-{labelled.rstrip('%')}"
    if not (out / "plan.yaml").exists():
        hide = () if labelled == "all" else ("--labelled", labelled)
        ucseg("init", data, "--out", out, *study.init, *hide, "--seed", "0", "--overwrite")
        ucseg("plan", out, *(word for setting in study.plan for word in ("--set", setting)))
    ucseg("prepare", out)
    return out


def run_cell(study: Study, cell: Cell, work: Path, extra: list[str]) -> dict[str, Any]:
    """Train, predict and evaluate one cell; or what is known of it if it was done before."""
    file = work / "cells" / f"{cell.name}.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    dataset, run = work / f"data-{cell.labelled.rstrip('%')}", work / "runs" / cell.name
    settings = [*SUPERVISED] if cell.method == "supervised" else ["--method", cell.method, *extra]
    settings += [word for setting in study.train for word in ("--set", setting)]
    settings += ["--steps", str(study.steps), "--seed", str(cell.seed), "--workers", "0"]
    begun = time.time()
    resume = ["--resume"] if (run / "config.json").exists() else []
    ucseg("train", dataset, "--out", run, *settings, *resume)
    result: dict[str, Any] = {"method": cell.method, "labelled": cell.labelled, "seed": cell.seed, "test": {}}
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result["training_seconds"] = log[-1]["seconds"]
    result["validation"] = {str(line["step"]): line["validation"] for line in log if "validation" in line}
    chosen = {weights: json.loads((run / f"{weights}.json").read_text())["step"] for weights in ("last", "best")}
    result["steps_of_weights"] = chosen
    for weights in ("last", "best"):
        if weights == "best" and chosen["best"] == chosen["last"]:
            result["test"]["best"] = result["test"]["last"]  # the same weights
            break
        predictions = work / "predictions" / f"{cell.name}-{weights}"
        ucseg("predict", run, dataset, "--out", predictions, "--checkpoint", weights, "--members", "--resume")
        names = {"prediction": predictions} | {m.name: m for m in sorted((predictions / "members").iterdir())}
        result["test"][weights] = {
            name: evaluate(folder, dataset, work / "metrics" / f"{cell.name}-{weights}-{name}")
            for name, folder in names.items()
        }
    result["wall_seconds"] = time.time() - begun
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.rename(file)
    return result


def evaluate(predictions: Path, dataset: Path, out: Path) -> dict[str, Any]:
    """Mean of each metric over the test cases, and counts; in this process: one for each verb would take longer."""
    found = evaluate_folder(predictions, dataset, Settings(split="test"), workers=1)
    found.save(out)
    if found.failed or found.missing:
        raise RuntimeError(f"{predictions}: not compared: {found.failed}, missing: {found.missing}")
    overall = found.overall
    means = {metric: overall.metrics[metric].mean for metric in METRICS}
    return {**means, "missed": overall.missed, "false_positives": overall.false_positives}


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds."""
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": round(mean, 4), "sd": deviation and round(deviation, 4), "seeds": [round(v, 4) for v in values]}


def summarise(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a labelled amount, weights and model: Dice over seeds, the gap closed, seconds."""
    rows = []
    for labelled in dict.fromkeys(cell["labelled"] for cell in done):
        for weights in ("last", "best"):
            for method, member, label in (
                ("supervised", "unet", "supervised U-Net"),
                ("supervised", "vnet", "supervised V-Net"),
                ("supervised", "prediction", "mean of both"),
                ("uc_seg", "prediction", "UC-Seg"),
            ):
                chosen = [c for c in done if (c["method"], c["labelled"]) == (method, labelled)]
                if not chosen:
                    continue
                row: dict[str, Any] = {"labelled": labelled, "weights": weights, "model": label}
                row["dice"] = spread([c["test"][weights][member]["dice"] for c in chosen])
                row["hd95"] = spread([c["test"][weights][member]["hd95"] for c in chosen])
                row["training_seconds"] = round(sum(c["training_seconds"] for c in chosen) / len(chosen), 1)
                rows.append(row)
    dice = {(row["labelled"], row["weights"], row["model"]): row["dice"]["mean"] for row in rows}
    for row in rows:
        # Against the best supervised model of the three, chosen in the baseline's favour by its test Dice.
        floor, ceiling = (
            max(
                (d for (amount, w, m), d in dice.items() if (amount, w) == (which, row["weights"]) and m != "UC-Seg"),
                default=None,
            )
            for which in (row["labelled"], "all")
        )
        if row["model"] == "UC-Seg" and ceiling is not None and floor is not None and ceiling > floor:
            row["gap_closed"] = round((row["dice"]["mean"] - floor) / (ceiling - floor), 3)
    return rows


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for datasets, runs and finished cells")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; give each a thread with OMP_NUM_THREADS=1")
    parser.add_argument(
        "--set", action="append", default=[], help="setting for UC-Seg's runs, e.g. method.mixing=false"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/STUDY.json")
    words = parser.parse_args()
    study, work = STUDIES[words.study], words.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    for labelled in (*study.labelled, "all"):
        make_dataset(study, words.data, work, labelled)
    extra = [word for setting in words.set for word in ("--set", setting)]
    out = words.out or RESULTS / f"{words.study}.json"
    about = {
        "study": words.study,
        "command": f"OMP_NUM_THREADS=1 python benchmarks/study.py {words.study} --data SCANS --work WORK"
        + "".join(f" --set {setting}" for setting in words.set),
        "definition": dict(vars(study)),
        **machine(),
    }
    done: list[dict[str, Any]] = []
    with ThreadPoolExecutor(words.jobs) as pool:
        for result in pool.map(lambda cell: run_cell(study, cell, work, extra), cells(study)):
            done.append(result)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            report = {**about, "peak_gib_of_a_process": round(peak, 2), "summary": summarise(done), "cells": done}
            out.write_text(json.dumps(report, indent=1) + "\n")
            print(time.strftime("%H:%M:%S"), words.study, len(done), "of", len(cells(study)), flush=True)
    for row in summarise(done):
        print(row)


if __name__ == "__main__":
    main()
