"""Is there memory for a step, or for a window? Said before work begins: a process that takes too much is killed.

What autograd keeps of a forward pass grows with the voxels of the batch. So it is counted on a small patch and scaled.
That is a bound from below: gradients, workspaces and what the optimiser keeps come on top. Of prediction, what one
layer takes in and gives out is counted in the same way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ucseg import ranks
from ucseg.batches.stream import require_pieces
from ucseg.errors import UserError
from ucseg.machine.memory import free_memory, in_gib
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan
from ucseg.planning.sizing import multiples
from ucseg.training.device import choose_device, choose_precision, make_fabric
from ucseg.training.settings import TrainConfig
from ucseg.training.update import Updater
from ucseg.types import Batch, Problem, Progress, Strength

SMALL = 2
"""Voxels of an edge of the lowest level, of the small patch: there are enough for a norm."""
NOT_WORTH_COUNTING = 20_000
"""Bytes for a voxel of the batch, above what any method here keeps: where they fit, nothing is counted."""


Make = Callable[[Problem], Method]
"""A method for a problem, such as `partial(build_method, name, settings)`."""


def require_batch(
    make: Make, plan: Plan, config: TrainConfig, views: Mapping[str, Strength], *, masks: bool = True
) -> None:
    """Before all scans are read: the batch can be shared out, and memory holds a step of it.

    Raises:
        UserError: as `require_pieces` and `require_memory`.
    """
    require_pieces(plan, views, ranks.size() * config.accumulate)
    require_memory(make, plan, config, masks=masks)


def require_memory(make: Make, plan: Plan, config: TrainConfig, *, masks: bool = True) -> None:
    """Refuse a run of which a step cannot fit.

    Args:
        masks: half of a batch is labelled; otherwise all of it is of the unlabelled views (`ucseg pretrain`).

    Raises:
        UserError: the maps of one step alone take more memory than is free on the device.
    """
    device = choose_device(config.device)
    free = free_on(device) / (ranks.size() if device.type == "cpu" else 1)
    pieces = ranks.size() * config.accumulate
    images = math.ceil(plan.labelled_batch / pieces) + math.ceil(plan.unlabelled_batch / pieces)
    if NOT_WORTH_COUNTING * images * math.prod(plan.patch) <= free:
        return
    need = bytes_for_a_voxel(make, plan.problem, config, masks=masks) * images * math.prod(plan.patch)
    if need > free:
        patch = " x ".join(map(str, plan.patch))
        raise UserError(
            "too-little-memory",
            f"{images} patches of {patch}: a training step needs at least {in_gib(need)}, and {device.type} has "
            f"{in_gib(free)}; make smaller ones with 'ucseg plan DATASET --set KEY=VALUE', or --set accumulate=N.",
        )


def require_window(method: Method, plan: Plan, device: torch.device) -> None:
    """Refuse to predict with a method in evaluation mode, before the first scan, where not one window fits.

    Raises:
        UserError: the maps of one layer alone take more memory than is free on the device.
    """
    free, voxels = free_on(device), math.prod(plan.patch)
    if NOT_WORTH_COUNTING * voxels <= free:
        return
    small = _small(plan.problem)
    with torch.inference_mode(), _largest_layer(method) as found:
        method.predict(torch.zeros((1, small.channels, *small.patch), device=device))
    need = max(found, default=0) / math.prod(small.patch) * voxels
    if need > free:
        patch = " x ".join(map(str, plan.patch))
        raise UserError(
            "too-little-memory",
            f"a window of {patch}: prediction needs at least {in_gib(need)}, and {device.type} has {in_gib(free)}; "
            "predict on a machine with more memory, or train with a smaller patch.",
        )


@contextmanager
def _largest_layer(method: Method) -> Iterator[list[int]]:
    """Collects the bytes that each layer takes in and gives out."""
    found: list[int] = []

    def note(_: torch.nn.Module, taken: Any, given: Any) -> None:
        found.append(sum(one.nbytes for one in (*taken, given) if isinstance(one, Tensor)))

    hooks = [layer.register_forward_hook(note) for layer in method.modules() if not list(layer.children())]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def free_on(device: torch.device) -> float:
    """Bytes of a device that this process can still get; infinite where the system does not say it."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory())
    return free_memory()


def bytes_for_a_voxel(make: Make, problem: Problem, config: TrainConfig, *, masks: bool = True) -> float:
    """What autograd keeps at most at a time in a late step of the method, for each voxel of the batch.

    Two batches are counted: what both keep, such as weights in another precision, does not grow with the batch.
    """
    small = _small(problem)
    device = choose_device(config.device)
    generator = torch.get_rng_state()
    try:
        model = make(small)
        updater = Updater(model, make_fabric(device, choose_precision(config.precision, device)), config)
        one, two = (_most_kept(updater, small, half, masks) for half in (2, 3))  # a batch norm needs two
    finally:
        torch.set_rng_state(generator)
    images = bool(model.views) + masks
    return (two - one) / (images * math.prod(small.patch))


def _most_kept(updater: Updater, problem: Problem, half: int, masks: bool) -> int:
    shape, labelled = (half, problem.channels, *problem.patch), half if masks else 0
    label = torch.randint(0, problem.classes, (labelled, *problem.patch))
    views = {view: torch.randn(shape) for view in updater.method.views}
    batch = Batch(torch.randn(labelled, *shape[1:]), label, views)
    kept = _Kept({parameter.untyped_storage().data_ptr() for parameter in updater.method.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        updater.update([batch], Progress(998, 1000))
    return kept.most


def _small(problem: Problem) -> Problem:
    """The same problem with the smallest patch of whole levels, at most as large."""
    edges = zip(multiples(problem.strides, problem.dims), problem.patch, strict=True)
    return replace(problem, patch=tuple(min(SMALL * multiple, edge) for multiple, edge in edges))


class _Kept:
    """Counts the bytes that a graph holds; each piece of memory once, weights not at all."""

    def __init__(self, weights: set[int]) -> None:
        self.weights, self.now, self.most = weights, 0, 0
        self.held: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> _Held:
        return _Held(self, tensor)

    @staticmethod
    def unpack(held: _Held) -> Tensor:
        return held.tensor


class _Held:
    """A tensor that the graph keeps for its way backward."""

    def __init__(self, kept: _Kept, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.kept, self.tensor, self.place, self.size = kept, tensor, storage.data_ptr(), storage.nbytes()
        if self.place not in kept.weights:
            kept.held[self.place] += 1
            kept.now += self.size if kept.held[self.place] == 1 else 0
            kept.most = max(kept.most, kept.now)

    def __del__(self) -> None:
        if self.place not in self.kept.weights:
            self.kept.held[self.place] -= 1
            self.kept.now -= self.size if self.kept.held[self.place] == 0 else 0
