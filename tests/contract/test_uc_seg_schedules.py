"""UC-Seg's schedules at the published numbers (ramp, memory threshold, mixing start), and its first gradients."""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from small_cases import ALL_AT_ONCE, PAPER, make_batch, make_method, make_problem, step, terms_of
from torch import Tensor

from ucseg.losses.consistency import prediction_consistency
from ucseg.losses.contrastive import class_prototypes, region_consistency
from ucseg.losses.evidential import calibration_loss
from ucseg.losses.segmentation import segmentation_loss
from ucseg.methods.uc_seg import UCSeg, UCSegConfig
from ucseg.types import Progress


@pytest.mark.parametrize("ramp", [0.6, 0.25])
def test_cross_pseudo_supervision_is_ramped_up_and_nothing_else_is(ramp: float) -> None:
    problem = make_problem(2)
    method = make_method("uc_seg", problem, {**PAPER, "mixing": False, "lambda_max": 15, "lambda_ramp": ramp})
    batch = make_batch(UCSeg, problem)
    end = terms_of(method, batch, Progress(100, 100))
    for t in (0, 10, 30, 60, 80):
        now = terms_of(method, batch, Progress(t, 100))
        expected = math.exp(-5 * (1 - min(1.0, t / (100 * ramp))) ** 2)
        for k in (1, 2):
            assert now[f"pseudo_{k}"] == pytest.approx(expected * end[f"pseudo_{k}"], rel=1e-5)
            assert now[f"consistency_{k}"] == end[f"consistency_{k}"]
        assert now["ic"] == end["ic"]
    start = terms_of(method, batch, Progress(0, 100))
    assert start["pseudo_1"] == pytest.approx(0.006737947 * end["pseudo_1"], rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_total_is_the_papers(classes: int) -> None:
    """0.5 sum_k [L_sup + lambda L_pseudo + 0.5 L_cons + 0.2 L_IFE] + L_sup(z_p) + 0.1 L_IC, from its parts by hand."""
    problem, binary = make_problem(2, classes, width=16), classes == 2
    # Without dropout, and with the mean for UPG, every part can be had from outside.
    settings = {
        **ALL_AT_ONCE["uc_seg"],
        **PAPER,
        "subnets": ("vnet", "vnet"),
        "upg": False,
        "mixing": False,
        "lambda_max": 3,
    }
    method = cast(UCSeg, make_method("uc_seg", problem, settings))
    batch = make_batch(UCSeg, problem, 2, 3)
    with torch.no_grad():
        step(method, batch, Progress(0, 100))
    found = terms_of(method, batch, Progress(70, 100))

    y, beta = batch.label, 0.01**0.3
    with torch.no_grad():
        z, features = method.forward_both(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        z_p = (z[0] + z[1]) / 2
        y_hat = z_p[2:].argmax(dim=1)

        def supervised(logits: Tensor) -> float:
            return float(segmentation_loss(logits, y, binary) + calibration_loss(logits, y, beta))

        expected = {"supervised_fused": supervised(z_p[:2])}
        for k in (0, 1):
            expected[f"supervised_{k + 1}"] = 0.5 * supervised(z[k][:2])
            expected[f"pseudo_{k + 1}"] = 0.5 * 3 * float(segmentation_loss(z[k][2:], y_hat, binary))
            expected[f"consistency_{k + 1}"] = 0.5 * 0.5 * float(prediction_consistency(z[k], z[1 - k], binary))
            contrasts = [
                float(memory.contrast(*class_prototypes([f], z[k].argmax(dim=1), classes)[0], 0.3))
                for f, memory in zip(features[k], method.memory(k).levels(), strict=True)
            ]
            assert len(contrasts) == 3 and all(contrasts)
            expected[f"ife_{k + 1}"] = 0.5 * 0.2 * sum(contrasts) / 3
        regions = [float(region_consistency(a, b, 3, 0.3)) for a, b in zip(*features, strict=True)]
        assert [f.shape[1] for f in features[0]] == [64, 128, 256]
        expected["ic"] = 0.1 * sum(regions) / 3
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("dims", "entries"), [(2, 1440), (3, 144)])
def test_the_memory_has_the_published_entries_of_levels_three_to_five(dims: int, entries: int) -> None:
    method = cast(UCSeg, make_method("uc_seg", make_problem(dims, width=16), {"subnets": ("unet", "vnet")}))
    for k in (0, 1):
        assert [(m.entries, m.values.shape[2]) for m in method.memory(k).levels()] == [
            (entries, 64),
            (entries, 128),
            (entries, 256),
        ]


def logits_of_dice(overlap: int, voxels: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """One image whose prediction has `overlap` of the label's `voxels` foreground voxels and no others."""
    label, predicted = torch.zeros(2, math.prod(shape), dtype=torch.long)
    label[:voxels], predicted[:overlap] = 1, 1
    z = torch.nn.functional.one_hot(predicted, 2).T.reshape(1, 2, *shape).float()
    return z, label.reshape(1, *shape)


@pytest.mark.parametrize(
    ("dims", "fraction", "dice", "fills"),
    [  # 0.5 + 0.46 t / T in 2D, 0.2 + 0.56 t / T in 3D
        (2, 0.0, 0.49, False),
        (2, 0.0, 0.51, True),
        (2, 0.5, 0.72, False),
        (2, 0.5, 0.74, True),
        (2, 1.0, 0.95, False),
        (2, 1.0, 0.97, True),
        (3, 0.0, 0.19, False),
        (3, 0.0, 0.21, True),
        (3, 0.5, 0.47, False),
        (3, 0.5, 0.49, True),
        (3, 1.0, 0.75, False),
        (3, 1.0, 0.77, True),
    ],
)
def test_the_memory_fills_once_the_labelled_dice_is_above_the_rising_threshold(
    dims: int, fraction: float, dice: float, fills: bool
) -> None:
    problem = make_problem(dims, classes=2, width=16)
    config = UCSegConfig(subnets=("unet", "unet"), levels=(1,), upg=False)
    method = UCSeg(config, problem)
    shape = (20, 20) if dims == 2 else (20, 5, 4)
    # 2 o / (v + o) = dice with v = 200 voxels.
    z, label = logits_of_dice(round(200 * dice / (2 - dice)), 200, shape)
    features = [[torch.rand(2, 16, *shape)]] * 2
    unlabelled = torch.zeros_like(label)
    unlabelled[..., 0] = 1
    wrong = logits_of_dice(0, 200, shape)[0]
    metrics = method.remember(
        [z, wrong], features, torch.cat([label, unlabelled]), 1, Progress(round(1000 * fraction), 1000)
    )
    assert float(metrics["dice_1"]) == pytest.approx(dice, abs=0.005)
    assert float(metrics["dice_2"]) == 0.0
    written = [method.memory(k).levels()[0].written.tolist() for k in (0, 1)]
    assert written == [[2, 2] if fills else [0, 0], [0, 0]]  # labelled and pseudo-labelled, of each subnet


@pytest.mark.parametrize(("dims", "start"), [(2, 12_000), (3, 6_000)])
def test_mixing_begins_at_the_published_step(dims: int, start: int) -> None:
    problem = make_problem(dims, classes=2)
    method = cast(UCSeg, make_method("uc_seg", problem, {**PAPER, "mixing_start": start / 50_000}))
    batch = make_batch(UCSeg, problem, 1, 1)
    seen: list[int] = []
    method.subnets[1].register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    with torch.no_grad():
        step(method, batch, Progress(start - 1, 50_000))
        assert seen == [2]
        step(method, batch, Progress(start, 50_000))
    assert seen == [2, 2, 1]


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_mixing_start_can_be_set(fraction: float) -> None:
    problem = make_problem(2)
    method = cast(UCSeg, make_method("uc_seg", problem, {**PAPER, "mixing_start": fraction}))
    seen: list[int] = []
    method.subnets[1].register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        for t in (0, 49, 50):
            step(method, make_batch(UCSeg, problem), Progress(t, 100))
    assert len(seen) == (6 if fraction == 0 else 4)


def contrast_to_supervision(dims: int, classes: int) -> dict[str, float]:
    """Norm of each weighted contrast term's gradient in an encoder, over the supervised one's, at the second step."""
    # In 3D a larger patch: over the two voxels of the smallest one's lowest level, instance norm says nothing.
    problem = dataclasses.replace(make_problem(dims, classes), patch=(32, 32) if dims == 2 else (32, 32, 32))
    alike = {"subnets": ("unet", "unet_strided"), "ic_weight": 0.1, "mixing": False, "upg": False}
    method = cast(UCSeg, make_method("uc_seg", problem, {**ALL_AT_ONCE["uc_seg"], **alike}))
    count = 2 if dims == 2 else 1
    with torch.no_grad():
        step(method, make_batch(UCSeg, problem, count, count, seed=1), Progress(0, 100))
    terms = step(method, make_batch(UCSeg, problem, count, count, seed=2), Progress(1, 100)).terms
    ratios = {}
    for k in (0, 1):
        parameters = list(method.subnets[k].encoder.parameters())
        norms = {}
        for name in (f"supervised_{k + 1}", f"ife_{k + 1}", "ic"):
            found = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            norms[name] = float(torch.stack([g.norm() for g in found if g is not None]).norm())
        supervised = norms.pop(f"supervised_{k + 1}")
        ratios |= {f"{name} in subnet {k + 1}": norm / supervised for name, norm in norms.items()}
    return ratios


@pytest.mark.parametrize(("dims", "classes"), [(2, 2), (2, 4), (3, 2)])
def test_contrast_does_not_drown_supervision_at_the_start(dims: int, classes: int) -> None:
    ratios = contrast_to_supervision(dims, classes)
    print(ratios)
    assert all(0 < ratio < 3 for ratio in ratios.values()), ratios


def test_without_normalisation_contrast_would_drown_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the features are normalised, and that the test above can fail."""
    monkeypatch.setattr(F, "normalize", lambda x, *_, **__: x)
    ratios = contrast_to_supervision(2, 2)
    print(ratios)
    assert max(ratios.values()) > 10, ratios
