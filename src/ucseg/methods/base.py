"""The contract between a method and the rest of ucseg, and nothing else.

A method is its networks plus one `step`. It knows no files, devices, optimisers, loaders or loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput, Strength


class Method(nn.Module, ABC):
    """Base of every method.

    A subclass sets `Config` (its equations' numbers, with defaults and sources) and `views` (names of the differently
    augmented views of the unlabelled images that it wants, and how strongly each is changed; none: no such images;
    where settings decide, an instance sets its own).
    All its state, memories included, lives in parameters and buffers, so that saving the state dict saves the method.
    """

    Config: ClassVar[type[Strict]]
    config: Strict
    views: Mapping[str, Strength] = {"image": "plan"}

    def __init__(self, config: Strict, problem: Problem) -> None:
        super().__init__()
        self.config = config
        self.problem = problem

    @abstractmethod
    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """One training step's loss terms, already weighted; their sum is what is optimised. Parts: `StepOutput`."""

    def after_update(self, progress: Progress) -> None:
        """Called once after each optimiser update, e.g. to move a teacher."""

    @abstractmethod
    def predict(self, image: Tensor) -> Prediction:
        """Probabilities and uncertainty of images, B x Cin x S, in evaluation mode. Any S."""
