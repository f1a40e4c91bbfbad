"""Time, memory and busy cores of init, check, plan and prepare over growing numbers of generated cases.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --work WORK

Images are 64 x 64 pixels (PNG), volumes 64 x 64 x 40 voxels (.nii.gz); see data/synthetic.py. A few are drawn and
repeated with a pixel of their own, so that files differ. Each verb is a process of its own, on a dataset without a
cache. Seconds are of the wall, start and imports included. Peak memory is that of the verb and all its children at one
moment, sampled every 50 ms, pages that they share counted once (PSS, Linux). `cores_busy` is processor seconds over
seconds times cores; `cores_wanted` also counts the time in which a thread could have run and had to wait for a core, so
that it says what cores would do that nobody else used (Linux's schedstat; more than 1: more threads than cores).
Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from ucseg.data.synthetic import draw_case

SIZES = {"images": (64, 64), "volumes": (64, 64, 40)}
COUNTS = {"images": (100, 1000, 10_000), "volumes": (100, 400)}
DRAWN = 20


def generate(folder: Path, kind: str, count: int) -> None:
    """`count` cases, all with a mask."""
    if folder.exists():
        return
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    (part / "masks").mkdir()
    drawn = [draw_case("ultrasound" if kind == "images" else "mri", SIZES[kind], 0, n) for n in range(DRAWN)]
    rng = np.random.default_rng(0)
    for number in range(count):
        image, mask = drawn[number % DRAWN]
        noise = rng.integers(-20, 21, image.shape)
        if kind == "images":
            noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
            Image.fromarray(noisy[0]).save(part / "images" / f"{number:05}.png")
            Image.fromarray((mask > 0).astype(np.uint8) * 255).save(part / "masks" / f"{number:05}.png")
        else:
            for array, name in ((image[0] + noise[0], "images"), (mask, "masks")):
                whole = array.astype(np.int16 if name == "images" else np.uint8)
                volume: Any = nibabel.nifti1.Nifti1Image(whole, np.eye(4))  # type: ignore[no-untyped-call]
                volume.to_filename(part / name / f"{number:05}.nii.gz")
    part.rename(folder)


def measure(words: list[str]) -> dict[str, float]:
    """One verb in a process of its own."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "ucseg.cli.main", *words]
    verb = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, wanted = 0.0, dict[int, float]()
    while verb.poll() is None:
        peak = max(peak, look(verb.pid, wanted))
        time.sleep(0.05)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if verb.returncode not in (0, 2):  # 2: `check` finds something to mend
        raise RuntimeError(f"{' '.join(words)}\n{verb.stderr.read() if verb.stderr else ''}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 2),
        "peak_mib": round(peak, 1),
        "cores_busy": round(processor / (seconds * cores()), 2),
        "cores_wanted": round(sum(wanted.values()) / (seconds * cores()), 2),
    }


def look(process: int, wanted: dict[int, float]) -> float:
    """MiB of a process and all its descendants; seconds that each thread ran or waited for a core go to `wanted`."""
    total = 0.0
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += next(float(line.split()[1]) / 2**10 for line in rollup.splitlines() if line.startswith("Pss:"))
        children: list[str] = []
        for task in Path(f"/proc/{process}/task").iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            wanted[int(task.name)] = (int(ran) + int(waited)) / 1e9
            children += (task / "children").read_text().split()
    except (OSError, StopIteration):  # it has just ended
        return total
    return total + sum(look(int(child), wanted) for child in children)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def main() -> None:
    """See the module's docstring."""
    from study import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for scans and datasets")
    parser.add_argument("--most", type=int, default=10_000, help="leave out larger counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    words = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind, counts in COUNTS.items():
        for count in (n for n in counts if n <= words.most):
            scans, dataset = words.work / f"{kind}-{count}", words.work / f"{kind}-{count}-dataset"
            generate(scans, kind, count)
            shutil.rmtree(dataset, ignore_errors=True)
            row: dict[str, Any] = {"scans": kind, "count": count}
            for verb in ("init", "check", "plan", "prepare"):
                told = ["init", str(scans), "--out", str(dataset)] if verb == "init" else [verb, str(dataset)]
                row[verb] = measure(told)
            print(row, flush=True)
            rows.append(row)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    command = f"OMP_NUM_THREADS={threads} python benchmarks/scale.py --work WORK"
    report = {"command": command, "cores": cores(), **machine(), "rows": rows}
    words.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
