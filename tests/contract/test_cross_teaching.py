"""Two networks of different kinds, each taught by the other's hard prediction, through the Dice loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of

from ucseg.losses.segmentation import one_hot
from ucseg.methods.cross_teaching import CrossTeaching
from ucseg.networks.swin_unet import SwinUNet
from ucseg.networks.unet import UNet
from ucseg.types import Batch, Progress


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_is_the_papers_equation(classes: int) -> None:
    method, batch = make(classes)
    image = torch.cat([batch.labelled, batch.unlabelled["image"]])
    found = terms_of(method, batch, seed=3)
    torch.manual_seed(3)
    with torch.no_grad():
        z = [network(image)[0][2:].double() for network in method.networks.values()]
    for k in (0, 1):
        p = z[k].sigmoid() if classes == 2 else z[k].softmax(dim=1)
        target = one_hot(z[1 - k].argmax(dim=1), classes).double()
        dice = [
            2 * (p[:, c] * target[:, c]).sum() / (p[:, c].sum() + target[:, c].sum() + 1e-5) for c in range(classes)
        ]
        expected = method.config.cross_weight * (1 - sum(dice) / classes)
        assert found[f"cross_{k + 1}"] == pytest.approx(float(expected), rel=1e-4)


def test_one_network_is_convolutional_and_the_other_a_transformer_and_both_are_members() -> None:
    method, batch = make()
    assert [type(network) for network in method.networks.values()] == [UNet, SwinUNet]
    with torch.no_grad():
        first = method.eval().predict(batch.labelled)
        method.config = method.config.model_copy(update={"predict_with": "mean"})
        mean = method.predict(batch.labelled)
    assert list(first.members) == list(mean.members) == ["unet", "swin_unet"]
    torch.testing.assert_close(first.probabilities, first.members["unet"])
    torch.testing.assert_close(mean.probabilities, sum(mean.members.values()) / 2)
    assert not torch.equal(first.uncertainty, mean.uncertainty)


def test_each_network_learns_from_the_other_and_gives_it_no_gradient() -> None:
    method, batch = make()
    for name, value in step(method, batch).terms.items():
        for k, network in enumerate(method.networks.values()):
            gradients = torch.autograd.grad(value, list(network.parameters()), retain_graph=True, allow_unused=True)
            assert any(g is not None for g in gradients) == name.endswith(str(k + 1)), name


def test_only_unlabelled_images_are_cross_taught() -> None:
    method, batch = make()
    method.eval()  # in training, batch statistics let every image change every prediction
    usual = terms_of(method, batch)
    other = terms_of(method, dataclasses.replace(batch, labelled=batch.labelled.flip(2)))
    for name, value in usual.items():
        assert (other[name] == pytest.approx(value, rel=1e-6)) == name.startswith("cross")


def test_the_cross_terms_rise_with_the_ramp() -> None:
    method, batch = make()
    early, late = (terms_of(method, batch, progress) for progress in (Progress(0, 100), LATE))
    assert early["cross_1"] == pytest.approx(late["cross_1"] * 0.006738, rel=1e-3)
    assert early["supervised_1"] == late["supervised_1"]


def make(classes: int = 3) -> tuple[CrossTeaching, Batch]:
    problem = make_problem(2, classes)
    method = make_method("cross_teaching", problem)
    assert isinstance(method, CrossTeaching)
    return method, make_batch(method, problem)
