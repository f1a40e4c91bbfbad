"""The work of gpu_check.sh: trains, resumes and predicts with the commands of ucseg on scans that a program draws."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from ucseg.demonstration.scans import draw_dataset

METHODS = ("supervised", "mean_teacher", "uc_seg")
UCSEG = [sys.executable, "-m", "ucseg.cli.main"]
LOOK = {2: ("ultrasound", "background,organ"), 3: ("mri", "background,organ,lesion")}
ALIKE = 0.15
"""Most by which the mean loss of the first steps may differ from the CPU's, as a part of it: dropout is drawn on the
device, so that single losses differ."""


class Watch:
    """Asks the driver, while a command runs, how busy the first GPU is and how much of its memory is taken."""

    def __init__(self, on: bool) -> None:
        self.busy: list[float] = []
        self.memory: list[float] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True) if on else None

    def __enter__(self) -> Watch:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def _ask(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--id=0"]
        while not self._ends.wait(0.5):
            said = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split(",")
            if len(said) == 2:
                self.busy.append(float(said[0]))
                self.memory.append(float(said[1]))


def call(*words: object, expect: int = 0) -> None:
    """A command of ucseg; what it says is shown only where it ends otherwise than expected."""
    done = subprocess.run([*UCSEG, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != expect:
        raise SystemExit(f"ucseg {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def log(run: Path) -> list[dict[str, Any]]:
    """Lines of a run's log."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Check:
    """All that is checked; sizes are small with `--cpu`."""

    def __init__(self, folder: Path, cpu: bool) -> None:
        self.folder, self.cpu = folder, cpu
        self.device = "cpu" if cpu else "cuda"
        self.steps, self.precision = (5, "fp32") if cpu else (200, "bf16")
        self.wrong: list[str] = []
        self.found: dict[str, Any] = {"device": "cpu" if cpu else torch.cuda.get_device_name(0), "rows": []}

    def data(self, dims: int, edge: int) -> Path:
        look, classes = LOOK[dims]
        out = self.folder / f"{dims}d-{edge}"
        if not out.exists():
            scans = self.folder / f"scans-{dims}d-{edge}"
            draw_dataset(scans, look, 12, (edge,) * dims, 0)
            words = ["--classes", classes, "--modality", look if dims == 3 else "ultrasound"]
            call("init", scans, "--out", out, "--test", 2, "--validation", 2, "--labelled", 4, *words)
        return out

    def train(self, data: Path, run: Path, method: str, device: str, precision: str, steps: int, *more: object) -> None:
        plan = ["plan.labelled_batch=2", "plan.unlabelled_batch=2"]
        sets = [word for one in ("small_first=0", "log_every=1", *plan) for word in ("--set", one)]
        call("train", data, "--out", run, "--method", method, "--device", device, "--precision", precision,
             "--steps", steps, "--seed", 1, *sets, *more)  # fmt: skip

    def losses(self) -> None:
        """The first steps in float32, on the device and on the CPU."""
        steps = 3 if self.cpu else 12
        for dims, edge in ((2, 64), (3, 32)):
            for method in METHODS:
                means = []
                for device in (self.device, "cpu"):
                    run = self.folder / f"loss-{dims}d-{method}-{device}-{len(means)}"
                    self.train(self.data(dims, edge), run, method, device, "fp32", steps)
                    means.append(statistics.fmean(line["loss"] for line in log(run)))
                row = {"dims": dims, "method": method, "mean_loss": means[0], "on_cpu": means[1]}
                print(f"{dims}D {method}: mean loss of {steps} steps {means[0]:.4f}, on the CPU {means[1]:.4f}")
                self.found.setdefault("losses", []).append(row)
                if not abs(means[0] - means[1]) <= ALIKE * abs(means[1]):
                    self.wrong.append(f"{dims}D {method}: losses differ from the CPU's")

    def speed(self) -> None:
        """200 steps in bfloat16 (with --cpu: few in float32), then predictions."""
        for dims, edge in ((2, 64), (3, 32)) if self.cpu else ((2, 256), (3, 64)):
            for method in METHODS:
                run = self.folder / f"run-{dims}d-{method}"
                with Watch(not self.cpu) as watch:
                    self.train(self.data(dims, edge), run, method, self.device, self.precision, self.steps)
                lines = log(run)
                late = [line for line in lines if line["step"] > 0.5 * self.steps]
                seconds = (late[-1]["seconds"] - late[0]["seconds"]) / max(1, late[-1]["step"] - late[0]["step"])
                row: dict[str, Any] = {"dims": dims, "method": method, "seconds_a_step": round(seconds, 5)}
                row |= {"first_loss": lines[0]["loss"], "last_loss": lines[-1]["loss"]}
                if watch.busy:
                    row |= {
                        "gpu_waits": round(1 - statistics.fmean(watch.busy) / 100, 3),
                        "memory_mib": max(watch.memory),
                    }
                self.found["rows"].append(row)
                print(f"{dims}D {method}: {row}")
                if not all(math.isfinite(line["loss"]) for line in lines):
                    self.wrong.append(f"{dims}D {method}: a loss is not finite")
                masks = self.folder / f"masks-{dims}d-{method}"
                call("predict", run, self.data(dims, edge), "--out", masks, "--device", self.device)

    def resume(self) -> None:
        """Stopped by Ctrl-C in the middle, then resumed to the end."""
        data, run = self.data(2, 64), self.folder / "resumed"
        words = [
            "train",
            data,
            "--out",
            run,
            "--device",
            self.device,
            "--steps",
            2000,
            "--set",
            "log_every=1",
        ]
        process = subprocess.Popen([*UCSEG, *map(str, words)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not ((run / "metrics.jsonl").exists() and len(log_so_far(run)) >= 5):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        if process.wait() != 130:
            self.wrong.append(f"Ctrl-C ended with {process.returncode}")
            return
        at = log(run)[-1]["step"]
        process = subprocess.Popen(
            [*UCSEG, "train", str(data), "--out", str(run), "--resume"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None and len(log_so_far(run)) < at + 5:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait()
        steps = [line["step"] for line in log(run)]
        if steps != list(range(1, len(steps) + 1)) or len(steps) < at + 5:
            self.wrong.append("a resumed run does not go on where it was stopped")
        print(f"stopped after step {at}, resumed, and stopped again after step {steps[-1]}")
        self.found["resumed_from"], self.found["resumed_to"] = at, steps[-1]

    def two(self) -> None:
        """Two processes share a batch, where there are two GPUs (with --cpu: two processes)."""
        if not self.cpu and torch.cuda.device_count() < 2:
            print("one GPU: two processes were not tried")
            return
        run = self.folder / "two"
        self.train(self.data(2, 64), run, "uc_seg", self.device, "fp32", self.steps, "--devices", 2)
        self.found["two_processes_loss"] = log(run)[-1]["loss"]
        print(f"two processes: last loss {log(run)[-1]['loss']:.4f}")


def log_so_far(run: Path) -> list[str]:
    """Whole lines of a log that is being written."""
    return [line for line in (run / "metrics.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="without a GPU, in small")
    given = parser.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        print("This machine has no CUDA GPU that torch can use; --cpu tries the script without one.")
        return 1
    if given.cpu:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(tempfile.mkdtemp(prefix="ucseg-gpu-check-"))
    check = Check(folder, given.cpu)
    start = time.monotonic()
    try:
        for part in (check.speed, check.resume, check.two, check.losses):
            part()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        check.found |= {"torch": torch.__version__, "seconds": round(time.monotonic() - start, 1), "wrong": check.wrong}
        Path("gpu_check.json").write_text(json.dumps(check.found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(check.wrong) or "all is well", f"({check.found['seconds']} s; gpu_check.json)")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
