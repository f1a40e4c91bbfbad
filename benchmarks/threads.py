"""What it costs that threads of a training step spin while they wait, on free cores and beside other work.

    python benchmarks/threads.py    # four minutes; the machine should do nothing else

Wall-clock seconds of a supervised step with as many threads as there are cores: 4 images of 64 x 64 with an encoder, as
in `ucseg demo`. Beside other work: as many processes of one thread as there are cores multiply matrices. Each
GOMP_SPINCOUNT takes turns, "" being the library's own; a figure is the median over the rounds. ucseg sets the one of
`machine/cores.py`. Writes results/threads.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

COUNTS = ("", "100", "1000", "10000")
SECONDS = 8.0
LOAD = "import torch; torch.set_num_threads(1); a = torch.ones(512, 512)\nwhile True: a @ a"


def seconds_of_a_step() -> float:
    """Of steps for some seconds, in this process."""
    import torch

    from ucseg.machine.cores import cores
    from ucseg.methods import build_method
    from ucseg.types import Batch, Problem, Progress

    torch.set_num_threads(cores())
    torch.manual_seed(0)
    problem = Problem(dims=2, channels=1, classes=2, patch=(64, 64), token=(16, 16), encoder="effnet_lite0")
    method = build_method("supervised", {}, problem).train()
    label = torch.zeros(4, 64, 64, dtype=torch.long)
    label[..., :20] = 1
    batch = Batch(torch.randn(4, 1, 64, 64), label, {})
    steps, start = -1, time.perf_counter()  # the first step does not count
    while steps < 1 or time.perf_counter() - start < SECONDS:
        if steps == 0:
            start = time.perf_counter()
        method.zero_grad(set_to_none=True)
        sum(method.step(batch, Progress(max(steps, 0) % 100, 100, 0)).terms.values()).backward()
        steps += 1
    return (time.perf_counter() - start) / steps


def measured(count: str) -> float:
    """`seconds_of_a_step` in a new process."""
    environment = os.environ | {"GOMP_SPINCOUNT": count}
    if not count:
        del environment["GOMP_SPINCOUNT"]
    command = [sys.executable, __file__, "--of"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--of", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.of:
        print(seconds_of_a_step())
        return
    from provenance import RESULTS, machine
    from ucseg.machine.cores import cores

    found: dict[str, dict[str, list[float]]] = {"free cores": {}, "beside other work": {}}
    for _ in range(words.rounds):
        for place, of in found.items():
            number = cores() if place == "beside other work" else 0
            load = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(number)]
            try:
                for count in COUNTS:
                    of.setdefault(count or "own", []).append(measured(count))
                    print(place, count or "own", f"{of[count or 'own'][-1]:.3f}", flush=True)
            finally:
                for one in load:
                    one.kill()
                    one.wait()
    medians = {place: {count: round(statistics.median(of[count]), 4) for count in of} for place, of in found.items()}
    values = {**machine(), "cores": cores(), "rounds": words.rounds, "seconds a step": medians}
    (RESULTS / "threads.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
