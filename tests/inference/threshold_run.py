"""A run on disk whose method is as plain as can be: what is bright in the (normalised) image is foreground."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.inference.scan_predictor import GROWTH
from ucseg.methods import METHODS
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan, write_plan
from ucseg.training.checkpoint import save_weights
from ucseg.training.run_folder import RunFolder
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput

BRIGHT, DARK = 0.25, 0.75
"""Uncertainty in the foreground and in the background."""


class Threshold(Method):
    """Class 1 where the mean over the channels is above the level, class 0 elsewhere; two members of other levels."""

    class Config(Strict):
        level: float = 0.5

    def __init__(self, config: Config, problem: Problem) -> None:
        super().__init__(config, problem)
        self.level = nn.Parameter(torch.tensor(float(config.level)))

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        raise NotImplementedError

    def _at(self, image: Tensor, level: Tensor) -> Tensor:
        bright = (image.mean(dim=1, keepdim=True) > level).float()
        return torch.cat([1 - bright, bright], dim=1)

    def predict(self, image: Tensor) -> Prediction:
        assert image.ndim == 2 + self.problem.dims
        edges = zip(self.problem.patch, image.shape[2:], strict=True)
        assert all(patch <= edge <= GROWTH * patch for patch, edge in edges)
        probabilities = self._at(image, self.level)
        uncertainty = BRIGHT + (DARK - BRIGHT) * probabilities[:, :1]
        members = {"low": self._at(image, self.level - 0.25), "high": self._at(image, self.level + 0.25)}
        return Prediction(probabilities, uncertainty, members)


def plan_3d(**changes: object) -> Plan:
    values: dict[str, object] = {
        "dims": 3,
        "unit": "mm",
        "spacing": (1.0, 1.5, 3.0),
        "patch": (16, 16, 16),
        "token": (8, 8, 8),
        "labelled_batch": 2,
        "unlabelled_batch": 2,
        "channels": 1,
        "classes": {0: "background", 1: "organ"},
        "normalisation": "unit",
    }
    return Plan.model_validate(values | changes)


def plan_2d(**changes: object) -> Plan:
    values: dict[str, object] = {
        "dims": 2,
        "unit": "px",
        "spacing": (1.0, 1.0),
        "patch": (16, 16),
        "token": (8, 8),
        "normalisation": "unit",
    }
    return plan_3d(**(values | changes))


def make_run(folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder as training leaves it, made by training's own writers."""
    monkeypatch.setitem(METHODS, "threshold", Threshold)
    method = Threshold(Threshold.Config(), plan.problem)
    run = RunFolder(folder)
    method_settings = {"name": "threshold", "config": {"level": 0.5}}
    config = {"dataset": "DATA", "method": method_settings, "problem": asdict(plan.problem)}
    run.begin(config, lambda path: write_plan(plan, path))
    save_weights(run, "last", method.state_dict(), {"step": 1})
    return folder
