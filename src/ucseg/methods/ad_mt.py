"""AD-MT, alternate diverse teaching (Zhao, Wang, Wang, Yuan & Zhou, ECCV 2024, arXiv:2311.17325).

Two teachers follow one student in turns of random length (RPA). In the first teacher's turn the student learns from
strongly changed images, in the other turn from CutMix. So the teachers become different.
Their label is the mean of both, each weighted by how sure it is (CCM):

    p^ = sum_k e^(-H(p_k)) p_k / sum_k e^(-H(p_k)),  y^ = argmax p^
    where the teachers disagree, and the student disagrees with y^ and is surer:  y^ = its class of the weak view
    L = L_sup(f(x_l), y) + w(t) mean over sure voxels [1, or v where the teachers disagree] l(f(x_s), y^)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ucseg import ranks
from ucseg.config import Strict
from ucseg.losses.consistency import PseudoLoss, pseudo_label_loss
from ucseg.losses.segmentation import most_likely, normalised_probabilities, supervised_loss
from ucseg.method_parts.mixing import cutmix, sample_cutmix_boxes
from ucseg.method_parts.schedules import alternation, sigmoid_ramp
from ucseg.method_parts.teacher import follow, make_teacher
from ucseg.method_parts.uncertainty import entropy
from ucseg.methods.base import Method, mean_prediction
from ucseg.networks import build_network
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput, Strength


class ADMTConfig(Strict):
    """Settings of AD-MT; defaults are those of the paper's code unless a comment says otherwise."""

    network: str = "unet"
    period: int = Field(20, ge=1, le=10**9)  # longest turn in steps; published: half an epoch, 50 on ACDC, 19 on LA
    decay: float = Field(0.99, ge=0, lt=1)
    threshold: float | None = Field(None, ge=0, le=1)  # least confidence; null: 0.95 in 2D, 0.8 in 3D
    loss: PseudoLoss | None = None  # l; null: "dice" in 2D, "ce" in 3D
    conflict_weight: float = Field(1.0, ge=0, le=1000)  # v
    pseudo_weight: float = Field(2.0, ge=0, le=1000)  # beside half of L_sup in the code
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. The code's: 0.25 to 0.4
    predict_with: Literal["student", "teachers"] = "student"


class ADMT(Method):
    Config = ADMTConfig
    config: ADMTConfig
    views: Mapping[str, Strength] = {"weak": "weak", "strong": "strong"}

    def __init__(self, config: ADMTConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.student = build_network(config.network, problem)
        # DEVIATION: here each teacher is a copy of the student after its first step. The code starts the teachers from
        # random weights, and copies the student for a while.
        self.teachers = nn.ModuleList(make_teacher(self.student) for _ in range(2))
        flat = problem.dims == 2
        self.threshold = (0.95 if flat else 0.8) if config.threshold is None else config.threshold
        self.loss: PseudoLoss = config.loss or ("dice" if flat else "ce")

    def turn(self, progress: Progress) -> tuple[int, int]:
        """Which teacher follows in this step, 0 or 1, and how many steps it had before."""
        return alternation(progress, self.config.period, "turns of teachers")

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary = self.config, self.problem.binary
        weak = batch.unlabelled["weak"]
        boxes = None
        if self.turn(progress)[0]:
            boxes = sample_cutmix_boxes(tuple(weak.shape[2:]), len(weak), progress.generator("cutmix"), rate=1.0)
        changed = cutmix(weak, boxes) if boxes else batch.unlabelled["strong"]
        z, _ = self.student(torch.cat([batch.labelled, weak, changed]))
        z_l, z_w, z_s = z.split([len(batch.labelled), len(weak), len(weak)])
        label, confidence, conflict = self.combat(weak, z_w.detach())
        sure = (confidence >= self.threshold).float()
        weight = sure * torch.where(conflict, config.conflict_weight, 1.0) / ranks.mean(sure.mean()).clamp_min(1e-6)
        if boxes:
            label, weight = cutmix(label, boxes), cutmix(weight, boxes)
        pseudo = pseudo_label_loss(z_s, label, weight, binary, self.loss)
        ramp = config.pseudo_weight * sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {"supervised": supervised_loss(z_l, batch, binary), "pseudo": ramp * pseudo},
            {"sure": sure.mean(), "conflict": conflict.float().mean()},
        )

    @torch.no_grad()
    def combat(self, image: Tensor, z_student: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """CCM: y^, its confidence, and where the teachers disagree (bool), each B_u x S.

        CORRECTION: the published 2D code weights both teachers by the sum of their entropies, so both weigh the same;
        its 3D code is as here. Both codes compare labels after CutMix with labels of the student before it.
        """
        binary = self.problem.binary
        p = torch.stack([normalised_probabilities(teacher(image)[0], binary) for teacher in self.teachers])
        share = torch.stack([-entropy(one) for one in p]).softmax(dim=0)
        confidence, label = (share * p).sum(dim=0).max(dim=1)
        conflict = most_likely(p[0]) != most_likely(p[1])
        own_confidence, own_label = normalised_probabilities(z_student, binary).max(dim=1)
        surer = conflict & (own_label != label) & (own_confidence > confidence)
        return torch.where(surer, own_label, label), torch.where(surer, own_confidence, confidence), conflict

    def after_update(self, progress: Progress) -> None:
        turn, before = self.turn(progress)
        follow(self.teachers[turn], self.student, self.config.decay, before)

    def predict(self, image: Tensor) -> Prediction:
        networks: dict[str, nn.Module] = {"student": self.student}
        if self.config.predict_with == "teachers":
            networks = {f"teacher_{k + 1}": teacher for k, teacher in enumerate(self.teachers)}
        return mean_prediction({name: network(image)[0] for name, network in networks.items()}, self.problem.binary)
