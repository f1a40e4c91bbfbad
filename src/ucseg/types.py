"""The words between data and methods: what a network must know, a batch, a step and a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from ucseg.randomness import torch_generator

if TYPE_CHECKING:  # half of the verbs never compute with torch, and importing it takes longer than they do
    import torch
    from torch import Tensor

Array = npt.NDArray[Any]
Strides = tuple[tuple[int, ...], ...]
"""By how much each axis shrinks from one encoder level to the next: a row a step down, a number (1 or 2) an axis."""
# How the intensities of a view of the unlabelled images are changed. "weak": not at all; "plan": as those of labelled
# images; "strong": as weak-to-strong methods need it. Its geometry is that of all views.
Strength = Literal["weak", "plan", "strong"]


@dataclass(frozen=True)
class Problem:
    """What a network must know of the data.

    Attributes:
        dims: 2 or 3.
        channels: channels of an image.
        classes: number of classes C, background included.
        patch: S of a training patch, in voxels.
        token: edge lengths of the patches into which the pseudo-label generator cuts the uncertainty maps.
        one_component: classes of which a scan has one connected component (for the component filter).
        strides: from one level of the networks' encoders to the next; None: five levels, each half of the one above.
    """

    dims: int
    channels: int
    classes: int
    patch: tuple[int, ...]
    token: tuple[int, ...]
    one_component: tuple[int, ...] = ()
    strides: Strides | None = None

    @property
    def binary(self) -> bool:
        """One foreground class: per-class sigmoids; otherwise softmax over the classes."""
        return self.classes == 2


@dataclass
class Batch:
    """One step's data. There is no field for the labels of the unlabelled images: they cannot reach a method.

    Attributes:
        labelled: B_l x Cin x S float32.
        label: B_l x S int64.
        unlabelled: one B_u x Cin x S tensor a view the method asked for. Views share geometry, not intensities.
            A method that asks for none has no unlabelled half.
        labelled_cases, unlabelled_cases: names, for error messages only.
    """

    labelled: Tensor
    label: Tensor
    unlabelled: dict[str, Tensor]
    labelled_cases: list[str] = field(default_factory=list)
    unlabelled_cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """Where in training we are. Schedules are functions of it; so is every random draw of a method.

    Attributes:
        step: updates done.
        total: T, updates to make.
        seed: of the run.
        part: which piece of an update whose gradients are accumulated. Pieces have draws of their own; the processes
            that share a piece have the same ones.
    """

    step: int
    total: int
    seed: int = 0
    part: int = 0

    @property
    def fraction(self) -> float:
        """t / T in [0, 1]."""
        return min(1.0, self.step / self.total)

    def generator(self, purpose: str, slot: int = 0) -> torch.Generator:
        """A CPU generator for this step's draw named `purpose`."""
        return torch_generator(self.seed, purpose, self.step, slot, self.part)


@dataclass
class StepOutput:
    """What a method hands to the loop.

    Attributes:
        terms: named loss terms, already weighted; their sum is what is optimised.
        metrics: figures to log that are not optimised. Detached tensors (no `.item()`: that would stall a GPU).
        rest: makes the rest of the step; None: this is all. It is called once the terms have gone backward, so that
            the maps of both parts are never held at once. What it uses of the first part must be detached, else those
            maps stay, or torch refuses to go back through them again. Each part has a term that depends on the
            weights; terms of the same name add up, of metrics the later one stays.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    rest: Callable[[], StepOutput] | None = None

    def whole(self) -> StepOutput:
        """With the rest of the step in it, all of it held at once."""
        if self.rest is None:
            return self
        rest = self.rest().whole()
        added = {name: self.terms[name] + value if name in self.terms else value for name, value in rest.terms.items()}
        return StepOutput(self.terms | added, self.metrics | rest.metrics)

    @property
    def loss(self) -> Tensor:
        """The sum of the terms of this part, a scalar; of all of it: `whole().loss`."""
        import torch

        return torch.stack(list(self.terms.values())).sum()


@dataclass
class Prediction:
    """What a method says about images.

    Attributes:
        probabilities: B x C x S float32, summing to one over C.
        uncertainty: B x 1 x S float32 in (0, 1]: vacuity of the Dirichlet where the method trains it, normalised
            entropy otherwise.
        members: probabilities of the single networks, by name, each B x C x S. Their disagreement is the
            failure score; with them each network can be evaluated by itself.
    """

    probabilities: Tensor
    uncertainty: Tensor
    members: dict[str, Tensor] = field(default_factory=dict)
