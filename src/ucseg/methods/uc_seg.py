"""UC-Seg: uncertainty-aware cross-training (Huang et al., IEEE TIP 34:5543-5556, 2025, doi 10.1109/TIP.2025.3599783).

Two networks of different structure correct each other in feature space (CCP). A learned module (UPG) fuses their
predictions, weighted by the uncertainty of each, into the pseudo-labels that train both.
docs/methods/uc_seg.md maps every equation to a symbol here. Longer than 150 lines: a fifth of the file is settings, one
for every number of the method, so that each part can be switched off alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ucseg import ranks
from ucseg.config import Strict
from ucseg.errors import UserError
from ucseg.losses.consistency import prediction_consistency
from ucseg.losses.contrastive import TEMPERATURE, FeatureMemory, region_consistency
from ucseg.losses.evidential import BETA_START, annealing, calibration_loss
from ucseg.losses.segmentation import (
    completed_label,
    hard_dice,
    label_weight,
    most_likely,
    normalised_probabilities,
    segmentation_loss,
    supervised_loss,
)
from ucseg.method_parts.components import keep_largest
from ucseg.method_parts.mixing import paste, sample_box
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.method_parts.teacher import follow, make_teacher
from ucseg.method_parts.uncertainty import vacuity
from ucseg.methods.base import Method
from ucseg.networks import build_network, member_names
from ucseg.networks.pseudo_label_generator import FUSION_WIDTHS, Gate, PseudoLabelGenerator
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput, Strength

Terms = dict[str, Tensor]


PUBLISHED: dict[str, Any] = {
    "subnets": ("unet", "vnet"),
    "ic_weight": 0.1,
    "residual": False,
    "calibration_detached": False,
    "lambda_max": 15.0,
    "lambda_ramp": 0.6,
    "mixing_start": None,
    "strong_mixing": False,
    "plain_terms": True,
    "unlabelled_start": 0.0,
    "unlabelled_steps": 1.0,
    "fusion_widths": FUSION_WIDTHS,
    "attention_width": None,
}
"""Values of the paper where the defaults are others."""

_Dice = Annotated[float, Field(ge=-1, le=1)]  # -1: any


class UCSegConfig(Strict):
    """Defaults are the published ones unless a comment says otherwise. A weight of zero: without it."""

    preset: Literal["default", "published"] = "default"  # published: the paper's values where nothing else is set
    # DEVIATION: published unet, vnet. The V-Net learns at a fraction of the U-Net's pace. A light second network costs
    # little
    subnets: tuple[str, str] = ("unet_strided", "unet_light")
    upg: bool = True  # false: the mean of the two subnets' logits instead
    gate: Gate = "softmax"  # "published": one unbounded map; "none": plain fusion without uncertainty
    residual: bool = True  # DEVIATION: see PseudoLabelGenerator
    # Channels of the fusion. DEVIATION: published 16, 32, 64, 32, 16, which costs nearly as much as a subnet in 3D
    fusion_widths: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((8, 16, 8), min_length=1, max_length=16)
    # Of a token of the uncertainty maps; null: the published one, 96 in 2D and 1,024 in 3D. DEVIATION: 96
    attention_width: int | None = Field(96, ge=1, le=4096)
    pseudo_label_mode: Literal["train", "evaluation"] = "train"  # dropout and batch statistics on, or off
    component_filter: bool = True  # largest component of pseudo-labels, for the plan's one_component classes
    # Weight of a pseudo-label at a voxel: 1, or 1 - vacuity of the fused prediction, divided by its mean
    confidence: Literal["none", "vacuity"] = "none"
    decay: float = Field(0.0, ge=0, lt=1)  # above 0, the running mean of all weights labels and predicts
    calibration_weight: float = Field(1.0, ge=0, le=1000)
    # CORRECTION: without the gradient of the confidence, which makes right voxels less sure
    calibration_detached: bool = True
    beta_start: float = Field(BETA_START, gt=0, le=1)
    lambda_max: float = Field(1.0, ge=0, le=1000)  # DEVIATION: published 15, which belongs to 50,000 steps
    lambda_ramp: float = Field(0.2, ge=0, le=1)  # share of the steps. DEVIATION: published 0.6, of 50,000 steps
    consistency_weight: float = Field(0.5, ge=0, le=1000)
    ife_weight: float = Field(0.2, ge=0, le=1000)
    # DEVIATION: published 0.1. It compares maps channel by channel, so both networks must have as many
    ic_weight: float = Field(0.0, ge=0, le=1000)
    levels: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field((3, 4, 5), min_length=1, max_length=5)  # of CCP
    temperature: float = Field(TEMPERATURE, gt=0, le=1000)
    memory_entries: int | None = Field(None, ge=1, le=65536)  # null: 1,440 in 2D, 144 in 3D
    memory_threshold: tuple[_Dice, _Dice] | None = None  # Dice at t = 0 and t = T; null: .5, .96 in 2D, .2, .76 in 3D
    mixing: bool = True
    # Share of the steps; null: the published one, 0.24 in 2D and 0.12 in 3D. DEVIATION: 0.1
    mixing_start: float | None = Field(0.1, ge=0, le=1)
    mixing_box: float = Field(2 / 3, gt=0, le=1)
    # DEVIATION: once mixing has started, the terms between the subnets are those of the mixed images alone. Then the
    # unlabelled images need no gradient, which makes a step quicker. true: as published
    plain_terms: bool = False
    # DEVIATION: share of the steps; before it, labelled images alone are seen, in quicker steps
    unlabelled_start: float = Field(0.4, ge=0, le=1)
    # DEVIATION: share of the steps after it that see unlabelled images, evenly spread; published 1
    unlabelled_steps: float = Field(0.5, gt=0, le=1)
    strong_mixing: bool = True  # DEVIATION: mix a strongly changed view of the unlabelled images

    @model_validator(mode="before")
    @classmethod
    def _of_the_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "published":
            return {**PUBLISHED, **values}
        return values


class UCSeg(Method):
    Config = UCSegConfig
    config: UCSegConfig
    views: Mapping[str, Strength] = {"image": "plan", "strong": "strong"}
    # Its pseudo-labels are worth something from the first step on.
    going_on: ClassVar[Mapping[str, Any]] = {"unlabelled_start": 0.0, "mixing_start": 0.0, "lambda_ramp": 0.0}

    def __init__(self, config: UCSegConfig, problem: Problem) -> None:
        if config.preset == "published":
            problem = replace(problem, encoder=None)
        super().__init__(config, problem)
        if not (config.mixing and config.strong_mixing):
            self.views = {"image": "plan"}
        flat = problem.dims == 2
        published_start = 0.24 if flat else 0.12
        self.mixing_start = published_start if config.mixing_start is None else config.mixing_start
        subnets = [build_network(name, problem) for name in config.subnets]
        self.levels = self.shown_levels([subnet.widths for subnet in subnets])
        self.subnets = nn.ModuleList(subnets)
        if config.upg:
            self.upg = PseudoLabelGenerator(
                *(problem.dims, problem.classes, problem.patch, problem.token, config.gate, config.residual),
                *(config.fusion_widths, config.attention_width),
            )
        entries = config.memory_entries or (1440 if flat else 144)
        self.memories = nn.ModuleList(
            FeatureMemory(problem.classes, [subnet.widths[level - 1] for level in self.levels], entries)
            for subnet in subnets
        )
        self.memory_threshold = config.memory_threshold or ((0.5, 0.96) if flat else (0.2, 0.76))
        self.averaged = config.decay > 0
        self.labels_in_training = not self.averaged and config.pseudo_label_mode == "train"
        if self.averaged:
            self.teacher = make_teacher(nn.ModuleList([self.subnets, *([self.upg] if config.upg else [])]))

    @property
    def steady_from(self) -> float:
        return max(self.config.unlabelled_start, self.mixing_start if self.config.mixing else 0.0)

    def shown_levels(self, widths: list[tuple[int, ...]]) -> list[int]:
        """The levels of the CCP terms that both subnets show; a UserError where the terms need more."""
        config = self.config
        # With a plan of small patches there are fewer levels than the setting names.
        levels = [level for level in config.levels if level <= min(map(len, widths))]
        needed = min(config.levels)
        shown = dict(zip(config.subnets, map(len, widths), strict=True))
        lacking = [name for name, count in shown.items() if count < needed]
        if lacking and (config.ife_weight or config.ic_weight):
            raise UserError(
                "subnet-without-maps",
                f"method uc_seg: the terms ife and ic compare encoder maps of level {needed}, and network "
                f"'{lacking[0]}' shows {shown[lacking[0]]} levels; set ife_weight=0 and ic_weight=0, or choose another "
                "network or plan.strides.",
            )
        if config.ic_weight and any(widths[0][level - 1] != widths[1][level - 1] for level in levels):
            one, other = config.subnets
            raise UserError(
                "subnet-widths",
                f"method uc_seg: the encoder maps of '{one}' and '{other}' have different numbers of channels, and the "
                "term ic compares them. Choose other networks, or set ic_weight=0.",
            )
        return levels

    def fuse(self, z: list[Tensor], by_teacher: bool = False) -> Tensor:
        """UPG, steps 1-4: z_p."""
        if not self.config.upg:
            return (z[0] + z[1]) / 2
        generator = self.teacher[1] if by_teacher else self.upg
        fused: Tensor = generator(z[0], z[1], vacuity(z[0]), vacuity(z[1]))
        return fused

    def forward_both(self, image: Tensor, by_teacher: bool = False) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Logits and encoder features of the chosen levels, of both subnets."""
        subnets = cast(nn.ModuleList, self.teacher[0]) if by_teacher else self.subnets
        outputs = [subnet(image) for subnet in subnets]
        return [z for z, _ in outputs], [[f[level - 1] for level in self.levels] for _, f in outputs]

    @torch.no_grad()
    def labeller(self, image: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """`forward_both` of what labels: the teacher if there is one; in evaluation mode if the setting says so."""
        self.train(self.labels_in_training)
        seen = self.forward_both(image, self.averaged)
        self.train()
        return seen

    @torch.no_grad()
    def pseudo_label(self, z: list[Tensor]) -> tuple[Callable[[], Tensor], Tensor | None]:
        """UPG, steps 5-6: y_hat = sg(hard(z_p)), hard() being an argmax over classes (CORRECTION), and its weight.

        y_hat is filtered when it is called for (see `keep_largest`). The unlabelled half goes through the fusion head
        alone: it needs no graph, and that saves half of the head.
        """
        self.train(self.labels_in_training)
        z_p = self.fuse(z, self.averaged)
        self.train()
        label = keep_largest(most_likely(z_p), self.problem.one_component if self.config.component_filter else ())
        if self.config.confidence == "none":
            return label, None
        weight = 1.0 - vacuity(z_p).squeeze(1)
        return label, weight / ranks.mean(weight.mean()).clamp_min(1e-6)

    def sees_unlabelled(self, progress: Progress) -> bool:
        """Whether the step is not one of labelled images alone."""
        share, step = self.config.unlabelled_steps, progress.step
        turn = math.floor((step + 1) * share) > math.floor(step * share)
        return turn and progress.fraction >= self.config.unlabelled_start

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """The total loss, one weighted term each. Those of the mixed images are the rest of the step.

        Once mixing has started, the terms between the subnets are those of the mixed images; with `plain_terms` each is
        the mean of its plain and its mixed value.
        """
        config, labelled, unlabelled = self.config, batch.labelled, batch.unlabelled["image"]
        n = len(labelled)
        if not self.sees_unlabelled(progress):
            z, _ = self.forward_both(labelled)
            return StepOutput(self.supervised_terms(z, self.fuse(z), batch, progress))
        crosses = config.lambda_max or config.consistency_weight or config.ife_weight or config.ic_weight
        mixes = bool(crosses) and config.mixing and progress.fraction >= self.mixing_start
        plain = config.plain_terms or not mixes
        z, features = self.forward_both(torch.cat([labelled, unlabelled]) if plain else labelled)
        if plain and self.labels_in_training:
            z_u, features_u = [z_k[n:] for z_k in z], [[level[n:] for level in of_one] for of_one in features]
        else:
            z_u, features_u = self.labeller(unlabelled)
        y_hat, weight = self.pseudo_label(z_u)
        z_p = self.fuse([z_k[:n] for z_k in z])  # last, so that memory holds no maps of the pseudo-label's pass

        terms = self.supervised_terms([z_k[:n] for z_k in z], z_p, batch, progress)
        between = self.cross_terms(z, features, [z_k[n:] for z_k in z], y_hat(), weight) if plain else {}
        # For the rest of the step, detached: a graph would keep the maps.
        maps = [
            [torch.cat([own[:n].detach(), other]) for own, other in zip(*pair, strict=True)]
            for pair in zip(features, [[level.detach() for level in of_one] for of_one in features_u], strict=True)
        ]
        seen = [z_k[:n].detach() for z_k in z], maps
        y_l = completed_label(batch, most_likely(z_p.detach()))

        def remembered() -> Terms:
            return self.remember(*seen, torch.cat([y_l, y_hat()]), n, progress, batch.annotated)

        if not mixes:
            return StepOutput(terms | self.weighted(between, progress), remembered())

        def rest() -> StepOutput:
            image, target, weight_mixed = self.mix(replace(batch, label=y_l), y_hat(), weight, progress)
            z_mixed, features_mixed = self.forward_both(image)
            mixed = self.cross_terms(z_mixed, features_mixed, z_mixed, target, weight_mixed)
            share = 0.5 if plain else 1.0
            return StepOutput(self.weighted(mixed, progress, share), remembered())

        return StepOutput(terms | self.weighted(between, progress, 0.5), rest=rest)

    def after_update(self, progress: Progress) -> None:
        if self.averaged:
            own = nn.ModuleList([self.subnets, *([self.upg] if self.config.upg else [])])
            follow(self.teacher, own, self.config.decay, progress.step)

    def weighted(self, raw: Terms, progress: Progress, share: float = 1.0) -> Terms:
        """The terms between the subnets, times their weights in the total and `share`."""
        config = self.config
        weights = {
            "pseudo": 0.5 * config.lambda_max * sigmoid_ramp(progress.fraction, config.lambda_ramp),
            "consistency": 0.5 * config.consistency_weight,
            "ife": 0.5 * config.ife_weight,
            "ic": config.ic_weight,
        }
        return {name: share * weights[name.split("_")[0]] * value for name, value in raw.items()}

    def supervised_terms(self, z: list[Tensor], z_p: Tensor, batch: Batch, progress: Progress) -> Terms:
        beta = annealing(progress.fraction, self.config.beta_start)
        terms = {f"supervised_{k + 1}": 0.5 * self.supervised(z_k, batch, beta) for k, z_k in enumerate(z)}
        return terms | {"supervised_fused": self.supervised(z_p, batch, beta)}

    def supervised(self, z: Tensor, batch: Batch, beta: float) -> Tensor:
        """L_sup(z) = CE(z, y) + Dice(sigma(z), y) + L_u(z, y)."""
        loss = supervised_loss(z, batch, self.problem.binary)
        weight = self.config.calibration_weight
        if not weight:
            return loss
        detach = self.config.calibration_detached
        return loss + weight * calibration_loss(z, batch.label, beta, detach=detach, weight=label_weight(batch))

    def cross_terms(
        self, z: list[Tensor], features: list[list[Tensor]], z_target: list[Tensor], y: Tensor, weight: Tensor | None
    ) -> Terms:
        """L_pseudo, L_cons and L_IFE of each subnet, and L_IC, unweighted; `y` is the target of `z_target`."""
        config, binary = self.config, self.problem.binary
        terms: Terms = {}
        for k in (0, 1):
            if config.lambda_max:
                terms[f"pseudo_{k + 1}"] = segmentation_loss(z_target[k], y, binary, weight)
            if config.consistency_weight:
                terms[f"consistency_{k + 1}"] = prediction_consistency(z[k], z[1 - k], binary)
            if config.ife_weight:
                predicted = most_likely(z[k].detach())
                terms[f"ife_{k + 1}"] = self.memory(k).contrast(features[k], predicted, config.temperature)
        if config.ic_weight:
            pairs = zip(*features, strict=True)
            terms["ic"] = torch.stack([region_consistency(a, b, 3, config.temperature) for a, b in pairs]).mean()
        return terms

    def memory(self, k: int) -> FeatureMemory:
        return cast(FeatureMemory, self.memories[k])

    def mix(
        self, batch: Batch, y_hat: Tensor, weight: Tensor | None, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Copy-paste: labelled and unlabelled images in pairs, as many as the smaller half of the batch has.

        With `strong_mixing` the unlabelled part is the strong view, while `y_hat` is the label of the plain one.
        """
        generator = progress.generator("mixing")
        box = sample_box(tuple(y_hat.shape[1:]), self.config.mixing_box, generator)
        n = min(len(batch.label), len(y_hat))
        view = "strong" if self.config.strong_mixing else "image"
        pairs = [(batch.labelled, batch.unlabelled[view]), (batch.label, y_hat)]
        if weight is not None:
            pairs.append((torch.ones_like(batch.label, dtype=weight.dtype), weight))
        turned = torch.rand((), generator=generator) < 0.5
        mixed = [paste(*((b[:n], a[:n]) if turned else (a[:n], b[:n])), box) for a, b in pairs]
        return mixed[0], mixed[1], mixed[2] if weight is not None else None

    @torch.no_grad()
    def remember(
        self,
        z: list[Tensor],
        features: list[list[Tensor]],
        y: Tensor,
        n: int,
        progress: Progress,
        annotated: Tensor | None = None,
    ) -> Terms:
        """Fill the memory of a subnet if its hard Dice on the labelled images is above the rising threshold."""
        first, last = self.memory_threshold
        threshold = first + (last - first) * progress.fraction
        metrics: Terms = {}
        for k in (0, 1):
            dice = hard_dice(z[k][:n], y[:n], annotated)
            metrics[f"dice_{k + 1}"] = dice
            if self.config.ife_weight:
                for half in (slice(n), slice(n, None)):  # batch order, over however many ranks it is spread
                    self.memory(k).push([level[half] for level in features[k]], y[half], dice > threshold)
        return metrics

    def predict(self, image: Tensor) -> Prediction:
        """The method predicts z_p; the two subnets are members."""
        subnets = cast(nn.ModuleList, self.teacher[0]) if self.averaged else self.subnets
        z = [subnet(image)[0] for subnet in subnets]  # without the maps of the first, while the second works
        z_p, binary = self.fuse(z, self.averaged), self.problem.binary
        names = member_names(self.config.subnets)
        members = {name: normalised_probabilities(z_k, binary) for name, z_k in zip(names, z, strict=True)}
        return Prediction(normalised_probabilities(z_p, binary), vacuity(z_p), members)
