"""The baseline on the same footing: UC-Seg's supervised loss for each network, and the mean of what they predict."""

from __future__ import annotations

import pytest
import torch
from small_cases import make_batch, make_method, make_problem, terms_of

from ucseg.losses.evidential import calibration_loss
from ucseg.losses.segmentation import segmentation_loss
from ucseg.method_parts.uncertainty import vacuity
from ucseg.methods.supervised import Supervised
from ucseg.types import Progress


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0])
def test_each_network_has_the_supervised_loss_of_uc_seg(classes: int, weight: float) -> None:
    problem = make_problem(2, classes)
    method = make_method("supervised", problem, {"networks": ("vnet",), "calibration_weight": weight})
    assert isinstance(method, Supervised)
    batch = make_batch(method, problem)
    with torch.no_grad():
        z, _ = method.networks["vnet"](batch.labelled)
        plain, calibration = segmentation_loss(z, batch.label, classes == 2), calibration_loss(z, batch.label, 0.1)
    found = terms_of(method, batch, Progress(50, 100))
    assert found == {"supervised_vnet": pytest.approx(float(plain + weight * calibration), rel=1e-5)}


def test_the_baseline_has_no_loss_that_other_methods_lack() -> None:
    assert Supervised.Config().calibration_weight == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_two_networks_are_trained_apart_and_their_mean_is_predicted(classes: int) -> None:
    problem = make_problem(2, classes)
    method = make_method("supervised", problem, {"networks": ("unet", "vnet")})
    assert isinstance(method, Supervised)
    batch = make_batch(method, problem)
    for name, value in method.step(batch, Progress(50, 100)).terms.items():
        for other, network in method.networks.items():
            gradients = torch.autograd.grad(value, list(network.parameters()), retain_graph=True, allow_unused=True)
            assert any(g is not None for g in gradients) == name.endswith(other)
    method.eval()
    with torch.no_grad():
        prediction = method.predict(batch.labelled)
        z = [network(batch.labelled)[0] for network in method.networks.values()]
    assert list(prediction.members) == ["unet", "vnet"]
    mean = (prediction.members["unet"] + prediction.members["vnet"]) / 2
    torch.testing.assert_close(prediction.probabilities, mean)
    torch.testing.assert_close(prediction.uncertainty, (vacuity(z[0]) + vacuity(z[1])) / 2)
