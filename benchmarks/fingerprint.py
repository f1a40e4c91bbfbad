"""Time, memory and busy cores of the fingerprint: real scans, and generated ones in growing numbers.

    OMP_NUM_THREADS=1 python benchmarks/fingerprint.py --data HIPPOCAMPUS --work WORK

Each measurement is a process of its own, and uses nothing kept from earlier calls. HIPPOCAMPUS holds the pairs of the
Medical Segmentation Decathlon's task 4; generated are volumes of 64 x 64 x 40 voxels, every tenth labelled. Peak memory
is the process's, above what it has after its imports (Linux). Writes benchmarks/results/fingerprint.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, DatasetConfig

SHAPE = (64, 64, 40)
COUNTS = (250, 500, 1000, 2000)


def generate(folder: Path, count: int) -> None:
    """Scans with two blocks on noise, and their labels, as compressed NIfTI."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, mask = folder / f"{index:04}.nii.gz", folder / f"{index:04}_seg.nii.gz"
        if mask.exists():
            continue
        rng = np.random.default_rng(index)
        label = np.zeros(SHAPE, np.uint8)
        label[20:40, 10:25, 10:30], label[20:40, 40:55, 10:30] = 1, 2
        noise = rng.normal(100 + 40 * label, 10).astype(np.int16)
        nibabel.Nifti1Image(noise, np.eye(4)).to_filename(image)
        nibabel.Nifti1Image(label, np.eye(4)).to_filename(mask)


def pairs(images: Path, masks: Path, ending: str, count: int | None, every: int) -> list[Case]:
    """Training cases, of which each `every`-th has its mask."""
    files = [file for file in sorted(images.glob("*.nii.gz")) if not file.name.endswith("_seg.nii.gz")]
    cases = []
    for index, image in enumerate(files[:count]):
        mask = masks / image.name.replace(".nii.gz", ending)
        shown = mask if mask.exists() and index % every == 0 else None
        cases.append(Case(image.name, image.name, image, shown, "train"))
    return cases


def measure(task: tuple[str, Path, list[Case]]) -> dict[str, Any]:
    """One fingerprint."""
    from ucseg.planning.fingerprint import take_fingerprint
    from ucseg.planning.measuring import FILE

    name, folder, cases = task
    (folder / "cache" / FILE).unlink(missing_ok=True)
    config = DatasetConfig(
        name=name, root=str(folder), dims=3, modality="mri", channels=1, classes={0: "background", 1: "one", 2: "two"}
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, cpu, begun = mib("VmRSS"), time.process_time(), time.perf_counter()
    seen = take_fingerprint(Dataset(folder, config, cases))
    seconds = time.perf_counter() - begun
    return {
        "scans": name,
        "count": len(seen.scans),
        "labelled": len(seen.labelled),
        "seconds": round(seconds, 2),
        "ms_a_scan": round(1000 * seconds / len(cases), 2),
        "cores_busy": round((time.process_time() - cpu) / seconds, 2),
        "peak_mib_above_imports": round(mib("VmHWM") - before, 1),
    }


def mib(key: str) -> float:
    """Memory of this process by the system's account: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 2**10 for line in lines if line.startswith(key))


def main() -> None:
    """See the module's docstring."""
    from study import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "fingerprint.json")
    words = parser.parse_args()
    generated = words.work / "generated"
    generate(generated, max(COUNTS))
    real = words.work / "hippocampus"
    real.mkdir(parents=True, exist_ok=True)
    tasks = [("hippocampus", real, pairs(words.data / "images", words.data / "labels", ".nii.gz", None, 1))]
    tasks += [("generated", generated, pairs(generated, generated, "_seg.nii.gz", n, 10)) for n in COUNTS]
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(measure, tasks, chunksize=1):
            print(row, flush=True)
            rows.append(row)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    command = f"OMP_NUM_THREADS={threads} python benchmarks/fingerprint.py --data HIPPOCAMPUS --work WORK"
    report = {"command": command, "cpus": os.cpu_count(), "load": os.getloadavg()[0], **machine()}
    words.out.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
