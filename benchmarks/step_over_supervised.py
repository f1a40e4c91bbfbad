"""What a step costs over one of supervised training with the same labelled images, for each method.

    git worktree add --detach EARLIER 918fd4a
    OMP_NUM_THREADS=1 python benchmarks/step_over_supervised.py --build EARLIER --rounds 3

CPU seconds of forward and backward, float32, without data and optimiser: the mean over 20 steps that are spread over a
run, so that schedules count. Images have their whole size. EARLIER is an earlier version of the package. Everything
takes turns; a figure is the median over the rounds. Writes results/step_over_supervised.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PLACES = 20
PROBLEMS: dict[str, dict[str, Any]] = {
    "3D, 2 + 2 of 32 x 48 x 32": {
        "of": {"dims": 3, "channels": 1, "classes": 3, "patch": (32, 48, 32), "token": (8, 8, 8)}, "n": 2,
    },
    "2D, 4 + 4 of 3 x 96 x 96": {
        "of": {"dims": 2, "channels": 3, "classes": 2, "patch": (96, 96), "token": (16, 16)}, "n": 4,
    },
    "2D with an encoder, 4 + 4 of 3 x 96 x 96": {
        "of": {
            "dims": 2, "channels": 3, "classes": 2, "patch": (96, 96), "token": (16, 16), "encoder": "effnet_lite0",
        },
        "n": 4,
    },
}  # fmt: skip
TODAY = (
    *("supervised", "supervised networks=[unet_thin]", "supervised networks=[unet_coarse]"),
    *("uc_seg", "uc_seg subnets=[unet_strided,unet_thin]", "uc_seg attention_width=null", "uc_seg preset=published"),
    *("mean_teacher", "cps", "unimatch", "bcp"),
)
EARLIER = ("uc_seg",)


def seconds(name: str, title: str) -> float:
    """CPU seconds of a step, with the package that is first on the path."""
    import torch

    from ucseg.config import parse_overrides
    from ucseg.methods import build_method
    from ucseg.types import Batch, Problem, Progress

    torch.set_num_threads(1)
    torch.manual_seed(0)
    given, n = PROBLEMS[title]["of"], PROBLEMS[title]["n"]
    known = {field.name for field in dataclasses.fields(Problem)}
    problem = Problem(**{key: value for key, value in ({"norm": "instance"} | given).items() if key in known})
    word, *settings = name.split()
    method = build_method(word, parse_overrides(settings), problem).train()
    image, label = torch.randn(n, problem.channels, *problem.patch), torch.zeros(n, *problem.patch, dtype=torch.long)
    label[..., : problem.patch[-1] // 3] = 1
    views = {view: torch.randn_like(image) for view in method.views}

    def step(number: int) -> None:
        method.zero_grad(set_to_none=True)
        output = method.step(Batch(image, label, views), Progress(number, 50 * PLACES, 0))
        while output is not None:
            sum(output.terms.values()).backward()
            rest = getattr(output, "rest", None)
            output = None if rest is None else rest()

    step(0)
    step(50 * PLACES - 1)
    start = time.process_time()
    for place in range(PLACES):
        step(50 * place + 25 + place % 2)  # odd and even ones: a method may take turns
    return (time.process_time() - start) / PLACES


def measured(build: Path, name: str, title: str) -> float:
    """`seconds` in a new process, with the package in `build`."""
    environment = os.environ | {"PYTHONPATH": str(build / "src"), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--of", name, title]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(found.stdout.strip().splitlines()[-1])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, help="an earlier version, to measure beside this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.of:
        print(seconds(*words.of))
        return
    from provenance import RESULTS, machine

    builds = [(HERE, "", TODAY), *([(words.build.absolute(), "earlier ", EARLIER)] if words.build else [])]
    found: dict[str, dict[str, list[float]]] = {title: {} for title in PROBLEMS}
    for _ in range(words.rounds):
        for title in PROBLEMS:
            for build, before, names in builds:
                for name in names:
                    found[title].setdefault(before + name, []).append(measured(build, name, title))
                    print(title, before + name, f"{found[title][before + name][-1]:.3f}", flush=True)
    rows = {
        title: {
            name: {
                "cpu_seconds": round(statistics.median(each), 4),
                "over_supervised": round(statistics.median(map(float.__truediv__, each, of["supervised"])), 3),
            }
            for name, each in of.items()
        }
        for title, of in found.items()
    }
    earlier = None
    if words.build:
        command = ["git", "-C", str(words.build), "rev-parse", "HEAD"]
        earlier = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    values = {**machine(), "rounds": words.rounds, "earlier": earlier, "rows": rows}
    (RESULTS / "step_over_supervised.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
