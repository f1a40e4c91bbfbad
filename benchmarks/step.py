"""Seconds a training step and peak memory of each method, at the sizes of the studies.

    OMP_NUM_THREADS=2 python benchmarks/step.py

Each configuration runs in a process of its own, so that its peak memory is its own. Medians over --repeats steps, after
two that are not counted; UC-Seg with mixing on, at its dearest. Writes benchmarks/results/step.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "2D 3x112x112, batch 4+4, 2 classes": {"channels": 3, "classes": 2, "patch": (112, 112), "token": (14, 14), "n": 4},
    "3D 1x32x48x32, batch 2+2, 3 classes": {
        "channels": 1,
        "classes": 3,
        "patch": (32, 48, 32),
        "token": (8, 8, 8),
        "n": 2,
    },
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised U-Net": ("supervised", {"networks": ("unet",)}),
    "supervised V-Net": ("supervised", {"networks": ("vnet",)}),
    "supervised, both": ("supervised", {"networks": ("unet", "vnet")}),
    "UC-Seg": ("uc_seg", {}),
}


def measure(case: tuple[str, str, str, int]) -> dict[str, Any]:
    """One method at one size and precision."""
    import torch

    from ucseg.methods import build_method
    from ucseg.training.device import channels_last, convolutions_to
    from ucseg.types import Batch, Problem, Progress

    size, label, precision, repeats = case
    at, (name, settings) = SIZES[size], METHODS[label]
    patch, n = at["patch"], at["n"]
    torch.manual_seed(0)
    method = build_method(name, settings, Problem(len(patch), at["channels"], at["classes"], patch, at["token"]))
    layout = channels_last(len(patch))
    convolutions_to(method, layout)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)
    images = [torch.randn(n, at["channels"], *patch).contiguous(memory_format=layout) for _ in range(2)]
    batch = Batch(images[0], torch.randint(0, at["classes"], (n, *patch)), {"image": images[1]})
    seconds = []
    for step in range(repeats + 2):
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = method.step(batch, Progress(500 + step, 1000))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    median = statistics.median(seconds[2:])
    row = {
        "size": size,
        "method": label,
        "precision": precision,
        "seconds": round(median, 4),
        "peak_gib": round(peak, 2),
    }
    return row | {"fastest": round(min(seconds[2:]), 4), "slowest": round(max(seconds[2:]), 4)}


def main() -> None:
    """See the module's docstring."""
    from study import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "step.json")
    words = parser.parse_args()
    cases = [(size, label, p, words.repeats) for size in SIZES for label in METHODS for p in ("bf16", "fp32")]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = []
        for row in pool.imap(measure, cases, chunksize=1):
            print(row, flush=True)
            rows.append(row)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    report = {"command": f"OMP_NUM_THREADS={threads} python benchmarks/step.py --repeats {words.repeats}", **machine()}
    words.out.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
