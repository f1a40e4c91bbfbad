"""An outside check: nnU-Net with the labelled cases, the test cases and the CPU seconds of a comparison.

    python3.11 -m venv NNUNET && NNUNET/bin/pip install -r benchmarks/requirements-nnunet.txt
    OMP_NUM_THREADS=1 python benchmarks/against_nnunet.py hippocampus --data SCANS --work WORK \\
        --python NNUNET/bin/python --labelled 5% --cpu-seconds 2000 --seeds 3

nnU-Net (Apache-2.0, github.com/MIC-DKFZ/nnUNet) sees the labelled cases alone. It plans, augments, trains and predicts
as it does by itself: 3d_fullres or 2d, fold "all", mirrored views. Its training ends with the CPU seconds of its
process, and its learning rate falls to that end (nnunet_agent.py). Planning and preparing are not counted.

Volumes are given as they are. Plain images are on the grid of the comparison's plan, as for the other methods. Its
probabilities go back to the size of the image the same way. Its masks are evaluated as ours are.

WORK may be that of benchmarks/compare.py: the dataset is the same. A finished run is a file in results/nnunet, and is
not made again; delete it for that. A run that was stopped in prediction does not train again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from compare import STUDIES, ucseg
from provenance import RESULTS, machine
from ucseg.batches.preprocess import from_network_grid, grid_of, label_to_network_grid, resample
from ucseg.comparison.datasets import labelled_amounts
from ucseg.config import parse_overrides
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.dataset.masks import read_label
from ucseg.evaluation.evaluate import Settings, evaluate_folder
from ucseg.evaluation.metrics import METRICS
from ucseg.planning.choosing import make_plan
from ucseg.planning.plan import Plan
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Scan
from ucseg.scans.writing import mask_ending, write_like
from ucseg.types import Array

NUMBER = 1
"""Of the dataset, in nnU-Net's own count."""
ENDING = ".nii.gz"
SLICE = np.diag([1.0, 1.0, 999.0, 1.0])
"""Affine of a plain image in a NIfTI file: nnU-Net's spacing across the one slice."""


@dataclass(frozen=True)
class Task:
    """A comparison's data at a labelled amount, and where nnU-Net's copy of it lies."""

    dataset: Dataset
    labelled: list[Case]
    plan: Plan
    folder: Path

    @property
    def name(self) -> str:
        """The dataset's name for nnU-Net."""
        return f"Dataset{NUMBER:03}_{self.folder.name}"

    @property
    def flat(self) -> bool:
        """Whether its scans are plain images."""
        return self.plan.unit == "px"

    @property
    def tested(self) -> dict[str, Case]:
        """nnU-Net's name -> test case; names of cases may hold what its file names cannot."""
        return {f"test_{number:04}": case for number, case in enumerate(self.dataset.test)}


def as_volume(array: Array, scan: Scan, file: Path) -> None:
    """Write an S-shaped array as nnU-Net reads it; a plain image is a volume of one slice."""
    flat = array.ndim == 2
    file.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.Nifti1Image(array[..., None] if flat else array, SLICE if flat else scan.geometry.affine)
    nibabel.save(volume, file)


def write_raw(task: Task) -> None:
    """Labelled cases and test images in nnU-Net's raw format; no test mask is read."""
    raw = task.folder / "raw" / task.name
    trained = {f"case_{number:04}": case for number, case in enumerate(task.labelled)}
    channels = 1
    for name, case in (trained | task.tested).items():
        scan = read_scan(case.image)
        grid = grid_of(scan.array.shape[1:], scan.geometry, task.plan, case.image.file)
        image = scan.array[: task.plan.channels].astype(np.float32)
        channels = len(image)
        for channel, values in enumerate(resample(image, grid.shape) if task.flat else image):
            as_volume(
                values, scan, raw / ("imagesTr" if name in trained else "imagesTs") / f"{name}_{channel:04}{ENDING}"
            )
        if name in trained:
            label = read_label(case.mask, scan.array.shape[1:], task.dataset.config, scan.geometry)
            label = label_to_network_grid(label, grid) if task.flat else label
            as_volume(label.astype(np.uint8), scan, raw / "labelsTr" / f"{name}{ENDING}")
    classes = {class_name: index for index, class_name in task.dataset.config.classes.items() if index}
    about = {
        # A window of intensities belongs to CT alone, and nnU-Net knows CT by this name.
        "channel_names": {str(n): "CT" if task.plan.normalisation == "ct" else f"image{n}" for n in range(channels)},
        "labels": {"background": 0, **classes},
        "numTraining": len(trained),
        "file_ending": ENDING,
    }
    (raw / "dataset.json").write_text(json.dumps(about))


def agent(python: str, stage: str, job: dict[str, Any], task: Task, log: Path) -> dict[str, Any]:
    """One stage of nnunet_agent.py in the environment of nnU-Net; what it found."""
    file = log.with_suffix(".json")
    log.parent.mkdir(parents=True, exist_ok=True)
    about = {"number": NUMBER, "dataset": task.name, "configuration": "2d" if task.flat else "3d_fullres"}
    file.write_text(json.dumps({**about, **job, "found": str(file)}))
    folders = {f"nnUNet_{kind}": str(task.folder / kind) for kind in ("raw", "preprocessed")}
    folders["nnUNet_results"] = str(log.parent / "model")
    # Nothing beside the training process: its CPU seconds are all there are. nnU-Net's planner refuses the 0.
    alone = {"nnUNet_n_proc_DA": "1" if stage == "prepare" else "0", "nnUNet_def_n_proc": "1"}
    command = [python, str(Path(__file__).with_name("nnunet_agent.py")), stage, str(file)]
    with log.open("w") as said:
        environment = os.environ | folders | alone
        if subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, env=environment, check=False).returncode:
            raise SystemExit(f"nnU-Net failed; {log} has what it said.")
    return dict(json.loads(file.read_text()))


def once(file: Path, make: Any) -> dict[str, Any]:
    """What `file` holds; made first if it is not there."""
    if not file.exists():
        found = json.dumps(make())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    return dict(json.loads(file.read_text()))


def own_masks(task: Task, masks: Path, folder: Path) -> None:
    """nnU-Net's predictions as masks of the test scans, named after their cases."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, case in task.tested.items():
        scan = read_scan(case.image)
        if task.flat:
            # C x 1 x W x H there: the axes of ITK are ours reversed.
            found = np.load(masks / f"{name}.npz")["probabilities"][:, 0].transpose(0, 2, 1).astype(np.float32)
            grid = grid_of(scan.array.shape[1:], scan.geometry, task.plan, case.image.file)
            mask = from_network_grid(found, grid).argmax(axis=0)
        else:
            mask = np.asarray(nibabel.load(masks / f"{name}{ENDING}").dataobj)
        file = folder / f"{case.case}{mask_ending(case.image)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_like(mask.astype(np.uint8), scan, file)


def evaluate(task: Task, predictions: Path, out: Path) -> dict[str, Any]:
    """Means over the test cases, and each case's Dice and HD95, by `ucseg evaluate`."""
    found = evaluate_folder(predictions, task.dataset.folder, Settings(split="test"), workers=1)
    found.save(out)
    if found.failed or found.missing:
        raise RuntimeError(f"{predictions}: not compared: {found.failed}, missing: {found.missing}")
    overall = found.overall
    cases = {metric: found.case_means(metric) for metric in ("dice", "hd95")}
    return {
        **{metric: overall.metrics[metric].mean for metric in METRICS},
        "missed": overall.missed,
        "false_positives": overall.false_positives,
        "cases": {case: {metric: values[case] for metric, values in cases.items()} for case in cases["dice"]},
    }


def run_cell(python: str, task: Task, seconds: float, seed: int) -> dict[str, Any]:
    """Prepare, train, predict and evaluate; each part only if it was not finished before."""
    if not (task.folder / "raw" / task.name / "dataset.json").exists():
        write_raw(task)
    planned = once(
        task.folder / "planned.json", lambda: agent(python, "prepare", {}, task, task.folder / "prepare" / "log.txt")
    )
    run = task.folder / f"{seconds:g}s-seed{seed}"
    wanted = {"seed": seed, "cpu_seconds": seconds}
    trained = once(run / "trained.json", lambda: agent(python, "train", wanted, task, run / "train.txt"))
    images = str(task.folder / "raw" / task.name / "imagesTs")
    wanted = {"images": images, "masks": str(run / "masks"), "probabilities": task.flat}
    predicted = once(run / "predicted.json", lambda: agent(python, "predict", wanted, task, run / "predict.txt"))
    own_masks(task, run / "masks", run / "named")
    return {
        "seed": seed,
        **trained,
        **predicted,
        "planned": planned,
        "test": evaluate(task, run / "named", run / "metrics"),
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")
    parser.add_argument("--python", required=True, help="interpreter of the environment with nnU-Net")
    parser.add_argument("--labelled", default="5%", help="labelled amount, as of ucseg compare")
    parser.add_argument("--cpu-seconds", type=float, required=True, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="how many; the first is 0")
    parser.add_argument("--out", type=Path, default=RESULTS / "nnunet", help="folder of the finished runs")
    words = parser.parse_args()
    work, study = words.work.absolute(), STUDIES[words.study]
    folder = work / "data"
    if not (folder / "cases.csv").exists():
        ucseg("init", words.data, "--out", folder, *study.init, "--seed", "0", "--overwrite")
    dataset = load_dataset(folder)
    amounts, problems = labelled_amounts(dataset, [words.labelled])
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    named = f"{words.study}-{words.labelled.replace('%', 'pct')}"
    shown = amounts[0].dataset.labelled
    plan = make_plan(amounts[0].dataset, overrides=parse_overrides(study.plan))  # as `ucseg compare` makes it
    task = Task(dataset, shown, plan, work / "nnunet" / named.replace("-", "_"))
    versions = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('nnunetv2', 'torch', 'numpy')))"
    about = {
        "nnunet": words.study,
        "labelled": words.labelled,
        "labelled_cases": [case.case for case in shown],
        "wanted_cpu_seconds": words.cpu_seconds,
        "command": f"OMP_NUM_THREADS=1 python benchmarks/against_nnunet.py {words.study} --data SCANS --work WORK "
        f"--python NNUNET/bin/python --labelled {words.labelled} --cpu-seconds {words.cpu_seconds:g} "
        f"--seeds {words.seeds}",
        "versions": subprocess.check_output([words.python, "-c", versions], text=True).strip(),
        **machine(),
    }
    words.out.mkdir(parents=True, exist_ok=True)
    for seed in range(words.seeds):
        file = words.out / f"{named}-{words.cpu_seconds:g}s-seed{seed}.json"
        if not file.exists():
            found = run_cell(words.python, task, words.cpu_seconds, seed)
            file.write_text(json.dumps({**about, **found}, indent=1) + "\n")
        test = json.loads(file.read_text())["test"]
        print(time.strftime("%H:%M:%S"), file.stem, f"Dice {test['dice']:.4f}, HD95 {test['hd95']:.2f}", flush=True)


if __name__ == "__main__":
    main()
