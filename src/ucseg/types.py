"""What data and methods exchange: what a network must know, a batch, a step and a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from ucseg.randomness import torch_generator

if TYPE_CHECKING:  # half of the verbs do not need torch, and its import takes longer than they do
    import torch
    from torch import Tensor

Array = npt.NDArray[Any]
Strides = tuple[tuple[int, ...], ...]
"""How much each axis shrinks from one encoder level to the next: a row for each step down, 1 or 2 for each axis."""
# How the intensities of a view of the unlabelled images are changed. "weak": not at all; "plan": as those of labelled
# images; "strong": as weak-to-strong methods need it. All views of an image have the same geometry.
Strength = Literal["weak", "plan", "strong"]


Norm = Literal["batch", "instance"]
EFFNET, TIMM = "effnet_lite0", "timm:"
"""How the names of encoders begin."""
NOT_ANNOTATED = 255
"""What a label holds where nobody has said what is there. It is no class: those end at 254."""
LEAST_ANNOTATED = 0.25
"""A voxel of a coarser grid is annotated where more than this part of it is: thin lines and single slices stay."""


@dataclass(frozen=True)
class Problem:
    """What a network must know about the data.

    Attributes:
        dims: 2 or 3.
        channels: channels of an image.
        classes: number of classes C, background included.
        patch: S of a training patch, in voxels.
        token: edge lengths of the patches into which the pseudo-label generator cuts the uncertainty maps.
        one_component: classes that are one connected component in a scan (for the component filter).
        strides: from one encoder level of the networks to the next. None: five levels, each half of the one above.
        width: channels of the finest level; each level has twice as many as the one above.
        norm: of the networks in 2D. In 3D, where batches are small, it is always "instance".
        dropout: whether U-Nets and encoders have the dropout of the paper.
        encoder: what "unet" and "unet_strided" are built on, e.g. "effnet_lite0"; None: on none.
    """

    dims: int
    channels: int
    classes: int
    patch: tuple[int, ...]
    token: tuple[int, ...]
    one_component: tuple[int, ...] = ()
    strides: Strides | None = None
    width: int = 16
    norm: Norm = "batch"
    dropout: bool = True
    encoder: str | None = None

    @property
    def binary(self) -> bool:
        """One foreground class: a sigmoid for each class. Otherwise: softmax over the classes."""
        return self.classes == 2


@dataclass
class Batch:
    """One step's data. There is no field for the labels of the unlabelled images: they cannot reach a method.

    Attributes:
        labelled: B_l x Cin x S float32.
        label: B_l x S int64.
        unlabelled: a B_u x Cin x S tensor for each view of the method. Views share geometry, not intensities.
            Without views there is no unlabelled half.
        labelled_cases, unlabelled_cases: names, for error messages only.
        annotated: B_l x S float32, one where `label` counts and zero where nothing was annotated (`label` may hold
            anything there). None: all of it counts. Either it is None in all batches of a run, or in none.
    """

    labelled: Tensor
    label: Tensor
    unlabelled: dict[str, Tensor]
    labelled_cases: list[str] = field(default_factory=list)
    unlabelled_cases: list[str] = field(default_factory=list)
    annotated: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """The place in training. Schedules are functions of it, and so is every random draw of a method.

    Attributes:
        step: updates done.
        total: T, updates to make.
        seed: of the run.
        part: number of the piece, if the gradients of an update are accumulated. Each piece has its own draws; the
            processes that share a piece have the same ones.
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
        """A CPU generator for the draw `purpose` of this step."""
        return torch_generator(self.seed, purpose, self.step, slot, self.part)


@dataclass
class StepOutput:
    """What a method gives to the loop.

    Attributes:
        terms: loss terms by name, already weighted; the loop optimises their sum.
        metrics: figures to log, which are not optimised. Detached tensors (no `.item()`: that would stall a GPU).
        rest: makes the rest of the step; None: there is none. The loop calls it after the backward pass of the terms,
            so that memory never holds the maps of both parts. Detach what it uses of the first part: else its maps
            stay, or torch refuses a second backward pass. Each part has a term that depends on the weights. Terms of
            the same name are added; of metrics the later one stays.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    rest: Callable[[], StepOutput] | None = None

    def whole(self) -> StepOutput:
        """This part and the rest of the step together, both in memory at once."""
        if self.rest is None:
            return self
        rest = self.rest().whole()
        added = {name: self.terms[name] + value if name in self.terms else value for name, value in rest.terms.items()}
        return StepOutput(self.terms | added, self.metrics | rest.metrics)

    @property
    def loss(self) -> Tensor:
        """The sum of the terms of this part, a scalar. That of the whole step: `whole().loss`."""
        import torch

        return torch.stack(list(self.terms.values())).sum()


@dataclass
class Prediction:
    """The prediction of a method for images.

    Attributes:
        probabilities: B x C x S float32, summing to one over C.
        uncertainty: B x 1 x S float32 in (0, 1]: vacuity of the Dirichlet if the method trains it, else normalised
            entropy.
        members: probabilities of the single networks, by name, each B x C x S. How far they differ is a
            score of the case, and each network can be evaluated alone.
        spread: B x 1 x S: variance of the probabilities over mirrored passes, summed over the classes. Methods leave it
            out: who mirrors adds it.
    """

    probabilities: Tensor
    uncertainty: Tensor
    members: dict[str, Tensor] = field(default_factory=dict)
    spread: Tensor | None = None


def is_encoder(name: str) -> bool:
    """Whether this is the name of an encoder that photographs were learned with: alone, or with a file."""
    return name.startswith(TIMM) or name.partition(":")[0] == EFFNET
