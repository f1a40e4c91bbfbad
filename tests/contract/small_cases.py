"""Problems and batches so small that a step of every method takes a fraction of a second."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ucseg.methods import build_method
from ucseg.methods.base import Method
from ucseg.types import Batch, Problem, Progress, StepOutput

# Five encoder levels halve the grid four times: the lowest has 2 x 2, in 3D 2 x 1 x 1 voxels.
PATCH = {2: (32, 32), 3: (32, 16, 16)}
TOKEN = {2: (8, 8), 3: (8, 8, 8)}
LATE = Progress(99, 100)
# Settings with which a method uses all of its parts from the second step on, although it predicts badly. A method that
# waits until it is sure (a threshold, a memory) needs an entry here.
ALL_AT_ONCE: dict[str, dict[str, Any]] = {
    "fixmatch": {"threshold": 0.0},
    "unimatch": {"threshold": 0.0},
    "ad_mt": {"threshold": 0.0, "period": 1},
    "uc_seg": {"memory_threshold": (-1.0, -1.0), "unlabelled_start": 0.0, "unlabelled_steps": 1.0},
}
# Methods with terms that see several levels of a network.
SEES_LEVELS = ("uc_seg", "urpc")
# UC-Seg as published, with a schedule for short runs.
PAPER = {"preset": "published", "residual": True, "lambda_max": 1.0, "lambda_ramp": 0.2, "mixing_start": 0.1}


def make_problem(
    dims: int, classes: int = 3, channels: int = 1, one_component: tuple[int, ...] = (), width: int = 8
) -> Problem:
    return Problem(dims, channels, classes, PATCH[dims], TOKEN[dims], one_component, width=width)


def thin_problem(dims: int, classes: int = 3, channels: int = 1, one_component: tuple[int, ...] = ()) -> Problem:
    """As thin as a plan may make networks, with a level less in 2D and two less in 3D: for what all methods promise.

    The lowest level has 2 x 2, in 3D 4 x 2 x 2 voxels. UC-Seg has two levels of memories in 2D, and one in 3D.
    """
    patch, levels = ((16, 16), 3) if dims == 2 else ((16, 8, 8), 2)
    return Problem(dims, channels, classes, patch, TOKEN[dims], one_component, ((2,) * dims,) * levels, width=8)


def problem_of(name: str, dims: int, classes: int = 3, channels: int = 1, **more: Any) -> Problem:
    """A thin problem, in 2D with another level less if no term of the method sees several levels."""
    problem = thin_problem(dims, classes, channels, **more)
    return problem if dims == 3 or name in SEES_LEVELS else replace(problem, strides=((2, 2), (2, 2)))


def make_method(name: str, problem: Problem, settings: Mapping[str, Any] | None = None, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build_method(name, settings or {}, problem).train()


def make_batch(
    method: type[Method] | Method,
    problem: Problem,
    labelled: int = 2,
    unlabelled: int = 2,
    seed: int = 0,
    shape: tuple[int, ...] | None = None,
) -> Batch:
    """Images whose brightness tells the class, with noise, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    shape = shape or problem.patch
    coarse = torch.randint(
        0, problem.classes, (labelled + unlabelled, *(-(-s // 8) for s in shape)), generator=generator
    )
    for axis, size in enumerate(shape, start=1):
        coarse = coarse.repeat_interleave(8, dim=axis).narrow(axis, 0, size)
    bright = coarse[:, None].float().expand(-1, problem.channels, *shape)

    def view() -> Tensor:
        return bright + 0.3 * torch.randn(bright.shape, generator=generator)

    return Batch(
        view()[:labelled],
        coarse[:labelled].clone(),
        {name: view()[labelled:] for name in method.views},
        [f"l{i}" for i in range(labelled)],
        [f"u{i}" for i in range(unlabelled)],
    )


def step(method: Method, batch: Batch, progress: Progress = LATE, seed: int = 7) -> StepOutput:
    """One step with the dropout of `seed`."""
    torch.manual_seed(seed)
    return method.step(batch, progress).whole()


@torch.no_grad()
def terms_of(method: Method, batch: Batch, progress: Progress = LATE, seed: int = 7) -> dict[str, float]:
    """The loss terms of one step that leaves no trace: batch statistics and memories are put back."""
    before = copy.deepcopy(method.state_dict())
    terms = {name: float(value) for name, value in step(method, batch, progress, seed).terms.items()}
    method.load_state_dict(before)
    return terms


def update(method: Method, optimizer: torch.optim.Optimizer, batch: Batch, progress: Progress) -> StepOutput:
    """What the loop does in a step."""
    output = step(method, batch, progress, seed=1000 + progress.step)
    optimizer.zero_grad()
    output.loss.backward()
    optimizer.step()
    method.after_update(progress)
    return output


def make_sgd(method: Method) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
