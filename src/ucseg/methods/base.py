"""The contract between a method and the rest of ucseg, and the three shapes that most methods share.

A method is its networks plus one `step`. It knows no files, devices, optimisers, loaders or loop.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.losses.segmentation import normalised_probabilities
from ucseg.method_parts.teacher import follow, make_teacher
from ucseg.method_parts.uncertainty import entropy
from ucseg.networks import build_network, build_networks
from ucseg.networks.encoder_unet import EncoderUNet
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput, Strength


class Method(nn.Module, ABC):
    """Base of every method.

    A subclass sets `Config`: the numbers of its equations, with defaults and sources. It also sets `views`: which views
    of the unlabelled images it needs, by name, and how strongly each is changed. Without unlabelled images it is empty.
    An instance sets its own `views` where they depend on settings.
    All state, memories included, is in parameters and buffers: the state dict is the whole method.
    """

    Config: ClassVar[type[Strict]]
    config: Any
    views: Mapping[str, Strength] = {"image": "plan"}
    small_images: ClassVar[bool] = True
    """Whether its first steps may see images of half the size."""

    def __init__(self, config: Strict, problem: Problem) -> None:
        super().__init__()
        self.config = config
        self.problem = problem

    going_on: ClassVar[Mapping[str, Any]] = {}
    """Settings that differ from the defaults where training goes on from a run of the same method: new labels came."""

    @property
    def steady_from(self) -> float:
        """Share of the steps after which all of them cost the same; before, they may be quicker."""
        return 0.0

    @property
    def has_encoder(self) -> bool:
        """Whether a network has an encoder for photographs."""
        return any(isinstance(one, EncoderUNet) for one in self.modules())

    @abstractmethod
    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """One training step's loss terms, already weighted; their sum is what is optimised. Parts: `StepOutput`."""

    def after_update(self, progress: Progress) -> None:
        """Called once after each optimiser update, e.g. to move a teacher."""

    @abstractmethod
    def predict(self, image: Tensor) -> Prediction:
        """Probabilities and uncertainty of images, B x Cin x S, in evaluation mode. Any S."""


class OneNetwork(Method):
    """One network, which predicts: `config.network`, or a U-Net for methods without this setting."""

    network: nn.Module

    def __init__(self, config: Strict, problem: Problem) -> None:
        super().__init__(config, problem)
        self.network = build_network(getattr(config, "network", "unet"), problem)

    def predict(self, image: Tensor) -> Prediction:
        return mean_prediction({"network": self.network(image)[0]}, self.problem.binary)


class SideBySide(Method):
    """Several networks, `config.networks`. The method predicts their mean, and each network is a member."""

    def __init__(self, config: Strict, problem: Problem) -> None:
        super().__init__(config, problem)
        self.networks = build_networks(self.config.networks, problem)

    def logits(self, image: Tensor) -> dict[str, Tensor]:
        """B x C x S of each network, by name."""
        return {name: network(image)[0] for name, network in self.networks.items()}

    def predict(self, image: Tensor) -> Prediction:
        return mean_prediction(self.logits(image), self.problem.binary)


class StudentAndTeacher(Method):
    """A student and a teacher that is the running mean of its weights, by `config.decay`.

    The method predicts with one of them, `config.predict_with`. The student is `config.network` unless it is given.
    """

    student: nn.Module
    teacher: nn.Module

    def __init__(self, config: Strict, problem: Problem, student: nn.Module | None = None) -> None:
        super().__init__(config, problem)
        self.student = student or build_network(self.config.network, problem)
        self.teacher = make_teacher(self.student)

    def after_update(self, progress: Progress) -> None:
        follow(self.teacher, self.student, self.config.decay, progress.step)

    def predict(self, image: Tensor) -> Prediction:
        network = self.teacher if self.config.predict_with == "teacher" else self.student
        return mean_prediction({"network": network(image)[0]}, self.problem.binary)


def mean_prediction(logits: dict[str, Tensor], binary: bool) -> Prediction:
    """The mean of the networks' probabilities; its entropy, divided by log C, is the uncertainty.

    For methods that do not train a meaningful vacuity.

    Args:
        logits: B x C x S by name of network. Several networks are members, a single one is not.
        binary: sigmoids of each class, divided by their sum, instead of softmax.
    """
    members = {name: normalised_probabilities(z, binary) for name, z in logits.items()}
    probabilities = torch.stack(list(members.values())).mean(dim=0)
    # The entropy of a sure prediction is zero, and the contract asks for more than zero.
    uncertainty = (entropy(probabilities) / math.log(probabilities.shape[1])).clamp(1e-6, 1.0)
    return Prediction(probabilities, uncertainty, members if len(members) > 1 else {})
