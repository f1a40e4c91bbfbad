"""Seconds a training step and its peak memory, against what the two bare subnets cost on the same machine.

    OMP_NUM_THREADS=2 python benchmarks/step.py                  # UC-Seg at the published sizes, mixing on
    OMP_NUM_THREADS=2 python benchmarks/step.py --sizes study    # every model, at the sizes of the studies
    OMP_NUM_THREADS=2 python benchmarks/step.py --sizes growth   # UC-Seg over patch sizes and classes
    OMP_NUM_THREADS=2 python benchmarks/step.py --profile 2d-224 # where a step's time goes

Each model runs in its own processes, so that its peak memory is known. The models take turns for --rounds rounds, so
that what else the machine does falls on all of them. Seconds are medians over --repeats steps a round, after
two or three that are not counted (kept memory has to settle); one step is what training does: forward, backward,
optimiser. `core_seconds` is the time that cores spent on the step, which other processes lengthen less than the
seconds on the clock: where its ratio is another one, the machine was not quiet. Floors are forward and backward of the
two bare subnets:

- "floor": float32, contiguous, the images without mixed ones, torch as it comes, its allocator and its layers: what
  anyone's training of these subnets takes who does nothing for speed, as in the published code;
- "floor, our layers": the same with this package's layers, some of which are quicker than torch's;
- "own floor": precision, layout and allocator of the step beside it, and the mixed images too: half as many again.

Writes benchmarks/results/step_published_sizes.json, step.json or step_growth.json, a --profile
step_profile_SIZE.json.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.types import Batch, Problem, Progress


@dataclass(frozen=True)
class Size:
    """What is trained on: `n` labelled and `n` unlabelled images a step. `authors_gib`: peak of the published code."""

    name: str
    problem: Problem
    n: int
    authors_gib: float | None = None
    warm_up: int = 2


def growth() -> dict[str, Size]:
    """Patches of growing edges with two classes, then more classes at one patch, in 2D and 3D."""
    sizes = {}
    for dims, channels, n, edges in ((2, 3, 4, (64, 96, 128, 192, 256)), (3, 1, 1, (32, 48, 64, 80, 96))):
        at = 128 if dims == 2 else 48
        for edge, classes in [*((edge, 2) for edge in edges), *((at, classes) for classes in (4, 8, 16))]:
            token = (16,) * dims if dims == 2 else (8,) * dims
            title = f"{dims}D {channels}x{'x'.join([str(edge)] * dims)}, batch {n}+{n}, {classes} classes"
            sizes[f"{dims}d-{edge}-{classes}"] = Size(title, Problem(dims, channels, classes, (edge,) * dims, token), n)
    return sizes


SIZES = {
    "published": {
        "2d-224": Size("2D 3x224x224, batch 4+4, 2 classes", Problem(2, 3, 2, (224, 224), (14, 14)), 4, 3.7),
        "2d-256": Size(
            "2D 3x256x256, batch 4+4, 4 classes", Problem(2, 3, 4, (256,) * 2, (16,) * 2, (1, 2, 3)), 4, 4.9
        ),
        "3d-96": Size("3D 1x96x96x96, batch 1+1, 2 classes", Problem(3, 1, 2, (96,) * 3, (16,) * 3, (1,)), 1, 9.2, 3),
    },
    "growth": growth(),
    "study": {
        "2d-112": Size("2D 3x112x112, batch 4+4, 2 classes", Problem(2, 3, 2, (112, 112), (14, 14)), 4),
        "3d-48": Size("3D 1x32x48x32, batch 2+2, 3 classes", Problem(3, 1, 3, (32, 48, 32), (8, 8, 8)), 2),
    },
}
FILES = {"published": "step_published_sizes.json", "growth": "step_growth.json", "study": "step.json"}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "UC-Seg": ("uc_seg", {}),
    "supervised U-Net": ("supervised", {"networks": ("unet",)}),
    "supervised V-Net": ("supervised", {"networks": ("vnet",)}),
    "supervised, both": ("supervised", {"networks": ("unet", "vnet")}),
}
FLOOR, FLOOR_OF_OUR_LAYERS, OWN_FLOOR = "floor", "floor, our layers", "own floor"


def with_torch_layers(subnet: Any) -> Any:
    """Let torch's layers compute what ours do, in place: the same mathematics and weights.

    Steps up are torch's already, where tensors are contiguous.
    """
    import torch.nn.functional as F
    from torch import nn

    from ucseg.networks import blocks, cpu, unet

    def up_sample(x: Any, size: Any, mode: str) -> Any:
        return F.interpolate(x, size=size, mode=blocks.LINEAR[x.ndim - 2], align_corners=False)

    unet.up_sample = up_sample
    for layer in subnet.modules():
        if isinstance(layer, cpu.Dropout):
            layer.forward = nn.Dropout(layer.p).forward
        elif isinstance(layer, blocks.InstanceNorm):
            normed = (nn.InstanceNorm2d if subnet.dims == 2 else nn.InstanceNorm3d)(layer.num_channels, affine=True)
            normed.weight, normed.bias = layer.weight, layer.bias
            layer.forward = normed.forward
    return subnet


def bare_subnets(size: Size, precision: str, model: str) -> Callable[[int], None]:
    """Forward and backward of U-Net and V-Net; the own floor laid out as in training, with as many images as there."""
    import torch

    from ucseg.networks import build_network
    from ucseg.networks.cpu import CHANNELS_LAST
    from ucseg.training.device import convolutions_to

    own = model == OWN_FLOOR
    problem, images = size.problem, 3 * size.n if own else 2 * size.n
    subnets = [build_network(name, problem) for name in ("unet", "vnet")]
    if model == FLOOR:
        subnets = [with_torch_layers(subnet) for subnet in subnets]
    x = torch.randn(images, problem.channels, *problem.patch)
    if own:
        layout = CHANNELS_LAST[problem.dims]
        for subnet in subnets:
            convolutions_to(subnet, layout)
        x = x.contiguous(memory_format=layout)

    def step(_: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.stack([subnet(x)[0].square().mean() for subnet in subnets]).sum()
        loss.backward()
        for subnet in subnets:
            subnet.zero_grad()

    return step


def training(size: Size, model: str, precision: str) -> tuple[Any, Callable[[int], None]]:
    """The method and its update, as training makes it, on noise, after the schedules' half: all terms are on."""
    import torch

    from ucseg.methods import build_method
    from ucseg.training.device import make_fabric
    from ucseg.training.settings import TrainConfig
    from ucseg.training.update import Updater

    problem, n = size.problem, size.n
    name, settings = MODELS[model]
    method = build_method(name, settings, problem)
    updater = Updater(method, make_fabric(torch.device("cpu"), precision), TrainConfig(precision=precision))
    images = [torch.randn(n, problem.channels, *problem.patch) for _ in range(2)]
    views = dict.fromkeys(method.views, images[1])
    batch = Batch(images[0], torch.randint(0, problem.classes, (n, *problem.patch)), views, ("noise",), ("noise",))
    return method, lambda step: updater.update([batch], Progress(500 + step, 1000)) and None


def measure(job: tuple[str, str, str, str, int]) -> dict[str, Any]:
    """Seconds of each counted step of one model, and its peak memory. In a fresh process."""
    import torch

    from ucseg.training.allocator import kept_memory

    sizes, key, model, precision, repeats = job
    size = SIZES[sizes][key]
    floors = (FLOOR, FLOOR_OF_OUR_LAYERS, OWN_FLOOR)
    allocator = kept_memory(model not in floors[:2])
    allocator.__enter__()  # to the end of this process
    torch.manual_seed(0)
    step = bare_subnets(size, precision, model) if model in floors else training(size, model, precision)[1]
    seconds, of_cores = [], []
    for number in range(size.warm_up + repeats):
        begun, used = time.perf_counter(), time.process_time()
        step(number)
        seconds.append(time.perf_counter() - begun)
        of_cores.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds[size.warm_up :], "core_seconds": of_cores[size.warm_up :], "peak_gib": peak}


def default_precision() -> str:
    """Training's on this processor: the quicker one."""
    import torch

    from ucseg.training.device import choose_precision

    return choose_precision("auto", torch.device("cpu"))


def jobs_of(sizes: str) -> list[tuple[str, str]]:
    """Models and precisions that are measured: float32, and bf16 where the processor has it in hardware."""
    import torch

    from ucseg.training.device import supports_bf16

    precisions = ("bf16", "fp32") if supports_bf16(torch.device("cpu")) else ("fp32",)
    if sizes == "published":
        floors = [(FLOOR, "fp32"), (FLOOR_OF_OUR_LAYERS, "fp32")]
        return [*floors, *((model, p) for p in precisions for model in ("UC-Seg", OWN_FLOOR))]
    if sizes == "study":
        return [(model, p) for model in MODELS for p in precisions]
    return [("UC-Seg", default_precision())]


def rows_of(sizes: str, key: str, jobs: Sequence[tuple[str, str]], rounds: int, repeats: int) -> list[dict[str, Any]]:
    """Some models of a size: the median of their steps, and what that is of the floors and of the authors' memory."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {job: [] for job in jobs}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(rounds):
            for job in jobs:
                found[job].append(pool.apply(measure, ((sizes, key, *job, repeats),)))
                print(key, *job, found[job][-1], flush=True)
    every = {job: {k: [s for one in found[job] for s in one[k]] for k in ("seconds", "core_seconds")} for job in jobs}
    median = {job: {k: statistics.median(values) for k, values in every[job].items()} for job in jobs}
    size, rows = SIZES[sizes][key], []
    for (model, precision), own in median.items():
        seconds = every[model, precision]["seconds"]
        row: dict[str, Any] = {"size": size.name, "model": model, "precision": precision, "steps": len(seconds)}
        if sizes == "growth":
            row["voxels"] = 3 * size.n * math.prod(size.problem.patch)
        row |= {kind: round(value, 4) for kind, value in own.items()}
        row |= {"fastest": round(min(seconds), 4), "slowest": round(max(seconds), 4)}
        peak = max(one["peak_gib"] for one in found[model, precision])
        row["peak_gib"] = round(peak, 2)
        if model == "UC-Seg" and size.authors_gib is not None:
            for name, job in (
                ("over_floor", (FLOOR, "fp32")),
                ("over_floor_of_our_layers", (FLOOR_OF_OUR_LAYERS, "fp32")),
                ("over_own_floor", (OWN_FLOOR, precision)),
            ):
                if floor := median.get(job):
                    row |= {name + ("" if k == "seconds" else "_" + k): round(own[k] / floor[k], 3) for k in own}
            row["peak_over_authors"] = round(peak / size.authors_gib, 3)
        rows.append(row)
    return rows


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=SIZES, default="published")
    every = [key for sizes in SIZES.values() for key in sizes]
    parser.add_argument("--only", choices=every, action="append", help="of these sizes; the file keeps the others")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="counted steps of each model a round")
    parser.add_argument("--profile", choices=SIZES["published"], help="profile one step of UC-Seg instead")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="of --profile; default: of training here")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    if other := set(words.only or ()) - set(SIZES[words.sizes]):
        parser.error(f"--only {other.pop()}: --sizes {words.sizes} has {', '.join(SIZES[words.sizes])}")
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    command = f"OMP_NUM_THREADS={threads} python benchmarks/step.py"
    if words.profile:
        from step_profile import profile

        size, precision = SIZES["published"][words.profile], words.precision or default_precision()
        result = {"size": size.name, "precision": precision}
        method, step = training(size, "UC-Seg", precision)
        result |= profile(method, step, precision, size.warm_up, words.repeats)
        command += f" --profile {words.profile} --precision {precision} --repeats {words.repeats}"
        out = words.out or RESULTS / f"step_profile_{words.profile}.json"
        out.write_text(json.dumps({"command": command, **machine(), **result}, indent=1) + "\n")
        print(out.read_text())
        return
    out = words.out or RESULTS / FILES[words.sizes]
    kept = json.loads(out.read_text())["sizes"] if words.only and out.exists() else {}
    for key in SIZES[words.sizes]:
        if not words.only or key in words.only:
            rows = rows_of(words.sizes, key, jobs_of(words.sizes), words.rounds, words.repeats)
            said = f"{command} --sizes {words.sizes} --only {key} --rounds {words.rounds} --repeats {words.repeats}"
            kept[key] = {"command": said, **machine(), "rows": rows}
            out.write_text(json.dumps({"sizes": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
