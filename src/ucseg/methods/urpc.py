"""URPC, uncertainty rectified pyramid consistency (Luo et al., MICCAI 2021, arXiv:2012.07042; MedIA 80:102517, 2022).

One network has a head on each map of its decoder. On the unlabelled images the predictions p_s of the S scales, at full
size, are drawn to their mean p_c. A voxel counts less the further a scale is from the mean there:

    L = (1/S) sum_s L_sup(z_s, y) + w(t) (1/S) sum_s [ mean(w_s |p_s - p_c|^2) / mean(w_s) + mean D_s ]
    w_s = exp(-D_s),  D_s = KL(p_s || p_c) = sum_c p_s log(p_s / p_c),  w(t) = weight * ramp(t)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.losses.consistency import rectified_consistency
from ucseg.losses.segmentation import normalised_probabilities, supervised_loss
from ucseg.method_parts.perturbation import channel_dropout, gaussian_noise
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.networks.blocks import CONV, LINEAR, crop_to
from ucseg.networks.unet import UNet
from ucseg.types import Batch, Problem, Progress, StepOutput


class URPCConfig(Strict):
    scales: int = Field(4, ge=2, le=4)  # the finest maps of the decoder; the paper's 4 are all of them
    # DEVIATION: the 2D code perturbs each map in one way: dropout of 0.5, of its strongest voxels, or uniform noise;
    # the 3D code drops channels inside the decoder.
    dropout: float = Field(0.3, ge=0, lt=1)  # dropout of a coarse map's channels, before its head
    noise: float = Field(0.1, ge=0, le=1000)  # standard deviation, of a coarse map, before its head
    consistency_weight: float = Field(0.2, ge=0, le=1000)  # the code's 0.1, beside half of CE + Dice
    ramp: float = Field(1.0, ge=0, le=1)  # share of the steps


class URPC(OneNetwork):
    """See the module's docstring. The network is a U-Net, which predicts with its finest scale."""

    Config = URPCConfig
    config: URPCConfig
    network: UNet

    def __init__(self, config: URPCConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        # The finest scale has the network's own head.
        widths = self.network.decoder.widths[-config.scales : -1]
        self.heads = nn.ModuleList(CONV[problem.dims](width, problem.classes, 1) for width in widths)

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        z = self.pyramid(torch.cat([batch.labelled, batch.unlabelled["image"]]), progress)
        p = torch.stack([normalised_probabilities(z_s[n:], binary) for z_s in z])
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {
                "supervised": torch.stack([supervised_loss(z_s[:n], batch, binary) for z_s in z]).mean(),
                "consistency": weight * rectified_consistency(p),
            }
        )

    def pyramid(self, image: Tensor, progress: Progress) -> list[Tensor]:
        """Logits of each scale at the image's size, coarsest first. All but the finest come from perturbed maps."""
        config, decoder, shape = self.config, self.network.decoder, tuple(image.shape[2:])
        maps = decoder.maps(self.network.encode(image))
        full = tuple(maps[-1].shape[2:])
        logits = []
        for scale, (head, x) in enumerate(zip(self.heads, maps[-config.scales : -1], strict=True)):
            seen = channel_dropout(x, config.dropout, progress.generator("dropout", scale))
            seen = gaussian_noise(seen, config.noise, progress.generator("noise", scale))
            z = F.interpolate(head(seen).float(), size=full, mode=LINEAR[self.problem.dims], align_corners=False)
            logits.append(crop_to(z, shape))
        return [*logits, crop_to(decoder.logits(maps[-1]), shape)]
