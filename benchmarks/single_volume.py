"""Seconds that both subnets take for one volume in float32, as torch convolves it and in halves (`VolumeConv`).

    OMP_NUM_THREADS=2 python benchmarks/single_volume.py

Both ways in turn, for --rounds rounds; medians. "predict" is forward without gradients, "train" forward and backward.
Writes benchmarks/results/single_volume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from study import RESULTS, machine
from ucseg.networks import blocks, build_network
from ucseg.training.allocator import kept_memory
from ucseg.training.device import channels_last, convolutions_to
from ucseg.types import Problem

PATCHES = ((32, 48, 32), (64, 64, 64), (96, 96, 96))
HALVES = blocks.UNFOLDED


@kept_memory()  # as in training
def measure(patch: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Medians over the rounds of forward, and of forward and backward, of U-Net and V-Net."""
    problem = Problem(3, 1, 2, patch, (8, 8, 8))
    subnets, image = [build_network(name, problem) for name in ("unet", "vnet")], torch.randn(1, 1, *patch)
    for subnet in subnets:
        convolutions_to(subnet, channels_last(3))

    def predict() -> None:
        with torch.no_grad():
            for subnet in subnets:
                subnet(image)

    def train() -> None:
        for subnet in subnets:
            subnet(image)[0].square().mean().backward()
            subnet.zero_grad()

    row: dict[str, Any] = {"patch": list(patch)}
    for work in (predict, train):
        seconds: dict[str, list[float]] = {"by torch": [], "in halves": []}
        for number in range(rounds + 1):
            for way, bound in (("by torch", 0), ("in halves", HALVES)):
                blocks.UNFOLDED = bound
                begun = time.perf_counter()
                work()
                if number:  # the first is not counted: kept memory has to settle
                    seconds[way].append(time.perf_counter() - begun)
        median = {way: statistics.median(values) for way, values in seconds.items()}
        ratio = {"by torch / in halves": round(median["by torch"] / median["in halves"], 2)}
        row[work.__name__] = {way: round(value, 4) for way, value in median.items()} | ratio
    return row


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "single_volume.json")
    words = parser.parse_args()
    rounds = words.rounds
    command = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'default')} python benchmarks/single_volume.py"
    rows = []
    for patch in PATCHES:
        rows.append(measure(patch, rounds))
        print(rows[-1], flush=True)
    result = {"command": f"{command} --rounds {rounds}", **machine(), "rows": rows}
    words.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
