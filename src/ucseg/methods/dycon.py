"""DyCON, dynamic uncertainty-aware consistency and contrast (Assefa et al., CVPR 2025, arXiv:2504.04566).

A mean teacher with a consistency that weighs voxels by how sure both networks are (UnCL). A contrast of projected
features looks at hard pairs and at unsure locations (FeCL):

    L_UnCL = mean over voxels  KL(p_t | p_s) / (e^(b H_s) + e^(b H_t)) + b (H_s + H_t),  b(t) = b_0 (b_T / b_0)^(t/T)
    L_FeCL: see losses.contrastive.focal_contrast
    L = L_sup(f(x_l), y) + w(t) (L_UnCL + L_FeCL)

Early b is large: unsure voxels must become sure, and need hardly agree. Later all voxels must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.losses.consistency import uncertain_consistency
from ucseg.losses.contrastive import focal_contrast
from ucseg.losses.segmentation import completed_label, normalised_probabilities, one_hot, supervised_loss
from ucseg.method_parts.perturbation import gaussian_noise
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.method_parts.uncertainty import entropy
from ucseg.methods.base import StudentAndTeacher
from ucseg.networks import build_network
from ucseg.networks.blocks import ADAPTIVE_MEAN, crop_to, pad_to_multiple
from ucseg.networks.unet import UNet
from ucseg.randomness import on_device
from ucseg.types import Batch, Problem, Progress, StepOutput, Strength

_Beta = Annotated[float, Field(gt=0, le=1000)]


class DyCONConfig(Strict):
    """Settings of DyCON; defaults are those of the paper's code unless a comment says otherwise."""

    decay: float = Field(0.99, ge=0, lt=1)
    noise: float = Field(0.1, ge=0, le=1000)  # on the teacher's images: standard deviation, in units of normalised ones
    beta: tuple[_Beta, _Beta] = (5.0, 0.5)  # b at t = 0 and t = T
    temperature: float = Field(0.6, ge=0.05, le=1000)
    gamma: float = Field(2.0, ge=1, le=1000)
    hardest: int = Field(8, ge=1, le=4096)  # features of the teacher that each location is pushed from; our number
    width: int = Field(64, ge=1, le=1024)  # width of the projected features; our number
    samples: int = Field(512, ge=2, le=8192)  # locations of an image, of which all pairs are held in memory; our number
    consistency_weight: float = Field(0.5, ge=0, le=1000)
    contrast_weight: float = Field(0.5, ge=0, le=1000)
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the code has none
    predict_with: Literal["teacher", "student"] = "student"


class ProjectedUNet(nn.Module):
    """A U-Net, and a projection of the coarsest map of its decoder: with five levels, an eighth of the image's size."""

    def __init__(self, problem: Problem, width: int) -> None:
        super().__init__()
        self.network = cast(UNet, build_network("unet", problem))
        coarse = self.network.widths[-2]
        self.project = nn.Sequential(nn.Linear(coarse, coarse), nn.ReLU(), nn.Linear(coarse, width))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits B x C x S and the coarse map B x K x S', of the padded image."""
        decoder = self.network.decoder
        maps = decoder.maps(self.network.encode(image))
        return crop_to(decoder.logits(maps[-1]), tuple(image.shape[2:])), maps[0]

    def embed(self, coarse: Tensor, chosen: Tensor) -> Tensor:
        """Projected features at the chosen locations, B x N x width, L2-normalised."""
        return F.normalize(self.project(coarse.flatten(2).transpose(1, 2)[:, chosen]).float(), dim=2)


def to_grid(x: Tensor, grid: tuple[int, ...], multiple: tuple[int, ...]) -> Tensor:
    """Mean of B x K x S over each cell of the coarse grid, B x K x N. Padded to `multiple`, as the network pads."""
    return ADAPTIVE_MEAN[x.ndim - 2](pad_to_multiple(x, multiple), grid).flatten(2)


class DyCON(StudentAndTeacher):
    Config = DyCONConfig
    config: DyCONConfig
    views: Mapping[str, Strength] = {"student": "plan", "teacher": "plan"}
    student: ProjectedUNet
    teacher: ProjectedUNet

    def __init__(self, config: DyCONConfig, problem: Problem) -> None:
        super().__init__(config, problem, ProjectedUNet(problem, config.width))

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L_sup, L_UnCL and L_FeCL; the last two on all images."""
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        z, coarse = self.student(torch.cat([batch.labelled, batch.unlabelled["student"]]))
        noisy = torch.cat([batch.labelled, batch.unlabelled["teacher"]])
        locations = torch.randperm(coarse[0, 0].numel(), generator=progress.generator("locations"))
        chosen = on_device(locations[: config.samples], z.device)
        with torch.no_grad():
            z_t, coarse_t = self.teacher(gaussian_noise(noisy, config.noise, progress.generator("teacher noise")))
            seen_t = self.teacher.embed(coarse_t, chosen)
            # CORRECTION: the teacher gives the classes of unlabelled locations. The published code takes them from the
            # hidden masks, which it has loaded.
            taught = z_t.argmax(dim=1)
            label = one_hot(torch.cat([completed_label(batch, taught[:n]), taught[n:]]), z.shape[1])
            unsure = entropy(normalised_probabilities(z, binary))
            grid, multiple = tuple(coarse.shape[2:]), self.student.network.multiple
            classes = to_grid(label, grid, multiple).argmax(dim=1)[:, chosen]
            unsure = to_grid(unsure, grid, multiple)[:, 0, chosen]
        first, last = config.beta
        beta = first * (last / first) ** progress.fraction
        seen = self.student.embed(coarse, chosen)
        contrast = focal_contrast(seen, classes, unsure, seen_t, config.temperature, config.gamma, config.hardest)
        weight = sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {
                "supervised": supervised_loss(z[:n], batch, binary),
                "consistency": weight * config.consistency_weight * uncertain_consistency(z, z_t, beta, binary),
                "contrast": weight * config.contrast_weight * contrast,
            }
        )
