"""A method and a data stream so small that a run takes a second, yet with all that a run must keep.

Dropout draws from the global generator, batch norm has running buffers, a memory is written by the step, a teacher
follows by momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucseg import ranks
from ucseg.config import Strict
from ucseg.methods.base import Method
from ucseg.randomness import derive_seed, torch_generator
from ucseg.training.outcome import FitResult, StepReport
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.trainer import fit
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput, Strength


class TinyConfig(Strict):
    width: int = 8
    poison_step: int | None = None


class TinyMethod(Method):
    """Student with dropout and batch norm, teacher by momentum, a memory buffer."""

    Config = TinyConfig
    views: Mapping[str, Strength] = {"image": "plan"}

    def __init__(self, config: TinyConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.config = config
        self.student, self.teacher = self._network(), self._network().requires_grad_(False)
        self.memory: Tensor
        self.register_buffer("memory", torch.zeros(4))

    def _network(self) -> nn.Module:
        three = self.problem.dims == 3
        conv = nn.Conv3d if three else nn.Conv2d
        norm = nn.BatchNorm3d if three else nn.BatchNorm2d
        width = self.config.width
        return nn.Sequential(
            conv(self.problem.channels, width, 3, padding=1),
            norm(width),
            nn.LeakyReLU(),
            nn.Dropout(0.3),
            conv(width, self.problem.classes, 3, padding=1),
        )

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self.student(batch.labelled).float()
        supervised = F.cross_entropy(logits, batch.label)
        if self.config.poison_step == progress.step:
            supervised = supervised * float("nan")
        with torch.no_grad():
            target = self.teacher(batch.unlabelled["image"]).float().softmax(1)
        consistency = progress.fraction * F.mse_loss(self.student(batch.unlabelled["image"]).float().softmax(1), target)
        self.memory[progress.step % 4] = ranks.mean(logits.detach().mean())
        return StepOutput({"supervised": supervised, "consistency": consistency}, {"memory": self.memory.mean()})

    def after_update(self, progress: Progress) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 0.1)

    def predict(self, image: Tensor) -> Prediction:
        probabilities = self.student(image).float().softmax(1)
        return Prediction(probabilities, 1 - probabilities.amax(1, keepdim=True))


def problem(dims: int = 2) -> Problem:
    return Problem(dims=dims, channels=1, classes=2, patch=(8,) * dims, token=(4,) * dims)


def make_method(seed: int = 0, dims: int = 2, **settings: object) -> TinyMethod:
    torch.manual_seed(derive_seed(seed, "weights"))
    return TinyMethod(TinyConfig.model_validate(settings), problem(dims))


def batches(seed: int = 0, dims: int = 2) -> Callable[[int], Iterator[Batch]]:
    """A loader factory whose batch is a function of the step."""

    def loader(start: int) -> Iterator[Batch]:
        step = start
        while True:
            generator = torch_generator(seed, "batch", step)
            image = torch.randn((2, 1, *(8,) * dims), generator=generator)
            label = (image[:, 0] > 0).long()
            other = torch.randn((3, 1, *(8,) * dims), generator=generator)
            yield Batch(image, label, {"image": other}, [f"l{step}a", f"l{step}b"], [f"u{step}"])
            step += 1

    return loader


def validate(method: Method, _at_end: bool = False) -> dict[str, float]:
    """Dice on a fixed image; asserts what validation may count on."""
    assert not method.training
    assert not torch.is_grad_enabled()
    image = torch.randn((1, 1, *(8,) * method.problem.dims), generator=torch_generator(0, "validation"))
    mask = image[:, 0] > 0
    found = method.predict(image).probabilities[:, 1] > 0.5
    return {"dice": float(2 * (mask & found).sum() / (mask.sum() + found.sum()))}


def run_config(config: TrainConfig, **method: object) -> dict[str, object]:
    return {
        "dataset": "DATA",
        "method": {"name": "tiny", "config": TinyConfig.model_validate(method).model_dump()},
        "train": config.model_dump(mode="json"),
    }


def train(
    folder: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    dims: int = 2,
    loader: Any = None,
    on_step: Callable[[StepReport], None] | None = None,
    **method: object,
) -> FitResult:
    """Begin or resume a tiny run in a folder."""
    run = RunFolder(folder)
    if resume:
        run.resume(run_config(config, **method))
    else:
        run.begin(run_config(config, **method))
    model = make_method(config.seed, dims, **method)
    return fit(model, loader or batches(config.seed, dims), run, config, validate, on_step=on_step)
