"""Seconds a volume and an image: our prediction against the plain loop of dense windows, with the same UC-Seg network.

    OMP_NUM_THREADS=2 python benchmarks/predict.py
    OMP_NUM_THREADS=1 python benchmarks/predict.py many RUN SCANS --baseline OTHER/src    # predict_runs.py
    OMP_NUM_THREADS=1 python benchmarks/predict.py exported RUN SCANS
    OMP_NUM_THREADS=1 python benchmarks/predict.py peers RUN SCANS --nnunet ENVIRONMENT/bin --nnunet-model MODEL

The loop is written here as the method's authors run it: fp32, contiguous tensors, one window after the other at a
stride of 18 x 18 x 4 voxels, their probabilities summed up. It runs with the allocator as it comes, and once more with
freed memory kept, as `ucseg predict` keeps it. A volume of 140 x 140 x 100 at a window of 96^3 gives it 32 windows.
They cost the same, so --windows of them are timed and multiplied. Ours is what `ucseg predict` does, at its
defaults and with larger windows, for noise as an image: mask and uncertainty on the network's grid. Weights are random,
which changes no time. Median of the ratios of --repeats rounds, after one that is not counted. What either costs in
Dice is measured by benchmarks/windows.py. Writes benchmarks/results/predict.json, in float32 predict_fp32.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import GROWTH
from ucseg.methods import build_method
from ucseg.methods.uc_seg import UCSeg
from ucseg.networks.cpu import CHANNELS_LAST
from ucseg.planning.plan import Plan
from ucseg.planning.sizing import token_for
from ucseg.training.allocator import kept_memory
from ucseg.training.device import convolutions_to

VOLUME, WINDOW, STRIDE = (140, 140, 100), (96, 96, 96), (18, 18, 4)
IMAGE = (224, 224)
SIZES = ((IMAGE, IMAGE, 3), (VOLUME, WINDOW, 1))  # of the image, of a window, channels
WAYS = {"defaults": GROWTH, "--window-growth 1.5": 1.5}


def plan(patch: tuple[int, ...], channels: int) -> Plan:
    """A plan of two classes at unit spacing."""
    dims = len(patch)
    return Plan(
        dims=2 if dims == 2 else 3,
        unit="mm",
        spacing=(1.0,) * dims,
        channels=channels,
        classes={0: "background", 1: "organ"},
        patch=patch,
        token=token_for(patch).value,
        labelled_batch=1 if dims == 3 else 4,
        unlabelled_batch=1 if dims == 3 else 4,
        normalisation="zscore",
    )


def corners(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[tuple[int, ...]]:
    """First voxels of the windows that the authors' loop visits; the last of an axis ends where the image does."""
    axes = []
    for n, edge, step in zip(size, window, stride, strict=True):
        axes.append([min(step * i, n - edge) for i in range(-(-(n - edge) // step) + 1)])
    return list(itertools.product(*axes))


@torch.inference_mode()
def dense_loop(method: UCSeg, image: Tensor, window: Sequence[int], stride: Sequence[int], most: int | None) -> Tensor:
    """Class indices S of an image Cin x S by the authors' loop; only the first `most` windows, for timing."""
    shape = image.shape[1:]
    image = F.pad(image, [n for size, edge in zip(shape[::-1], window[::-1], strict=True) for n in margins(size, edge)])
    total, count = torch.zeros(method.problem.classes, *image.shape[1:]), torch.zeros(image.shape[1:])
    for corner in corners(image.shape[1:], window, stride)[:most]:
        part = tuple(slice(start, start + edge) for start, edge in zip(corner, window, strict=True))
        logits, _ = method.forward_both(image[(None, slice(None), *part)].contiguous())
        total[(slice(None), *part)] += method.fuse(logits).softmax(dim=1)[0]
        count[part] += 1
    inside = [slice(margins(n, edge)[0], margins(n, edge)[0] + n) for n, edge in zip(shape, window, strict=True)]
    return (total / count).argmax(dim=0)[tuple(inside)]


def margins(size: int, edge: int) -> tuple[int, int]:
    """Voxels of padding before and after an axis that is shorter than the window."""
    missing = max(0, edge - size)
    return missing // 2, missing - missing // 2


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(size: tuple[int, ...], window: tuple[int, ...], channels: int, repeats: int, most: int) -> dict[str, Any]:
    """Both, at one size; at most `most` windows of the loop are timed."""
    torch.manual_seed(0)
    settings = plan(window, channels)
    method = build_method("uc_seg", {}, settings.problem)
    assert isinstance(method, UCSeg)
    method.eval()
    image = np.random.default_rng(0).normal(size=(channels, *size)).astype(np.float32)
    stride = STRIDE if len(size) == 3 else window
    windows = len(corners(size, window, stride))
    timed = min(windows, most)
    fast = build_method("uc_seg", {}, settings.problem)
    fast.load_state_dict(method.state_dict())
    convolutions_to(fast, CHANNELS_LAST[len(size)])
    predictors = {name: Predictor(fast, settings, "cpu", growth=growth, mirror=False) for name, growth in WAYS.items()}
    plain: list[float] = []
    kept: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats + 1):  # by turns, so that others at work on the machine slow all
        for keep, taken in ((False, plain), (True, kept)):
            with kept_memory(keep):
                one = seconds(lambda: dense_loop(method, torch.from_numpy(image), window, stride, timed))
            taken.append(one * windows / timed)
        for name, predictor in predictors.items():
            with kept_memory():  # as in `ucseg predict`
                ours[name].append(seconds(lambda one=predictor: one.predict_prepared(image)))  # type: ignore[misc]

    def faster(loop: list[float]) -> dict[str, float]:
        pairs = {name: zip(loop[1:], taken[1:], strict=True) for name, taken in ours.items()}
        return {name: round(statistics.median(a / b for a, b in both), 2) for name, both in pairs.items()}

    return {
        "size": [channels, *size],
        "window": window,
        "precision_of_ours": predictors["defaults"].precision,
        "windows_of_loop": windows,
        "windows_timed": timed,
        "loop_seconds": [round(t, 3) for t in plain[1:]],
        "loop_seconds_with_kept_memory": [round(t, 3) for t in kept[1:]],
        "our_seconds": {name: [round(t, 3) for t in taken[1:]] for name, taken in ours.items()},
        "times_faster": faster(plain),
        "times_faster_than_with_kept_memory": faster(kept),
    }


def whole_calls(words: argparse.Namespace) -> None:
    """Measure `ucseg predict` as a whole; a row is added to the file of its kind."""
    import predict_runs
    from provenance import RESULTS, machine

    scans = sorted(words.scans.iterdir())[: words.scans_most]
    if words.what == "many":
        row = predict_runs.many(words.run, scans, words.baseline, words.precision, words.repeats)
    elif words.what == "peers":
        row = predict_runs.peers(words.run, scans, words.nnunet, words.nnunet_model, words.repeats)
    else:
        row = predict_runs.exported(words.run, scans, words.precision, words.repeats)
    row = {"data": words.scans.name, **machine(), **row}
    file = words.out or RESULTS / f"predict_{words.what}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    more = {"many": " --baseline OTHER/src", "peers": " --nnunet ENVIRONMENT/bin --nnunet-model MODEL"}
    command = f"OMP_NUM_THREADS=1 python benchmarks/predict.py {words.what} RUN SCANS{more.get(words.what, '')}"
    file.write_text(json.dumps({"command": command, "rows": [*rows, row]}, indent=1) + "\n")
    print(json.dumps(row, indent=1))


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["loop", "many", "exported", "peers"], default="loop")
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("scans", nargs="?", type=Path, help="a folder of scans and nothing else")
    parser.add_argument("--baseline", type=Path, help="many: the folder src of an older version")
    parser.add_argument("--nnunet", type=Path, help="peers: the folder bin of nnU-Net's environment")
    parser.add_argument("--nnunet-model", type=Path, help="peers: the folder of a trained model, fold all")
    parser.add_argument("--scans-most", type=int, default=100)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--windows", type=int, default=2, help="of the loop that are timed")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    if words.what != "loop":
        whole_calls(words)
        return
    rows = []
    for size in SIZES:
        rows.append(measure(*size, words.repeats, words.windows))
        print(rows[-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    command = f"OMP_NUM_THREADS={threads} python benchmarks/predict.py"
    report = {"command": f"{command} --repeats {words.repeats} --windows {words.windows}", **machine(), "rows": rows}
    name = "predict_fp32.json" if rows[0]["precision_of_ours"] == "fp32" else "predict.json"
    (words.out or RESULTS / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
