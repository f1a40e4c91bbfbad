"""Peak memory and processor seconds of `ucseg predict` on one large CT, before and after slabs.

    OMP_NUM_THREADS=1 python benchmarks/large_volume.py --work WORK --before OTHER/src
    OMP_NUM_THREADS=1 python benchmarks/large_volume.py --work WORK --only networks,whole

The CT is made up: int16, smooth blobs and noise. Each row is one `ucseg predict` in a process of its own, with mask and
uncertainty out and components filtered; its memory is the peak of what is resident (VmHWM, Linux). `--before` names the
`src` of a checkout of an earlier commit.

What a scan takes does not depend on the network's width, what a window takes does. So most rows have a stand-in for
the networks, which costs little time: bands of intensity, with two members as UC-Seg has them, and mirrored along one
axis. `networks` has UC-Seg itself, on a scan of two windows. `whole` has it on the whole CT, with random weights: they
take as much memory and time as trained ones. Writes benchmarks/results/large_volume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, PATCH = (512, 512, 600), 128


@dataclass(frozen=True)
class Row:
    """One call of `ucseg predict`.

    Attributes:
        shape: of the CT.
        spacing: of the plan, in mm; that of the scan is 1.
        flips: axes that training mirrors.
        runs: how many are predicted together.
        method: "bands" or a method of ucseg.
        overlap: of windows. Less than the default, .5, takes less time and the same memory.
        options: further ones.
    """

    shape: tuple[int, ...] = SHAPE
    classes: int = 2
    patch: int = PATCH
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    flips: tuple[int, ...] = (0,)
    runs: int = 1
    method: str = "bands"
    width: int = 8
    precision: str = "fp32"
    overlap: float = 0.25
    options: tuple[str, ...] = ()


COARSE = Row(spacing=(1.5, 1.5, 2.0))
WINDOWS = Row(shape=(134, 134, 200), method="uc_seg")
"""Two windows: what they take does not grow with their number."""
WHOLE = Row(method="uc_seg", flips=(), overlap=0.0)
"""As few passes as there can be: hours would be needed for more, and the memory is the same but for one set of maps."""
ROWS: dict[str, dict[str, Row]] = {
    "small": {"4 classes": Row(shape=(200, 200, 260), patch=96, classes=4)},
    "same": {"2 classes": Row(), "4 classes": Row(classes=4)},
    "resampled": {
        "finer plan": Row(spacing=(0.95, 0.95, 1.0)),
        "coarser plan, 4 classes": replace(COARSE, classes=4),
    },
    "options": {
        "coarser plan, 4 classes, --probabilities": replace(COARSE, classes=4, options=("--probabilities",)),
        "coarser plan, 4 classes, --members": replace(COARSE, classes=4, options=("--members",)),
        "coarser plan, 4 classes, two runs": replace(COARSE, classes=4, runs=2),
    },
    "networks": {
        f"UC-Seg, width {width}, {precision}": replace(WINDOWS, width=width, precision=precision)
        for width in (8, 16)
        for precision in ("fp32", "bf16")
    },
    "whole": {
        f"UC-Seg, width 16, {classes} classes, {precision}": replace(
            WHOLE, classes=classes, width=16, precision=precision
        )
        for precision in ("bf16", "fp32")
        for classes in (4, 2)
    },
}


def scan_of(shape: tuple[int, ...], work: Path) -> Path:
    """A CT of that shape: noise, and blobs that repeat every 64 voxels."""
    import nibabel

    file = work / f"ct-{'x'.join(map(str, shape))}.nii.gz"
    if not file.exists():
        rng = np.random.default_rng(0)
        waves = [np.sin(np.arange(n) * 2 * np.pi / 64) for n in shape]
        image = np.empty(shape, np.int16, order="F")
        for z, wave in enumerate(waves[2]):
            blobs = 400 * waves[0][:, None] * waves[1] * wave
            image[:, :, z] = blobs + rng.normal(0, 10, shape[:2])
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), file)
    return file


def run_of(row: Row, number: int, work: Path) -> Path:
    """A run folder as training leaves it, with random weights."""
    import torch

    from ucseg.methods import build_method
    from ucseg.planning.plan import Plan, write_plan
    from ucseg.training.checkpoint import save_weights
    from ucseg.training.run_folder import RunFolder

    plan = Plan.model_validate(
        {
            "dims": 3,
            "unit": "mm",
            "spacing": row.spacing,
            "patch": (row.patch,) * 3,
            "token": (16,) * 3,
            "labelled_batch": 2,
            "unlabelled_batch": 2,
            "channels": 1,
            "classes": {0: "background"} | {index: f"organ{index}" for index in range(1, row.classes)},
            "normalisation": "ct",
            "ct_window": {"low": -400, "high": 400, "mean": 0, "std": 150},
            "one_component": (1,),
            "width": row.width,
            "most_voxels": 10**9,
            "augmentation": {"flip": 0.5 if row.flips else 0.0, "flip_axes": row.flips},
        }
    )
    torch.manual_seed(number)
    method = build_method(row.method, {}, plan.problem)
    run = RunFolder(work / f"run{number}")
    config = {"dataset": "DATA", "method": {"name": row.method, "config": {}}, "problem": asdict(plan.problem)}
    run.begin(config, lambda path: write_plan(plan, path))
    save_weights(run, "last", method.state_dict(), {"step": 1})
    return work / f"run{number}"


def register_bands() -> None:
    """The stand-in for the networks: softmax of how near the intensity is to the middle of each class."""
    import torch

    from ucseg.config import Strict
    from ucseg.methods import METHODS
    from ucseg.methods.base import Method
    from ucseg.types import Prediction

    class Bands(Method):
        class Config(Strict):
            pass

        def __init__(self, config: Any, problem: Any) -> None:
            super().__init__(config, problem)
            self.shift = torch.nn.Parameter(torch.randn(()) * 0.1)

        def step(self, batch: Any, progress: Any) -> Any:
            raise NotImplementedError

        def predict(self, image: torch.Tensor) -> Prediction:
            classes = self.problem.classes
            middles = torch.linspace(0, 2, classes).view(1, -1, 1, 1, 1)

            def at(shift: Any) -> torch.Tensor:
                return torch.softmax(-4 * (image[:, :1] - middles - shift).abs(), dim=1)

            p = at(self.shift)
            return Prediction(p, 1.01 - p.max(dim=1, keepdim=True).values, {"a": at(0.1), "b": at(-0.1)})

    METHODS["bands"] = Bands


def child(row: Row, work: Path) -> None:
    """In a process of its own: predict, and print the figures."""
    import shutil

    register_bands()
    if not (work / "run0").exists():  # made by a process that does not count
        scan_of(row.shape, work.parent)
        for number in range(row.runs):
            run_of(row, number, work)
        return
    shutil.rmtree(work / "masks", ignore_errors=True)
    from ucseg.cli.predict import predict
    from ucseg.inference.step_cost import peak_memory

    runs = [work / f"run{number}" for number in range(row.runs)]
    options = {name.removeprefix("--"): True for name in row.options}
    scan = scan_of(row.shape, work.parent)
    found = predict(
        runs[0],
        [*runs[1:], scan],
        out=work / "masks",
        precision=row.precision,
        overlap=row.overlap,
        device="cpu",
        **options,
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"gib": (peak_memory() or 0) / 2**30, "cpu_seconds": used.ru_utime + used.ru_stime}
    scores = {name: found.rows[0][name] for name in ("failure_score", "mean_uncertainty", "organ1_ml")}
    print("FIGURES", json.dumps(figures | scores))


def measured(row: Row, name: str, source: Path, work: Path) -> dict[str, Any]:
    """The figures of a row with the code in `source`."""
    import shutil

    folder = work / name.replace(" ", "_").replace(",", "")
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, __file__, "--work", str(folder), "--child", json.dumps(asdict(row))]
    output = ""
    for _ in range(2):
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(folder)
    line = next(line for line in output.splitlines() if line.startswith("FIGURES"))
    return {key: round(value, 4) for key, value in json.loads(line.removeprefix("FIGURES")).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scans, runs and masks")
    parser.add_argument("--before", type=Path, help="src of a checkout of an earlier commit, measured beside")
    parser.add_argument("--only", default="small,same,resampled,options,networks,whole", help=", ".join(ROWS))
    parser.add_argument("--rows", help="only rows whose name holds this")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    settings.work.mkdir(parents=True, exist_ok=True)
    if settings.child is not None:
        values = json.loads(settings.child)
        child(
            Row(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}),
            settings.work,
        )
        return
    from provenance import RESULTS, machine

    file = RESULTS / "large_volume.json"
    sources = {"after": Path(__file__).parents[1] / "src"}
    if settings.before is not None:
        sources = {"before": settings.before, **sources}
    for group in settings.only.split(","):
        for name, row in ROWS[group].items():
            if settings.rows and settings.rows not in name:
                continue
            found = {side: measured(row, f"{name} {side}", source, settings.work) for side, source in sources.items()}
            print(group, name, found, flush=True)
            kept = json.loads(file.read_text()) if file.exists() else {"rows": {}}
            shown = kept["rows"].setdefault(group, {}).setdefault(name, {})
            shown |= {"row": asdict(row), **found, "commit": machine()["commit"]}
            kept |= {"command": "python benchmarks/large_volume.py --work WORK --before OTHER/src", **machine()}
            file.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
