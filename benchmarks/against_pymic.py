"""An outside check: PyMIC's CPS, URPC and supervised U-Net on the hippocampus split of benchmarks/compare.py.

    python3.11 -m venv PYMIC && PYMIC/bin/pip install -r benchmarks/requirements-pymic.txt
    OMP_NUM_THREADS=1 python benchmarks/against_pymic.py --data SCANS --work WORK --python PYMIC/bin/python

PyMIC (Apache-2.0, github.com/HiLab-git/PyMIC) is the nearest peer. It gets the same cases (labelled, unlabelled,
validation, test), patch, batch and steps. Learning rate, optimiser, loss (cross-entropy + Dice), widths of the U-Net,
flips and the share of crops about the foreground are the same too. The weights and ramps of its methods, batch norm and
dropout are PyMIC's. It validates on the middle of each scan and predicts each test scan whole. Its masks are evaluated
as ours are. Finished runs are kept in WORK; results/pymic.json is written after each.

Its UA-MT and mean teacher are left out, but can be asked for: their teacher's weights are all zero after the first
step, and nothing is learnt from such a teacher (findings/pymic_mean_teacher.sh).

PyMIC changes the learning rate, its teacher's decay and its ramps only at a validation, so there are thirty of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from compare import HIPPOCAMPUS, HIPPOCAMPUS_PLAN, ucseg
from provenance import RESULTS, machine
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.evaluation.evaluate import Settings, evaluate_folder
from ucseg.evaluation.metrics import METRICS
from ucseg.planning.plan import Plan, read_plan

METHODS = {"supervised": None, "urpc": "URPC", "cps": "CPS", "ua_mt": "UAMT", "mean_teacher": "MeanTeacher"}
"""Our name of a method -> PyMIC's."""
COMPARED = ("supervised", "urpc", "cps")
LR = 0.03
VALIDATIONS = 30
WEIGHTS = {"last": 0, "best": 1}
"""Which weights -> PyMIC's ckpt_mode."""


def write_cases(dataset: Dataset, folder: Path) -> None:
    """The csv files that PyMIC reads; paths relative to the data's root. Test cases come without their masks."""
    tables = {
        "labelled": dataset.labelled,
        "unlabelled": dataset.unlabelled,
        "validation": dataset.validation,
        "test": dataset.test,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in tables.items():
        masks = name in ("labelled", "validation")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label"] if masks else ["image"])
            for case in cases:
                files = [case.image, case.mask] if masks else [case.image]
                writer.writerow([str(one.relative_to(dataset.root)) for one in files if one])


def configuration(
    method: str, dataset: Dataset, plan: Plan, cases: Path, run: Path, steps: int, seed: int
) -> dict[str, dict[str, Any]]:
    """PyMIC's configuration. Its axes are ours reversed: depth, height, width."""
    flips = range(len(plan.patch)) if plan.augmentation.flip_axes is None else plan.augmentation.flip_axes
    depth, height, width = (2 in flips, 1 in flips, 0 in flips)
    prepare = ["NormalizeWithMeanStd", "Pad"]
    look = [*prepare, "RandomCrop", "RandomFlip"]
    theirs = METHODS[method]
    pair = method == "cps"
    sections: dict[str, dict[str, Any]] = {
        "dataset": {
            "task_type": "seg",
            "supervise_type": "semi_sup" if theirs else "fully_sup",
            "tensor_type": "float",
            "train_dir": dataset.root,
            "train_csv": cases / "labelled.csv",
            "train_csv_unlab": cases / "unlabelled.csv",
            "valid_csv": cases / "validation.csv",
            "test_csv": cases / "test.csv",
            "train_batch_size": plan.labelled_batch,
            "train_batch_size_unlab": plan.unlabelled_batch,
            "num_worker": 0,
            "patch_size": list(plan.patch[::-1]),
            "train_transform": [*look, "LabelToProbability"],
            "train_transform_unlab": look,
            "valid_transform": [*prepare, "CenterCrop", "LabelToProbability"],
            "test_transform": prepare,
            "RandomCrop_foreground_focus": True,
            "RandomCrop_foreground_ratio": round(plan.augmentation.foreground, 4),
            "RandomFlip_flip_depth": depth,
            "RandomFlip_flip_height": height,
            "RandomFlip_flip_width": width,
        },
        "network": {
            "net_type": ["UNet", "UNet"] if pair else "UNet",
            "infer_mode": 1,  # of two networks the mean, as here
            "dimension": plan.dims,
            "in_chns": plan.channels,
            "class_num": len(plan.classes),
            "feature_chns": [16, 32, 64, 128, 256],
            "multiscale_pred": method == "urpc",
        },
        "training": {
            "gpus": [0],
            "loss_type": ["CrossEntropyLoss", "DiceLoss"],
            "loss_weight": [1.0, 1.0],
            "deep_supervise": method == "urpc",
            "optimizer": "SGD",
            "nesterov": False,
            "learning_rate": LR,
            "momentum": 0.9,
            "weight_decay": "0.00001",
            "lr_scheduler": "PolynomialLR",
            "lr_power": 1.0,
            "iter_max": steps,
            "iter_valid": max(1, steps // VALIDATIONS),
            "ckpt_dir": run,
            "deterministic": True,
            "random_seed": seed,
        },
        "testing": {"gpus": [0]},
    }
    if theirs:
        sections["semi_supervised_learning"] = {"method_name": theirs}
    return sections


def save_configuration(sections: dict[str, dict[str, Any]], file: Path) -> None:
    """Write it in the form that PyMIC reads; its lists have no quotes."""
    lines = []
    for name, settings in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {str(value).replace(chr(39), '')}" for key, value in settings.items()]
    file.write_text("\n".join(lines) + "\n")


def run_cell(
    python: str, method: str, dataset: Dataset, plan: Plan, work: Path, steps: int, seed: int
) -> dict[str, Any]:
    """Train, predict the test cases with the last and the best weights, and evaluate; or what is known of it."""
    name = f"{method}-{steps}-{seed}"
    done, run = work / "cells" / f"{name}.json", work / "runs" / name
    if done.exists():
        return dict(json.loads(done.read_text()))
    sections = configuration(method, dataset, plan, work / "cases", run, steps, seed)
    config = work / f"{name}.cfg"

    def agent(stage: str) -> None:
        save_configuration(sections, config)
        output = work / f"{name}-{stage}.txt"
        command = [python, str(Path(__file__).with_name("pymic_agent.py")), stage, str(config)]
        with output.open("w") as said:
            if subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, check=False).returncode:
                raise SystemExit(f"PyMIC failed; {output} has what it said.")

    begun = time.time()
    agent("train")
    seconds = time.time() - begun
    log = (run / "train.log").read_text()
    found = re.findall(r"it (\d+)\n(?:.*\n)*?valid loss .*? avg foreground dice (\S+)", log)
    result: dict[str, Any] = {"method": method, "steps": steps, "seed": seed, "training_seconds": round(seconds)}
    result["validation"] = {step: float(dice) for step, dice in found}
    result["test"] = {}
    # Whole scans, padded to what the four levels of the network divide.
    sections["dataset"] |= {"Pad_output_size": [16] * plan.dims, "Pad_ceil_mode": True}
    for weights, mode in WEIGHTS.items():
        predictions = work / "predictions" / f"{name}-{weights}"
        sections["testing"] |= {"ckpt_mode": mode, "output_dir": predictions}
        agent("test")
        result["test"][weights] = evaluate(predictions, dataset.folder, work / "metrics" / f"{name}-{weights}")
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps(result))
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


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the hippocampus scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")
    parser.add_argument("--python", required=True, help="interpreter of the environment with PyMIC")
    parser.add_argument("--methods", default=",".join(COMPARED))
    parser.add_argument("--labelled", default="5%")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "pymic.json")
    words = parser.parse_args()
    work = words.work.absolute()
    folder = work / f"data-{words.labelled.rstrip('%')}"
    if not (folder / "plan.yaml").exists():
        hide = ("--labelled", words.labelled)
        ucseg("init", words.data, "--out", folder, *HIPPOCAMPUS, *hide, "--seed", "0", "--overwrite")
        ucseg("plan", folder, *(word for setting in HIPPOCAMPUS_PLAN for word in ("--set", setting)))
    dataset, plan = load_dataset(folder), read_plan(folder / "plan.yaml")
    write_cases(dataset, work / "cases")
    version = "import importlib.metadata as m; print(m.version('PYMIC'))"
    about = {
        "outside_check": f"hippocampus {words.labelled}, PyMIC",
        "command": "OMP_NUM_THREADS=1 python benchmarks/against_pymic.py --data SCANS --work WORK "
        f"--python PYMIC/bin/python --methods {words.methods} --labelled {words.labelled} --steps {words.steps} "
        f"--seed {words.seed}",
        "pymic": subprocess.check_output([words.python, "-c", version], text=True).strip(),
        "configuration": "see benchmarks/against_pymic.py; regularize_w 0.1 and its ramp over all steps are PyMIC's",
        **machine(),
    }
    cells = []
    for method in words.methods.split(","):
        cells.append(run_cell(words.python, method, dataset, plan, work, words.steps, words.seed))
        words.out.write_text(json.dumps({**about, "cells": cells}, indent=1) + "\n")
        print(time.strftime("%H:%M:%S"), method, cells[-1]["test"], flush=True)


if __name__ == "__main__":
    main()
