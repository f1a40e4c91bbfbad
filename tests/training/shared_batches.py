"""What each process of `test_ranks.py` does: updates of methods on batches that ranks share, stops, and failures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from refusals import refused
from ucseg import ranks
from ucseg.errors import Interrupted
from ucseg.methods import build_method
from ucseg.training.device import make_fabric
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.trainer import fit
from ucseg.training.update import Updater
from ucseg.types import Batch, Problem, Progress

PATCH = {2: (32, 32), 3: (32, 16, 16)}
TOTAL = 100
Outcome = tuple[dict[str, Tensor], list[dict[str, float]]]


def updates(
    name: str, dims: int, settings: dict[str, Any], images: int, steps: int = 3, accumulate: int = 1
) -> Outcome:
    """State, and figures of each step, of updates on batches of `images` + `images` that ranks share. No dropout."""
    torch.set_num_threads(1)
    problem = Problem(dims, 1, 3, PATCH[dims], (8,) * dims)
    torch.manual_seed(0)
    method = build_method(name, settings, problem)
    for layer in method.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p = 0.0
    config = TrainConfig.model_validate({"device": "cpu", "precision": "fp32", "steps": TOTAL, "lr": 0.02})
    updater = Updater(method, make_fabric(torch.device("cpu"), "fp32"), config)
    figures = []
    for step in range(TOTAL // 2, TOTAL // 2 + steps):
        whole = batch(dict(method.views), problem, images, step)
        pieces = [piece(whole, part * ranks.size() + ranks.rank(), accumulate) for part in range(accumulate)]
        terms, metrics = updater.update(pieces, Progress(step, TOTAL))
        figures.append({key: float(value) for key, value in (terms | metrics).items()})
    return {key: value.clone() for key, value in method.state_dict().items()}, figures


def batch(views: dict[str, Any], problem: Problem, images: int, seed: int) -> Batch:
    """Images whose brightness tells the class, with noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (2 * images, *(s // 8 for s in problem.patch)), generator=generator)
    for axis in range(1, 1 + problem.dims):
        coarse = coarse.repeat_interleave(8, dim=axis)

    def seen() -> Tensor:
        return coarse[:, None] + 0.3 * torch.randn((2 * images, 1, *problem.patch), generator=generator)

    return Batch(seen()[:images], coarse[:images], {name: seen()[images:] for name in views})


def piece(whole: Batch, number: int, accumulate: int) -> Batch:
    """One of the equal pieces, all of which are the batch."""
    length = len(whole.label) // (ranks.size() * accumulate)
    own = slice(number * length, (number + 1) * length)
    return Batch(whole.labelled[own], whole.label[own], {name: image[own] for name, image in whole.unlabelled.items()})


JOBS: list[tuple[Any, ...]] = [
    ("supervised", 2, {}, 4, 2),
    ("mean_teacher", 2, {}, 4, 2),
    ("uc_seg", 2, {"memory_threshold": (-1.0, -1.0)}, 4, 2),
    # V-Net has no instance norms, which would amplify rounding in the two voxels of the lowest level.
    ("uc_seg", 3, {"memory_threshold": (-1.0, -1.0), "subnets": ("unet", "vnet")}, 2, 2),
    ("uc_seg", 2, {"memory_threshold": (-1.0, -1.0)}, 4, 2, 2),  # of two smaller batches a step, each in parts
]


def together(folder: Path) -> None:
    """All of it in one pair of processes, since they take seconds to begin."""
    outcomes = [updates(*job) for job in JOBS]
    if ranks.rank() == 0:
        torch.save(outcomes, folder / "outcomes.pt")
    run_to_the_end(folder / "whole", stop_at=None)
    run_to_the_end(folder / "stopped", stop_at=3)
    fail_on_one(folder / "failed")


def run_to_the_end(folder: Path, stop_at: int | None) -> None:
    """A tiny run; Ctrl-C reaches the last rank alone, and all stop after the same step and go on."""
    run, config = RunFolder(folder), tiny_config()
    with ranks.first_alone():
        if ranks.rank() == 0:
            run.begin(tiny.run_config(config))

    def stopping(start: int) -> Iterator[Batch]:
        for step, batch in enumerate(tiny.batches(ranks.rank())(start), start):
            if step == stop_at and ranks.rank() == ranks.size() - 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    if stop_at is not None:
        with pytest.raises(Interrupted, match=f"step {stop_at + 1} of 8"):
            fit(tiny.make_method(), stopping, run, config, tiny.validate)
        ranks.any_of(True)  # rank 0 has saved: processes that begin anew find it so
    fit(tiny.make_method(), tiny.batches(ranks.rank()), run, config, tiny.validate)


def fail_on_one(folder: Path) -> None:
    """The loss of the last rank is not finite at the third step: all ranks stop before its update."""
    run, config = RunFolder(folder), tiny_config()
    with ranks.first_alone():
        if ranks.rank() == 0:
            run.begin(tiny.run_config(config))
    poison = 2 if ranks.rank() == ranks.size() - 1 else None

    def named(start: int) -> Iterator[Batch]:
        for batch in tiny.batches()(start):
            batch.labelled_cases = [f"{name} of {ranks.rank()}" for name in batch.labelled_cases]
            yield batch

    names = ["step 3: ", "supervised = nan", "l2a of 0, l2b of 0, l2a of 1, l2b of 1, u2"]
    with refused("loss-not-finite", naming=names):
        fit(tiny.make_method(poison_step=poison), named, run, config)


def tiny_config() -> TrainConfig:
    return TrainConfig.model_validate(
        {"steps": 8, "device": "cpu", "precision": "fp32", "log_every": 1, "ema": 0.9, "save_every": 0, "devices": 2}
    )


def be_killed() -> None:
    """The last rank dies while the first one waits for it."""
    if ranks.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.any_of(False)
