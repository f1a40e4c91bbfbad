"""One update of a method's weights on whatever device and precision, and the watch over figures that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ucseg import ranks
from ucseg.errors import UserError
from ucseg.methods.base import Method
from ucseg.methods.contract import check_step
from ucseg.networks.batch_norm import norms_over_ranks
from ucseg.networks.cpu import CHANNELS_LAST
from ucseg.randomness import derive_seed
from ucseg.training.compiled import compile_networks
from ucseg.training.device import convolutions_to
from ucseg.training.optim import learning_rate, make_optimizer
from ucseg.training.settings import TrainConfig
from ucseg.training.small_images import can_be_small, small
from ucseg.types import Batch, Progress, StepOutput

if TYPE_CHECKING:  # it takes longer to load than torch, and prediction reads this module too
    from lightning_fabric import Fabric

GRADIENT_NORM = "gradient norm"


class _TrainingStep(nn.Module):
    """The method's `step` as a forward pass, which is where fabric applies precision and exchanges gradients."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, labelled: Tensor, label: Tensor, unlabelled: dict[str, Tensor], at: _At) -> tuple[Any, ...]:
        if at.rest is not None:
            output = at.rest()
        else:
            batch = replace(at.batch, labelled=labelled, label=label, unlabelled=unlabelled)
            output = self.method.step(batch, at.progress)
        check_step(self.method, output)
        return output.terms, output.metrics, output.rest


class _At:
    """Carries progress and case names past fabric, which searches plain collections and dataclasses for tensors.

    And the rest of a step of which a part is done.
    """

    def __init__(self, progress: Progress, batch: Batch) -> None:
        self.progress = progress
        self.batch = batch
        self.rest: Callable[[], StepOutput] | None = None


@dataclass
class _Watched:
    """Figures of one step that have to be finite, maybe still being computed on the device."""

    step: int
    names: list[str]
    values: Tensor
    batches: Sequence[Batch]


def runs_ahead(device: torch.device) -> bool:
    """Whether Python queues work on the device and waits for it only when it asks for a value."""
    return device.type != "cpu"


class Updater:
    """Makes updates. The method is moved to fabric's device, and its convolutions laid out, in place.

    Attributes:
        optimizer: torch's own, for its state.
        lr: learning rate at the first step.
        small_first: share of the steps whose images have half the size.
    """

    def __init__(self, method: Method, fabric: Fabric, config: TrainConfig) -> None:
        config = config.settled(method.has_encoder)
        self.method, self.fabric, self.config = method, fabric, config
        method.to(fabric.device)
        self._layout = CHANNELS_LAST[method.problem.dims] if config.channels_last else None
        if self._layout is not None:
            convolutions_to(method, self._layout)
        if config.compile:
            compile_networks(method)
        if ranks.size() > 1:
            norms_over_ranks(method, fabric.device)
        assert config.optimizer is not None and config.lr is not None
        self.lr = config.lr
        self.optimizer = make_optimizer(method, config.optimizer, config.lr, config.momentum, config.weight_decay)
        self._module, self._wrapped = fabric.setup(_TrainingStep(method), self.optimizer)
        self._watched: _Watched | None = None
        can = method.small_images and can_be_small(method.problem, method.has_encoder)
        self.small_first = config.small_first if can else 0.0

    @property
    def step_module(self) -> nn.Module:
        """Its forward pass is the method's step."""
        module: nn.Module = self._module
        return module

    def update(self, batches: Sequence[Batch], progress: Progress) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step: forward and backward of each batch, clip, update, the method's own `after_update`.

        Args:
            batches: of equal size; the gradient is the mean of theirs.

        Returns:
            Detached loss terms and metrics, on the device: their means over the batches and ranks.

        Raises:
            UserError: a term of this step (on a GPU: of the step before) or its gradient is not finite.
        """
        config = self.config
        self.method.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, config.schedule, progress.step, progress.total)
        outputs = []
        for part, batch in enumerate(batches):
            # The gradients of ranks are exchanged with those of the last batch alone, once for each part of its step:
            # what is the mean over the ranks already stays it.
            with self.fabric.no_backward_sync(self._module, enabled=part + 1 < len(batches)):
                outputs.append(self._gradients(batch, replace(progress, part=part), 1.0 / len(batches)))
        terms, metrics = (_means(figures) for figures in zip(*outputs, strict=True))
        if config.clip_grad_norm is not None:
            norm = self.fabric.clip_gradients(
                self._module, self._wrapped, max_norm=config.clip_grad_norm, error_if_nonfinite=False
            )
            assert norm is not None
            metrics = {**metrics, GRADIENT_NORM: norm.detach()}
        self._watch(progress, batches, terms, metrics)
        self._wrapped.step()
        self._wrapped.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.method.after_update(progress)
        return terms, metrics

    def _gradients(self, batch: Batch, progress: Progress, share: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add `share` of a batch's gradients; its detached terms and metrics."""
        # Dropout and the like draw from the global generator: made a function of the step, as every other draw.
        torch.manual_seed(derive_seed(progress.seed, "step", progress.step, ranks.rank(), progress.part))
        batch = self._to_device(batch)
        if progress.fraction < self.small_first:
            batch = self._laid_out(small(batch, self.method.problem))
        at, terms, metrics = _At(progress, batch), dict[str, Tensor](), dict[str, Tensor]()
        while True:
            added, found, at.rest = self._module(batch.labelled, batch.label, batch.unlabelled, at)
            self.fabric.backward(torch.stack(list(added.values())).sum() * share)
            for name, value in added.items():
                terms[name] = terms[name] + value.detach() if name in terms else value.detach()
            metrics |= found
            if at.rest is None:
                return terms, metrics

    def check_finite(self) -> None:
        """Raise if the last step's figures are not finite. To be called before anything of it reaches the disk.

        The figures are the same on all ranks, so all raise together.
        """
        watched, self._watched = self._watched, None
        if watched is None or bool(torch.isfinite(watched.values).all()):
            return
        figures = zip(watched.names, watched.values.tolist(), strict=True)
        bad = ", ".join(f"{name} = {value}" for name, value in figures if not math.isfinite(value))
        names = ranks.all_say([[one.labelled_cases, one.unlabelled_cases] for one in watched.batches])
        halves = ([name for own in names for batch in own for name in batch[half]] for half in (0, 1))
        cases = ", ".join(dict.fromkeys(name for half in halves for name in half))
        raise UserError(
            "loss-not-finite",
            f"step {watched.step}: the loss is not finite ({bad}) on the batch of {cases}. "
            "Nothing of this step was saved. Look at these cases with 'ucseg check'. "
            "Or train with a smaller learning rate (--set lr=...) or with --precision fp32. "
            "In your own method, look at how it computes what is named.",
        )

    def _watch(
        self, progress: Progress, batches: Sequence[Batch], terms: Mapping[str, Tensor], metrics: Mapping[str, Tensor]
    ) -> None:
        """Stop before the update; on a GPU look at the step before, since looking at this one would stall the GPU."""
        self.check_finite()
        watched = dict(terms)
        if GRADIENT_NORM in metrics:
            watched[GRADIENT_NORM] = metrics[GRADIENT_NORM]
        self._watched = _Watched(progress.step + 1, list(watched), torch.stack(list(watched.values())), batches)
        if not runs_ahead(self.fabric.device):
            self.check_finite()

    def _to_device(self, batch: Batch) -> Batch:
        def there(tensor: Tensor) -> Tensor:
            return tensor.to(self.fabric.device, non_blocking=True)

        views = {view: there(tensor) for view, tensor in batch.unlabelled.items()}
        annotated = None if batch.annotated is None else there(batch.annotated)
        moved = replace(
            batch, labelled=there(batch.labelled), label=there(batch.label), unlabelled=views, annotated=annotated
        )
        return self._laid_out(moved)

    def _laid_out(self, batch: Batch) -> Batch:
        """In the layout of the convolutions."""
        if self._layout is None:
            return batch
        views = {view: image.contiguous(memory_format=self._layout) for view, image in batch.unlabelled.items()}
        labelled = batch.labelled.contiguous(memory_format=self._layout)
        return replace(batch, labelled=labelled, unlabelled=views)


def _means(figures: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Means of scalars of the same names over the batches of an update and over the ranks."""
    if (len(figures) == 1 and ranks.size() == 1) or not figures[0]:
        return dict(figures[0])
    values = torch.stack([torch.stack([value.float() for value in one.values()]) for one in figures]).mean(dim=0)
    return dict(zip(figures[0], ranks.mean(values).unbind(), strict=True))
