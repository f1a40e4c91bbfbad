"""Every switch of UC-Seg works, and changes its own part only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from small_cases import ALL_AT_ONCE, LATE, PAPER, make_batch, make_method, make_problem, step, terms_of
from torch import Tensor

from ucseg.losses.contrastive import class_prototypes
from ucseg.losses.evidential import calibration_loss
from ucseg.losses.segmentation import one_hot, segmentation_loss
from ucseg.method_parts.uncertainty import vacuity
from ucseg.methods.uc_seg import UCSeg, UCSegConfig
from ucseg.types import Batch, Progress

PROBLEM = make_problem(2)
EARLY = Progress(0, 100)


def make(settings: dict[str, Any] | None = None, **problem: Any) -> UCSeg:
    return cast(
        UCSeg, make_method("uc_seg", make_problem(2, **problem), {**ALL_AT_ONCE["uc_seg"], **PAPER, **(settings or {})})
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch(UCSeg, PROBLEM)


@pytest.fixture(scope="module")
def usual(batch: Batch) -> dict[str, float]:
    """The terms of the second step, everything on."""
    return second_step(make(), batch)


def second_step(method: UCSeg, batch: Batch, progress: Progress = LATE) -> dict[str, float]:
    """The terms of a step with entries in the memory."""
    with torch.no_grad():
        step(method, batch, EARLY)
    return terms_of(method, batch, progress)


def passes(method: UCSeg, batch: Batch, progress: Progress) -> int:
    """How often a subnet sees images in one step."""
    count = 0

    def hook(*_: object) -> None:
        nonlocal count
        count += 1

    handle = method.subnets[0].register_forward_hook(hook)
    with torch.no_grad():
        step(method, batch, progress)
    handle.remove()
    return count


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("lambda_max", {"pseudo_1", "pseudo_2"}),
        ("consistency_weight", {"consistency_1", "consistency_2"}),
        ("ife_weight", {"ife_1", "ife_2"}),
        ("ic_weight", {"ic"}),
    ],
)
def test_a_weight_of_zero_takes_its_terms_away_and_leaves_the_others(
    switch: str, gone: set[str], batch: Batch, usual: dict[str, float]
) -> None:
    found = second_step(make({switch: 0}), batch)
    assert found == {name: value for name, value in usual.items() if name not in gone}
    assert all(usual[name] > 0 for name in gone)


@pytest.mark.parametrize(
    ("switch", "default", "names"),
    [
        ("lambda_max", 1.0, ("pseudo_1", "pseudo_2")),
        ("consistency_weight", 0.5, ("consistency_1", "consistency_2")),
        ("ife_weight", 0.2, ("ife_1", "ife_2")),
        ("ic_weight", 0.1, ("ic",)),
    ],
)
def test_a_weight_scales_its_terms(
    switch: str, default: float, names: tuple[str, ...], batch: Batch, usual: dict[str, float]
) -> None:
    found = second_step(make({switch: 3 * default}), batch)
    assert found == {name: pytest.approx(value * (3 if name in names else 1)) for name, value in usual.items()}


def test_without_calibration_the_supervised_terms_are_cross_entropy_and_dice(
    batch: Batch, usual: dict[str, float]
) -> None:
    method = make({"calibration_weight": 0})
    found = terms_of(method, batch, EARLY)
    torch.manual_seed(7)
    with torch.no_grad():
        z, _ = method.forward_both(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        for k in (0, 1):
            expected = 0.5 * float(segmentation_loss(z[k][:2], batch.label, binary=False))
            assert found[f"supervised_{k + 1}"] == pytest.approx(expected, rel=1e-5)
    late = second_step(make({"calibration_weight": 0}), batch)
    assert {name for name in usual if usual[name] != late[name]} == {"supervised_1", "supervised_2", "supervised_fused"}


def test_each_term_trains_the_subnet_it_is_for(batch: Batch) -> None:
    """L_pseudo_k, L_cons_k and L_IFE_k only subnet k; IC both encoders; the fused loss both subnets and UPG."""
    method = make()
    with torch.no_grad():
        step(method, batch, EARLY)
        torch.nn.init.normal_(method.upg.fusion[-1].weight)  # it starts at zero
    parts: dict[str, list[Tensor]] = {
        "1": list(method.subnets[0].parameters()),
        "2": list(method.subnets[1].parameters()),
        "upg": list(method.upg.parameters()),
    }
    terms = step(method, batch).terms

    def trained(name: str) -> set[str]:
        found = set()
        for part, parameters in parts.items():
            gradients = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            if any(g is not None and bool((g != 0).any()) for g in gradients):
                found.add(part)
        return found

    assert {name: trained(name) for name in terms} == {
        **{f"{name}_{k}": {k} for name in ("supervised", "pseudo", "consistency", "ife") for k in ("1", "2")},
        "supervised_fused": {"1", "2", "upg"},
        "ic": {"1", "2"},
    }


def test_without_upg_the_mean_of_the_logits_is_the_pseudo_label_and_the_prediction(batch: Batch) -> None:
    method = make({"upg": False})
    assert not any(key.startswith("upg") for key in method.state_dict())
    z = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)]
    assert torch.equal(method.pseudo_label(z)[0](), (z[0] + z[1]).argmax(dim=1))
    method.eval()
    with torch.no_grad():
        z, _ = method.forward_both(batch.labelled)
        prediction = method.predict(batch.labelled)
    torch.testing.assert_close(prediction.probabilities, ((z[0] + z[1]) / 2).softmax(dim=1))
    torch.testing.assert_close(prediction.uncertainty, vacuity((z[0] + z[1]) / 2))
    assert set(second_step(method.train(), batch)) == set(second_step(make(), batch))


@pytest.mark.parametrize("gate", ["softmax", "published", "none"])
def test_the_gate_weighs_by_uncertainty_as_it_says(gate: str, batch: Batch) -> None:
    method = make({"gate": gate})
    terms = second_step(method, batch)
    assert all(math.isfinite(value) for value in terms.values())
    method.eval()
    u_1, u_2 = torch.rand(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, flipped = method.upg.weights(u_1, u_2), method.upg.weights(u_1.flip(2), u_2)
    assert a.shape == (2, 2, 32, 32)
    if gate == "none":
        assert (a == 0.5).all() and not any("attention" in key for key in method.state_dict())
    else:
        assert not torch.equal(a, flipped), "the uncertainty matters"
    if gate == "softmax":
        assert (a > 0).all()
        torch.testing.assert_close(a.sum(dim=1), torch.ones(2, 32, 32))
    if gate == "published":
        assert torch.equal(a[:, 0], a[:, 1]) and bool((a < 0).any()), "one map for both"


def test_the_residual_makes_the_first_prediction_the_weighted_mean_of_both_subnets(batch: Batch) -> None:
    z = [torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)]
    for residual in (True, False):
        method = make({"residual": residual, "gate": "none"}).eval()
        with torch.no_grad():
            same = torch.allclose(method.fuse(z), (z[0] + z[1]) / 2, atol=1e-6)
        assert same == residual
        assert all(math.isfinite(value) for value in second_step(method.train(), batch).values())


def test_without_mixing_the_cross_terms_are_the_plain_ones(batch: Batch, usual: dict[str, float]) -> None:
    assert passes(make(), batch, LATE) == 2
    assert passes(make({"mixing": False}), batch, LATE) == 1
    plain = second_step(make({"mixing": False}), batch)
    assert set(plain) == set(usual)
    changed = {name for name in usual if usual[name] != plain[name]}
    assert changed == {name for name in usual if not name.startswith("supervised")}


def test_each_cross_term_is_the_mean_of_its_plain_and_its_mixed_value(batch: Batch) -> None:
    method = make({"subnets": ("vnet", "vnet"), "upg": False})  # without dropout
    plain = second_step(make({"subnets": ("vnet", "vnet"), "upg": False, "mixing": False}), batch)
    both = second_step(method, batch)
    with torch.no_grad():
        z, _ = method.forward_both(batch.unlabelled["image"])
        y_hat, weight = method.pseudo_label(z)
        image, target, _ = method.mix(batch, y_hat(), weight, LATE)
        z, _ = method.forward_both(image)
        mixed = 0.5 * float(segmentation_loss(z[0], target, binary=False))
    assert both["pseudo_1"] == pytest.approx((plain["pseudo_1"] + mixed) / 2, rel=1e-4)


def test_mixing_pastes_image_and_target_alike_and_in_both_directions() -> None:
    method = make(classes=2)
    ones, zeros = torch.ones(3, 1, 30, 30), torch.zeros(2, 1, 30, 30)
    batch = Batch(ones, ones[:, 0].long(), {"image": zeros})
    shares = []
    for t in range(60):
        image, target, _ = method.mix(batch, zeros[:, 0].long(), None, Progress(t, 100))
        assert image.shape == (2, 1, 30, 30), "pairs of the smaller half"
        assert torch.equal(image[:, 0].long(), target)
        shares.append(round(float(image.mean()), 4))
    box = round((2 / 3) ** 2, 4)
    assert set(shares) == {box, round(1 - box, 4)}
    assert 15 < shares.count(box) < 45


def test_strong_mixing_pastes_the_strong_view_and_says_of_the_plain_one() -> None:
    method = make({"strong_mixing": True}, classes=2)
    assert dict(method.views) == {"image": "plan", "strong": "strong"}
    ones, zeros = torch.ones(2, 1, 30, 30), torch.zeros(2, 1, 30, 30)
    batch = Batch(ones, ones[:, 0].long(), {"image": zeros, "strong": zeros - 5})
    image, target, _ = method.mix(batch, zeros[:, 0].long(), None, Progress(50, 100))
    assert torch.equal(image[:, 0] == -5, target == 0)
    plain = make({"strong_mixing": True, "mixing": False})
    assert dict(plain.views) == {"image": "plan"}, "no unused view"


def two_blobs() -> tuple[list[Tensor], Tensor]:
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[0, 2:10, 2:10] = 1
    label[0, 20:22, 20:22] = 1
    label[0, 28:30, 2:4] = 2
    label[0, 28:30, 20:22] = 2
    z = 9 * one_hot(label, 3)
    return [z, z], label


def test_the_component_filter_leaves_one_piece_of_the_planned_classes() -> None:
    z, label = two_blobs()
    whole = make({"component_filter": False, "upg": False}, one_component=(1,)).pseudo_label(z)[0]()
    assert torch.equal(whole, label)
    filtered = make({"upg": False}, one_component=(1,)).pseudo_label(z)[0]()
    label[0, 20:22, 20:22] = 0
    assert torch.equal(filtered, label), "only class 1 is filtered"
    assert torch.equal(make({"upg": False}).pseudo_label(z)[0](), two_blobs()[1]), "nothing is filtered"


def pseudo_label(method: UCSeg, images: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return method.pseudo_label(method.labeller(images)[0])[0]()


@pytest.mark.parametrize("settings", [{"pseudo_label_mode": "evaluation"}, {"decay": 0.9}])
def test_pseudo_labels_in_evaluation_mode_are_the_prediction(settings: dict[str, Any], batch: Batch) -> None:
    images, method = batch.unlabelled["image"], make(settings)
    statistics = {key: value.clone() for key, value in method.state_dict().items() if "running" in key}
    label = pseudo_label(method, images, 1)
    assert all(module.training for module in method.modules()), "in training mode again"
    after = method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in statistics.items())
    with torch.no_grad():
        predicted = method.eval().predict(images).probabilities.argmax(dim=1)
    assert torch.equal(label, predicted)


def test_pseudo_labels_in_training_mode_have_dropout(batch: Batch) -> None:
    images, method = batch.unlabelled["image"], make()
    assert not torch.equal(pseudo_label(method, images, 1), pseudo_label(method, images, 2))


def test_a_teacher_follows_all_weights_and_predicts(batch: Batch) -> None:
    method = make({"decay": 0.5})
    student = make()
    student.load_state_dict({key: value for key, value in method.state_dict().items() if not key.startswith("teacher")})
    with torch.no_grad():
        for weights in (*method.subnets.parameters(), *method.upg.parameters()):
            weights.add_(0.01)
        own = [value.clone() for value in method.teacher.parameters()]
        method.after_update(Progress(9, 100))
    for before, after in zip(own, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(after, before + 0.005)
    assert not any(value.requires_grad for value in method.teacher.parameters())
    with torch.no_grad():
        assert torch.equal(
            method.eval().teacher[0][0](batch.labelled)[0], method.forward_both(batch.labelled, True)[0][0]
        )
        changed = method.predict(batch.labelled).probabilities
    assert not torch.equal(changed, student.eval().predict(batch.labelled).probabilities.detach())


def test_a_sure_pseudo_label_weighs_more(batch: Batch) -> None:
    method = make({"confidence": "vacuity", "upg": False})
    z = torch.zeros(2, 3, 8, 8)
    z[0, 1] = 20
    z[1, 1] = 2
    _, weight = method.pseudo_label([z, z])
    assert weight is not None and float(weight.mean()) == pytest.approx(1)
    u = vacuity(z)[:, 0]
    torch.testing.assert_close(weight[0] / weight[1], (1 - u[0]) / (1 - u[1]))
    found, usual = second_step(make({"confidence": "vacuity"}), batch), second_step(make(), batch)
    assert {name for name in usual if found[name] != usual[name]} == {"pseudo_1", "pseudo_2"}


def test_without_plain_terms_the_terms_between_the_subnets_are_those_of_mixed_images(batch: Batch) -> None:
    alike = {"subnets": ("vnet", "vnet"), "upg": False}  # without dropout
    plain, both = second_step(make(alike | {"mixing": False}), batch), second_step(make(alike), batch)
    mixed = second_step(make(alike | {"plain_terms": False}), batch)
    for name in ("pseudo_1", "consistency_2", "ic"):
        assert both[name] == pytest.approx((plain[name] + mixed[name]) / 2, rel=1e-4)
    early = second_step(make({"plain_terms": False, "mixing_start": 1.0}), batch)
    assert early == second_step(make({"mixing_start": 1.0}), batch)


@pytest.mark.parametrize(("share", "seen"), [(1.0, range(10)), (0.5, (1, 3, 5, 7, 9)), (0.3, (3, 6, 9))])
def test_a_share_of_the_steps_sees_unlabelled_images(share: float, seen: Sequence[int], batch: Batch) -> None:
    """Evenly spread; every tenth step, which the log shows, is among them."""
    method = make({"unlabelled_steps": share, "mixing_start": 0.0})
    found = [k for k in range(10) if "pseudo_1" in terms_of(method, batch, Progress(k, 100))]
    assert found == list(seen)


@pytest.mark.parametrize("widths", [(8, 16, 8), (4,)])
def test_the_fusion_has_the_channels_of_the_setting(widths: tuple[int, ...]) -> None:
    layers = [layer for layer in make({"fusion_widths": widths}).upg.fusion if hasattr(layer, "out_channels")]
    assert [layer.out_channels for layer in layers] == [*widths, PROBLEM.classes]


@pytest.mark.parametrize("plain", [True, False])
def test_without_any_term_between_the_subnets_they_are_supervised_alone(plain: bool, batch: Batch) -> None:
    off = {"lambda_max": 0, "consistency_weight": 0, "ife_weight": 0, "ic_weight": 0, "plain_terms": plain}
    found = terms_of(make(off), batch)
    assert set(found) == {"supervised_1", "supervised_2", "supervised_fused"}


def test_before_its_start_the_unlabelled_half_is_not_looked_at(batch: Batch) -> None:
    method = make({"unlabelled_start": 0.5})
    assert passes(method, batch, Progress(49, 100)) == 1
    early = terms_of(method, batch, Progress(49, 100))
    assert set(early) == {"supervised_1", "supervised_2", "supervised_fused"}
    other = dataclasses.replace(batch, unlabelled={name: image + 1 for name, image in batch.unlabelled.items()})
    assert terms_of(make({"unlabelled_start": 0.5}), other, Progress(49, 100)) == early
    late = Progress(50, 100)
    assert second_step(make({"unlabelled_start": 0.5}), batch, late).keys() == second_step(make(), batch, late).keys()


def test_the_published_preset_is_the_paper_s_where_nothing_else_is_set() -> None:
    config = UCSegConfig.model_validate({"preset": "published", "lambda_ramp": 0.3})
    assert (config.subnets, config.lambda_max, config.lambda_ramp) == (("unet", "vnet"), 15, 0.3)
    assert (config.strong_mixing, config.plain_terms, config.unlabelled_start) == (False, True, 0)
    starts = [make_method("uc_seg", make_problem(dims), {"preset": "published"}).mixing_start for dims in (2, 3)]
    assert starts == [0.24, 0.12]


def test_calibration_without_the_gradient_of_the_confidence_leaves_right_voxels_sure() -> None:
    """At z = (.5, -.5) and beta = 1 the published gradient lowers the distance of the right class to the other one."""
    pushes = {}
    for detach in (False, True):
        z = torch.tensor([0.5, -0.5]).reshape(1, 2, 1, 1).requires_grad_()
        calibration_loss(z, torch.zeros(1, 1, 1, dtype=torch.long), 1.0, detach=detach).backward()
        assert z.grad is not None
        pushes[detach] = float(z.grad[0, 0] - z.grad[0, 1])
    assert pushes[False] > 0 > pushes[True]


@pytest.mark.parametrize("dims", [2, 3])
def test_pseudo_labels_come_from_the_fused_logits_without_gradient(dims: int) -> None:
    problem = make_problem(dims)
    method = cast(UCSeg, make_method("uc_seg", problem, {"gate": "none"}))
    z = [torch.randn(2, 3, *problem.patch, requires_grad=True) for _ in range(2)]
    later, weight = method.pseudo_label(z)
    label = later()
    assert weight is None
    assert torch.equal(label, (z[0] + z[1]).argmax(dim=1))  # the fusion's last layer starts at zero
    assert label.dtype == torch.int64 and not label.requires_grad


@pytest.mark.parametrize("subnets", [("vnet", "vnet"), ("unet", "unet"), ("vnet", "unet")])
def test_any_pair_of_subnets_is_usable(subnets: tuple[str, str], batch: Batch) -> None:
    method = make({"subnets": subnets})
    assert all(math.isfinite(value) for value in second_step(method, batch).values())
    with torch.no_grad():
        members = method.eval().predict(batch.labelled).members
    assert list(members) == ([subnets[0], f"{subnets[1]}_2"] if subnets[0] == subnets[1] else list(subnets))
    assert not torch.equal(*members.values())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"levels": (2,)}, {"ife_1", "ife_2", "ic"}),
        ({"temperature": 0.1}, {"ife_1", "ife_2", "ic"}),
        ({"memory_entries": 1}, {"ife_1", "ife_2"}),
        ({"beta_start": 0.9}, {"supervised_1", "supervised_2", "supervised_fused"}),
        ({"mixing_box": 0.3}, {"pseudo_1", "pseudo_2", "consistency_1", "consistency_2", "ife_1", "ife_2", "ic"}),
    ],
)
def test_a_number_changes_the_terms_of_its_equation(
    settings: dict[str, Any], names: set[str], batch: Batch, usual: dict[str, float]
) -> None:
    found = second_step(make(settings), batch)
    assert {name for name in usual if found[name] != usual[name]} == names


def test_memories_stay_empty_without_ife_and_below_the_threshold(batch: Batch) -> None:
    for settings, filled in (({}, True), ({"ife_weight": 0}, False), ({"memory_threshold": (1.0, 1.0)}, False)):
        method = make(settings)
        with torch.no_grad():
            output = step(method, batch, LATE)
        written = [buffer for name, buffer in method.named_buffers() if name.endswith("written")]
        assert len(written) == 6 and all(bool(buffer.any()) == filled for buffer in written)
        assert output.metrics["dice_1"].shape == () and not output.metrics["dice_1"].requires_grad
    one_class = dataclasses.replace(batch, label=torch.zeros_like(batch.label))
    assert all(math.isfinite(value) for value in second_step(make(), one_class).values())


def test_a_step_remembers_labelled_images_by_their_mask_and_unlabelled_ones_by_their_pseudo_label(batch: Batch) -> None:
    """After one step each class has as many entries as there are images in which mask or pseudo-label has it."""
    method = make({"subnets": ("vnet", "vnet"), "upg": False, "mixing": False})
    with torch.no_grad():
        z, features = method.forward_both(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        y = torch.cat([batch.label, method.pseudo_label([z_k[2:] for z_k in z])[0]()])
        step(method, batch)
    for k in (0, 1):
        found = class_prototypes(features[k], y, 3)
        for (prototypes, present), memory in zip(found, method.memory(k).levels(), strict=True):
            assert int(present[2:, 1:].sum()) > 0, "foreground is pseudo-labelled"
            for c in range(3):
                expected = prototypes[:, c][present[:, c]]
                torch.testing.assert_close(memory.values[c, : len(expected)], expected)
                assert int(memory.written[c]) == len(expected)
