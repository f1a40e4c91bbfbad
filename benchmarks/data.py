"""Images a second from cache to batch by one loader worker, against what UC-Seg's training step eats.

    OMP_NUM_THREADS=2 python benchmarks/data.py

Prepared cases of random values, as large as the studies' (2D 3 x 112 x 112, 3D about 36 x 52 x 36), go through the
stream that training uses: crop, default augmentation or none, batch, out of the worker's process. The step is that of
benchmarks/step.py, in the precision of training here, fed from memory. Worker and step are timed by turns, each alone,
so that others at work on the machine slow both. Medians over --rounds. Writes benchmarks/results/data.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.batches.prepare import PreparedCase
from ucseg.batches.stream import PREFETCH, Stream, loader
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.plan import Plan
from ucseg.types import Problem

CASES = 60  # as many as a labelled set of a study; they stay in the system's page cache, as there


def prepared(folder: Path, problem: Problem) -> list[PreparedCase]:
    """Cases on disk, as `ucseg prepare` leaves them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = problem.patch if problem.dims == 2 else tuple(edge + 4 for edge in problem.patch)
    cases = []
    for number in range(CASES):
        image, label = folder / f"{number}.image.npy", folder / f"{number}.label.npy"
        np.save(image, rng.normal(size=(problem.channels, *shape)).astype(np.float16))
        np.save(label, (rng.random(shape) > 0.9).astype(np.uint8))
        cases.append(PreparedCase(str(number), str(number), image, label, shape))
    return cases


def seconds_a_batch(stream: Stream, batches: int) -> float:
    """Of one worker; what it has ready when the clock begins is not counted."""
    found = iter(loader(stream, 0, batches + 2 * PREFETCH, workers=1))
    for _ in range(PREFETCH):
        next(found)
    begun = time.perf_counter()
    for _ in range(batches):
        next(found)
    return (time.perf_counter() - begun) / batches


def row_of(key: str, work: Path, rounds: int, batches: int) -> dict[str, Any]:
    """Loader and step at one size of the studies."""
    from step import SIZES, default_precision, measure

    size = SIZES["study"][key]
    problem, n = size.problem, size.n
    dims = problem.dims
    cases = prepared(work / key, problem)
    ways = {"none": AugmentationConfig(), "default": AugmentationConfig.default(dims, "mri")}
    streams = {}
    for name, augmentation in ways.items():
        plan = Plan(
            dims=2 if dims == 2 else 3,
            unit="mm",
            spacing=(1.0,) * dims,
            channels=problem.channels,
            classes={0: "background", 1: "organ"},
            patch=problem.patch,
            token=problem.token,
            labelled_batch=n,
            unlabelled_batch=n,
            normalisation="zscore",
            augmentation=augmentation,
        )
        streams[name] = Stream(cases, cases, plan, 0, {"image": "plan"})
    found: dict[str, list[float]] = {name: [] for name in (*streams, "step")}
    for _ in range(rounds):
        for name, stream in streams.items():
            found[name].append(seconds_a_batch(stream, batches))
        found["step"].append(statistics.median(measure(("study", key, "UC-Seg", default_precision(), 3))["seconds"]))
    medians = {name: statistics.median(values) for name, values in found.items()}
    row: dict[str, Any] = {"size": size.name, "images_a_batch": 2 * n}
    row["images_a_second"] = {name: round(2 * n / value, 1) for name, value in medians.items()}
    row["times_what_the_step_eats"] = {
        name: round(statistics.median(s / v for s, v in zip(found["step"], found[name], strict=True)), 2)
        for name in streams
    }
    return row | {"seconds_a_batch": found}


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine
    from step import SIZES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS / "data.json")
    words = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for key in SIZES["study"]:
            rows.append(row_of(key, Path(work), words.rounds, words.batches))
            print(rows[-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    command = f"OMP_NUM_THREADS={threads} python benchmarks/data.py"
    report = {"command": f"{command} --rounds {words.rounds} --batches {words.batches}", **machine(), "rows": rows}
    words.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
