"""`ucseg predict` as a whole: many small images, exported models. Run by benchmarks/predict.py.

Both sides of a comparison are processes that take turns, so that others at work on the machine slow both. CPU seconds
(user + system) are those of the process. A few scans are predicted too: the difference is without the start.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

FEW = 4
"""Scans of the short call, which is nearly all start."""
START = "from ucseg.cli.main import main; main()"


def timed(python: str, source: Path, words: Sequence[str | Path], first: str = "") -> dict[str, float]:
    """As `called`, of one `ucseg` call; `first` is Python that runs before it."""
    return called([python, "-c", first + START, *words], source)


def called(command: Sequence[str | Path], source: Path) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory (MiB) of one command; of its processes, that of the largest one."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, "PYTHONPATH": str(source)},
            stderr=said,
            stdout=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{command}: {said.read().decode()[-2000:]}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 2**10}


def linked(scans: Sequence[Path], folder: Path) -> Path:
    """A folder of links to scans."""
    folder.mkdir()
    for scan in scans:
        (folder / scan.name).symlink_to(scan)
    return folder


def take_turns(
    sides: Mapping[str, Callable[[Path, Path], dict[str, float]]],
    scans: Sequence[Path],
    repeats: int,
    work: Path,
    first: int = FEW,
) -> dict[str, dict[str, Any]]:
    """What each side takes for a scan and for its start, medians over the rounds; results stay in `work/SIDE`.

    Args:
        sides: (folder of scans, folder of results) -> as of `timed`.
        first: scans of the short call.
    """
    few, every = linked(scans[:first], work / "few"), linked(scans, work / "every")
    taken: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            both = []
            for folder in (few, every):
                shutil.rmtree(work / name, ignore_errors=True)
                both.append(side(folder, work / name))
            taken[name].append((both[0], both[1]))
            print(name, both, flush=True)
    found: dict[str, dict[str, Any]] = {}
    more = len(scans) - first
    for name, rounds in taken.items():
        a_scan = [(many["cpu"] - short["cpu"]) / more for short, many in rounds]
        starts = [short["cpu"] - first * cpu for (short, _), cpu in zip(rounds, a_scan, strict=True)]
        found[name] = {
            "cpu_ms_a_scan": [round(1e3 * one, 2) for one in a_scan],
            "scans_a_cpu_second": round(1 / statistics.median(a_scan), 2),
            "start_cpu_seconds": round(statistics.median(starts), 2),
            "all_cpu_seconds": [round(many["cpu"], 2) for _, many in rounds],
            "all_wall_seconds": [round(many["seconds"], 2) for _, many in rounds],
            "peak_mib": round(max(many["peak_mib"] for _, many in rounds)),
        }
    return found


def differences(one: Path, other: Path) -> dict[str, float]:
    """Part of mask voxels that are equal, and how far uncertainty is apart, of two folders of results."""
    from ucseg.scans.reading import read_mask, read_scan

    equal = voxels = 0
    far = 0.0
    for file in sorted(one.glob("*.*")):
        if file.suffix in (".csv", ".json"):
            continue
        a, b = read_mask(file).array, read_mask(other / file.name).array
        equal, voxels = equal + int((a == b).sum()), voxels + a.size
    for file in sorted((one / "uncertainty").iterdir()):
        apart = read_scan(file).array - read_scan(other / "uncertainty" / file.name).array
        far = max(far, float(np.abs(apart).max()))
    return {"mask_voxels": voxels, "equal": equal / voxels, "uncertainty_apart": far}


def floor(run: Path, precision: str, repeats: int) -> dict[str, Any]:
    """CPU milliseconds of the bare networks for an image with all its mirrors: by images at once."""
    import torch

    from ucseg.inference.predictor import Predictor
    from ucseg.training.allocator import kept_memory

    predictor = Predictor.from_run(run, device="cpu", precision=precision)
    mirrors = len(predictor.mirrors)
    found: dict[str, Any] = {"precision": predictor.precision, "mirrors": mirrors}
    method, plan = predictor.method, predictor.plan
    with kept_memory(), predictor.at_work():
        for images in sorted({1, max(1, predictor.batch // mirrors)}):
            batch = torch.randn(images * mirrors, plan.channels, *plan.patch)
            taken = []
            for _ in range(repeats + 1):
                started = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=predictor.precision == "bf16"):
                    method.predict(batch)
                taken.append((time.process_time() - started) / images)
            found[f"cpu_ms, {images} at once"] = round(1e3 * min(taken[1:]), 2)
    return found


STAGES = {
    "reading": ["inference.cases:read_scan", "inference.cases:content_of", "inference.cases:read_header"],
    "to the network's grid": ["inference.scan_predictor:to_network_grid"],
    "networks": ["inference.predictor:Predictor.answer"],
    "back to the scan's grid": ["inference.scan_predictor:from_network_grid"],
    "components": ["inference.scan_predictor:largest_components"],
    "scores": ["inference.scan_predictor:case_scores", "inference.scan_predictor:missing"],
    "calibration": ["inference.calibration:Calibration.chance_of_error"],
    "writing": ["inference.outputs:write_like"],
    "table": ["inference.outputs:PredictionFolder.add"],
}


class Shares:
    """CPU seconds of functions, each without those that it calls, of every thread; one thread computes networks."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._inner, self._lock = threading.local(), threading.Lock()

    def watch(self) -> None:
        """Wrap the functions of `STAGES` where they are called."""
        for stage, places in STAGES.items():
            for place in places:
                module, _, name = place.partition(":")
                owner: Any = import_module(f"ucseg.{module}")
                *outer, last = name.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                if hasattr(owner, last):
                    setattr(owner, last, self._watched(stage, getattr(owner, last)))

    def _watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            before, started = getattr(self._inner, "seconds", 0.0), time.thread_time()
            self._inner.seconds = 0.0
            try:
                return function(*words, **options)
            finally:
                whole = time.thread_time() - started
                with self._lock:
                    self.seconds[stage] += whole - self._inner.seconds
                self._inner.seconds = before + whole

        return call


def shares(run: Path, scans: Path, out: Path, options: Mapping[str, Any]) -> dict[str, float]:
    """CPU milliseconds a scan by stage, in this process; "rest": all else between start and end of the scans."""
    import torch

    from ucseg.cli.predict import predict

    torch.set_num_threads(1)
    watch = Shares()
    watch.watch()
    cases = import_module("ucseg.inference.cases")
    whole, inner = 0.0, cases.predict_cases

    def timed_cases(*words: Any) -> None:
        nonlocal whole
        started = time.process_time()
        inner(*words)
        whole += time.process_time() - started

    cases.predict_cases = timed_cases
    count = len(predict(run, [scans], out=out, device="cpu", **options).rows)
    found = {stage: round(1e3 * seconds / count, 2) for stage, seconds in watch.seconds.items()}
    return {
        **found,
        "rest": round(1e3 * whole / count - sum(found.values()), 2),
        "whole": round(1e3 * whole / count, 2),
    }


def many(run: Path, scans: Sequence[Path], baseline: Path | None, precision: str, repeats: int) -> dict[str, Any]:
    """Many small images: this code, an older one (its folder src), the bare networks, and where the time goes."""
    here = Path(__file__).parents[1] / "src"
    sources = {"this code": here} | ({"baseline": baseline} if baseline else {})

    def side(source: Path) -> Callable[[Path, Path], dict[str, float]]:
        options = ["--device", "cpu", "--precision", precision]
        return lambda folder, out: timed(sys.executable, source, ["predict", run, folder, "--out", out, *options])

    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        rows = take_turns({name: side(source) for name, source in sources.items()}, scans, repeats, place)
        found: dict[str, Any] = {"scans": len(scans), "precision": precision, "sides": rows}
        if baseline:
            found["same"] = differences(place / "baseline", place / "this code")
            old, new = (rows[name]["scans_a_cpu_second"] for name in ("baseline", "this code"))
            found["times_the_scans_a_cpu_second"] = round(new / old, 2)
            whole = [
                old / new
                for old, new in zip(
                    rows["baseline"]["all_cpu_seconds"], rows["this code"]["all_cpu_seconds"], strict=True
                )
            ]
            found["times_in_all"] = round(statistics.median(whole), 2)
        found["floor"] = floor(run, precision, 5)
        found["cpu_ms_a_scan"] = shares(run, place / "every", place / "shares", {"precision": precision})
    return found


RUNTIMES = ("openvino", "onnxruntime")


def exported(run: Path, scans: Sequence[Path], precision: str, repeats: int) -> dict[str, Any]:
    """A run by torch, and exported by each runtime. The model is made here; each side hides the other runtime."""
    here = Path(__file__).parents[1] / "src"
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        timed(sys.executable, here, ["export", run, "--out", place / "model"])
        options = {"torch": ("", run, precision), "openvino": ("onnxruntime", place / "model", precision)}
        options["onnxruntime"] = ("openvino", place / "model", "fp32")

        def side(hidden: str, model: Path, kind: str) -> Callable[[Path, Path], dict[str, float]]:
            without = f"import sys; sys.modules[{hidden!r}] = None; " if hidden else ""
            without += "" if model == run else "sys.modules['torch'] = None; "
            return lambda folder, out: timed(
                sys.executable,
                here,
                ["predict", model, folder, "--out", out, "--precision", kind],
                without,
            )

        rows = take_turns({name: side(*what) for name, what in options.items()}, scans, repeats, place)
        found: dict[str, Any] = {"scans": len(scans), "precision": precision, "sides": rows}
        for name in RUNTIMES:
            torch, other = (rows[one]["scans_a_cpu_second"] for one in ("torch", name))
            rows[name]["times_the_scans_of_torch"] = round(other / torch, 2)
            rows[name]["against_torch"] = differences(place / "torch", place / name)
        return found


def peers(run: Path, scans: Sequence[Path], nnunet: Path, model: Path, repeats: int) -> dict[str, Any]:
    """Our prediction, MONAI's sliding windows with our networks, and nnU-Net with its own; volumes, in float32.

    Args:
        nnunet: the folder bin of its environment.
        model: the folder of a trained model of it, fold "all".
    """
    here = Path(__file__).parent
    source = here.parent / "src"

    def ours(*more: str) -> Callable[[Path, Path], dict[str, float]]:
        options = ["--device", "cpu", "--precision", "fp32", *more]
        return lambda folder, out: timed(sys.executable, source, ["predict", run, folder, "--out", out, *options])

    def monai(*more: str) -> Callable[[Path, Path], dict[str, float]]:
        agent = here / "monai_windows_agent.py"
        return lambda folder, out: called([sys.executable, agent, run, folder, out, *more], source)

    def theirs(*more: str) -> Callable[[Path, Path], dict[str, float]]:
        def call(folder: Path, out: Path) -> dict[str, float]:
            with tempfile.TemporaryDirectory() as named:
                for scan in folder.iterdir():
                    (Path(named) / scan.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(scan.resolve())
                places = ["-i", named, "-o", out, "-m", model, "-f", "all", "-device", "cpu"]
                return called([nnunet / "nnUNetv2_predict_from_modelfolder", *places, *more], here)

        return call

    sides = {
        "ucseg": ours(),
        "ucseg --no-mirror": ours("--no-mirror"),
        "MONAI, our networks, mirrored": monai("--mirror"),
        "MONAI, our networks": monai(),
        "nnU-Net": theirs(),
        "nnU-Net --disable_tta": theirs("--disable_tta"),
    }
    with tempfile.TemporaryDirectory() as work:
        return {"scans": len(scans), "sides": take_turns(sides, scans, repeats, Path(work), first=1)}
