"""CPS: each network learns the other's hard prediction, on all images."""

from __future__ import annotations

import copy

import pytest
import torch
from small_cases import make_batch, make_method, make_problem, step, terms_of

from ucseg.losses.segmentation import cross_entropy
from ucseg.methods.cps import CPS


@pytest.mark.parametrize("classes", [2, 3])
def test_each_network_has_the_others_argmax_as_label(classes: int) -> None:
    method = make_method("cps", make_problem(2, classes), {"cross_weight": 2.0})
    assert isinstance(method, CPS)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)
    torch.manual_seed(7)
    again = copy.deepcopy(method.networks)
    with torch.no_grad():
        z_1, z_2 = (network(torch.cat([batch.labelled, batch.unlabelled["image"]]))[0] for network in again.values())
    assert found["cross_1"] == pytest.approx(2 * float(cross_entropy(z_1, z_2.argmax(dim=1), classes == 2)), rel=1e-4)
    assert found["cross_2"] == pytest.approx(2 * float(cross_entropy(z_2, z_1.argmax(dim=1), classes == 2)), rel=1e-4)


def test_a_networks_terms_train_it_alone_and_it_starts_unlike_the_other() -> None:
    method = make_method("cps", make_problem(2))
    assert isinstance(method, CPS)
    first, second = (list(network.parameters()) for network in method.networks.values())
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    output = step(method, make_batch(method, method.problem))
    for k, (own, other) in enumerate([(first, second), (second, first)], start=1):
        for term in (f"supervised_{k}", f"cross_{k}"):
            gradients = torch.autograd.grad(output.terms[term], [*own, *other], retain_graph=True, allow_unused=True)
            assert any(g is not None for g in gradients[: len(own)])
            assert all(g is None for g in gradients[len(own) :])


@pytest.mark.parametrize("networks", [("unet", "vnet"), ("vnet", "vnet")])
def test_any_two_networks_and_their_mean(networks: tuple[str, str]) -> None:
    method = make_method("cps", make_problem(2), {"networks": networks}).eval()
    with torch.no_grad():
        prediction = method.predict(make_batch(method, method.problem).labelled)
    assert list(prediction.members) == (["unet", "vnet"] if networks[0] == "unet" else ["vnet", "vnet_2"])
    torch.testing.assert_close(prediction.probabilities, torch.stack([*prediction.members.values()]).mean(dim=0))
