"""The verbs of data beside nnU-Net and MONAI: plan, prepare and evaluate, of the same files on the same cores.

    python3.11 -m venv NNUNET && NNUNET/bin/pip install -r benchmarks/requirements-nnunet.txt
    python3.11 -m venv MONAI && MONAI/bin/pip install -r benchmarks/requirements-monai.txt
    OMP_NUM_THREADS=1 python benchmarks/data_peers.py --data SCANS --work WORK --nnunet NNUNET/bin --monai MONAI/bin

SCANS holds the folders hippocampus, isic and kvasir. `prepare` is `ucseg plan` and `ucseg prepare`, one after the
other, beside `nnUNetv2_plan_and_preprocess` of the one configuration that the plan of ucseg is like. The photographs
are all of isic and kvasir, and some of them again under other names, as PNG: nnU-Net reads no JPEG. `evaluate` is of
masks that are the references with another border: `ucseg evaluate` with all its metrics, `nnUNetv2_evaluate_folder`
with Dice and voxel counts, MONAI with Dice, HD95 and surface Dice (monai_agent.py).

The programs take turns; their starts and imports count. Each runs the small tasks once before, so that all of them find
their libraries compiled, as on any machine where they were used before. CPU seconds are of all its processes (user and
system). Peak memory is that of all of them at one moment, with shared pages counted once (PSS, Linux), sampled every
250 ms. Figures are medians of --rounds. `--earlier SRC` also measures another copy of the package, as "earlier".
Writes benchmarks/results/data_peers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

from scale import cores, measure_command
from ucseg.types import Array

PHOTOGRAPHS = 2000
HIPPOCAMPUS = {"background": 0, "anterior": 1, "posterior": 2}
Step = tuple[list[str], dict[str, str]]
"""A command, and its environment."""


def pairs_of_hippocampus(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, image and mask of each case that has both."""
    for mask in sorted(data.glob("hippocampus/labels/*.nii.gz")):
        image = data / "hippocampus/images" / mask.name
        if image.exists():
            yield mask.name.removesuffix(".nii.gz"), image, mask


def pairs_of_photographs(data: Path) -> list[tuple[Path, Path]]:
    """All of isic and kvasir."""
    isic = [(f, data / "isic/masks" / f"{f.stem}_segmentation.png") for f in sorted(data.glob("isic/images/*.jpg"))]
    kvasir = sorted(data.glob("kvasir/*/images/*.jpg"))
    return isic + [(f, f.parent.parent / "masks" / f.name) for f in kvasir]


def write_hippocampus(data: Path, work: Path) -> None:
    """Links to the scans, as images/ and masks/, and as nnU-Net names them."""
    raw = work / "raw/Dataset001_hippocampus"
    for name, image, mask in pairs_of_hippocampus(data):
        link(image, work / "hippocampus/images" / f"{name}.nii.gz")
        link(mask, work / "hippocampus/masks" / f"{name}.nii.gz")
        link(image, raw / "imagesTr" / f"{name}_0000.nii.gz")
        link(mask, raw / "labelsTr" / f"{name}.nii.gz")
    describe(raw, {"0": "MRI"}, HIPPOCAMPUS, ".nii.gz")


def write_photographs(data: Path, work: Path) -> None:
    """PNG images with masks of 0 and 1 in the size of their image."""
    raw = work / "raw/Dataset002_photographs"
    for number, (image, mask) in enumerate(islice(cycle(pairs_of_photographs(data)), PHOTOGRAPHS)):
        name = f"photo_{number:04}"
        stored = work / "photographs/images" / f"{name}.png", work / "photographs/masks" / f"{name}.png"
        if not stored[1].exists():
            for file in stored:
                file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(image).convert("RGB")
            picture.save(stored[0])
            drawn = Image.open(mask).convert("L").resize(picture.size, Image.Resampling.NEAREST)
            Image.fromarray((np.asarray(drawn) > 127).astype(np.uint8)).save(stored[1])
        link(stored[0], raw / "imagesTr" / f"{name}_0000.png")
        link(stored[1], raw / "labelsTr" / f"{name}.png")
    describe(raw, {"0": "R", "1": "G", "2": "B"}, {"background": 0, "lesion": 1}, ".png")


def link(there: Path, name: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    if not name.is_symlink():
        name.symlink_to(there.absolute())


def describe(raw: Path, channels: dict[str, str], labels: dict[str, int], ending: str) -> None:
    """nnU-Net's dataset.json."""
    training = len(list((raw / "labelsTr").iterdir()))
    about = {"channel_names": channels, "labels": labels, "numTraining": training, "file_ending": ending}
    (raw / "dataset.json").write_text(json.dumps(about))


def write_predictions(work: Path) -> None:
    """Masks as a network could predict them: the references with another border."""
    (work / "predictions").mkdir(exist_ok=True)
    for number, file in enumerate(sorted((work / "hippocampus/masks").iterdir())):
        image: Any = nibabel.load(file)
        drawn = other_border(np.asarray(image.dataobj).astype(np.uint8), np.random.default_rng(number))
        nibabel.save(nibabel.Nifti1Image(drawn, image.affine, image.header), work / "predictions" / file.name)


def other_border(label: Array, rng: np.random.Generator) -> Array:
    """The class with the greatest smoothed share of a voxel, each share with smooth noise."""
    shares = [
        ndimage.gaussian_filter((label == value).astype(np.float32), 1.0)
        + 1.2 * ndimage.gaussian_filter(rng.normal(size=label.shape).astype(np.float32), 2.0)
        for value in range(len(HIPPOCAMPUS))
    ]
    near = ndimage.binary_dilation(label > 0, iterations=3)
    return np.where(near, np.argmax(shares, axis=0), 0).astype(np.uint8)


def plans_of(work: Path) -> Path:
    """nnU-Net's plan, which its evaluation asks for."""
    return work / "planned/Dataset001_hippocampus/nnUNetPlans.json"


def ours(source: Path, *words: object) -> Step:
    return [sys.executable, "-m", "ucseg.cli.main", *map(str, words)], {"PYTHONPATH": str(source)}


def steps_of(work: Path, nnunet: Path, monai: Path, sources: dict[str, Path]) -> dict[str, dict[str, list[Step]]]:
    """The commands of each program, by task."""
    folders = {f"nnUNet_{kind}": str(work / kind) for kind in ("raw", "preprocessed", "results")}
    every = str(cores())

    def theirs(*words: object) -> Step:
        return [str(nnunet / str(words[0])), *map(str, words[1:])], folders

    def prepare(name: str, number: int, configuration: str) -> dict[str, list[Step]]:
        planned = ["-d", number, "-npfp", every, "-np", every, "-c", configuration, "--no_pbar"]
        found = {
            program: [ours(source, verb, work / "datasets" / name) for verb in ("plan", "prepare")]
            for program, source in sources.items()
        }
        return found | {"nnU-Net": [theirs("nnUNetv2_plan_and_preprocess", *planned)]}

    raw = work / "raw/Dataset001_hippocampus"
    files = ["-djfile", raw / "dataset.json", "-pfile", plans_of(work), "-o", work / "summary.json"]
    masks = work / "hippocampus/masks"
    evaluate = {
        program: [ours(source, "evaluate", work / "predictions", masks, "--out", work / "numbers", "--overwrite")]
        for program, source in sources.items()
    }
    evaluate["nnU-Net"] = [
        theirs("nnUNetv2_evaluate_folder", raw / "labelsTr", work / "predictions", *files, "-np", every)
    ]
    agent = Path(__file__).with_name("monai_agent.py")
    found = work / "monai.json"
    evaluate["MONAI"] = [([str(monai / "python"), *map(str, (agent, work / "predictions", masks, found))], {})]
    return {
        "prepare hippocampus": prepare("hippocampus", 1, "3d_fullres"),
        "prepare photographs": prepare("photographs", 2, "2d"),
        "evaluate hippocampus": evaluate,
    }


def forget(work: Path, task: str) -> None:
    """What an earlier call of a task made, so that it is made again."""
    if not task.startswith("prepare"):
        return
    name = task.split()[1]
    dataset = work / "datasets" / name
    shutil.rmtree(dataset / "cache", ignore_errors=True)
    (dataset / "plan.yaml").unlink(missing_ok=True)
    for made in work.glob(f"preprocessed/*_{name}"):
        shutil.rmtree(made)


def measured(work: Path, task: str, steps: list[Step]) -> dict[str, float]:
    """Of all commands of a program together; the peak is the highest of one."""
    forget(work, task)
    every = [measure_command(*step) for step in steps]
    return {
        **{key: round(sum(one[key] for one in every), 2) for key in ("seconds", "cpu_seconds")},
        "peak_mib": max(one["peak_mib"] for one in every),
    }


def medians(rounds: list[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}
    return found | {"rounds": rounds}


def said(work: Path) -> dict[str, Any]:
    """The means that the programs found, as a check that they measured the same."""
    metrics = json.loads((work / "numbers/metrics.json").read_text())["all"]["metrics"]
    nnunet = json.loads((work / "summary.json").read_text())["foreground_mean"]
    return {
        "ucseg": {name: metrics[name]["mean"] for name in ("dice", "hd95", "surface_dice")},
        "nnU-Net": {"dice": nnunet["Dice"]},
        "MONAI": json.loads((work / "monai.json").read_text()),
    }


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for copies and results; may be removed after")
    parser.add_argument("--nnunet", type=Path, required=True, help="folder of nnU-Net's commands")
    parser.add_argument("--monai", type=Path, required=True, help="folder of the interpreter with MONAI")
    parser.add_argument("--earlier", type=Path, help="src of another copy of the package")
    parser.add_argument("--only", action="append", help="tasks; the file keeps the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "data_peers.json")
    words = parser.parse_args()
    work = words.work.absolute()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # set in many containers: each start would compile again
    sources = {"ucseg": Path(__file__).parent.parent / "src"}
    sources |= {"earlier": words.earlier.absolute()} if words.earlier else {}
    makers: dict[str, Callable[[Path, Path], None]] = {
        "hippocampus": write_hippocampus,
        "photographs": write_photographs,
    }
    for name, make in makers.items():
        make(words.data, work)
        if not (work / "datasets" / name).exists():
            split = ["--validation", "0", "--test", "0"]
            command, environment = ours(
                sources["ucseg"], "init", work / name, "--out", work / "datasets" / name, *split
            )
            subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    if not (work / "predictions").exists():
        write_predictions(work)
    if not plans_of(work).exists():
        program = str(words.nnunet / "nnUNetv2_plan_and_preprocess")
        command = [program, "-d", "1", "--no_pp", "-npfp", "1", "--no_pbar"]
        folders = {
            "nnUNet_raw": work / "raw",
            "nnUNet_preprocessed": work / "planned",
            "nnUNet_results": work / "results",
        }
        environment = os.environ | {name: str(folder) for name, folder in folders.items()}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    kept = json.loads(words.out.read_text())["tasks"] if words.only and words.out.exists() else {}
    tasks = steps_of(work, words.nnunet, words.monai, sources)
    for task in words.only or tasks:
        rounds: dict[str, list[dict[str, float]]] = {program: [] for program in tasks[task]}
        if "photographs" not in task:
            for steps in tasks[task].values():
                measured(work, task, steps)
        for _ in range(words.rounds):
            for program, steps in tasks[task].items():
                rounds[program].append(measured(work, task, steps))
                print(task, program, rounds[program][-1], flush=True)
            kept[task] = {"cores": cores(), **machine(), "programs": {p: medians(found) for p, found in rounds.items()}}
            if task.startswith("evaluate"):
                kept[task]["means"] = said(work)
            command = "OMP_NUM_THREADS=1 python benchmarks/data_peers.py --data SCANS --work WORK --nnunet NNUNET/bin"
            report = {"command": f"{command} --monai MONAI/bin", "tasks": kept}  # whole after each round
            words.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
