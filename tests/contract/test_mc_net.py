"""Decoders of one encoder that up-sample differently, each drawn to the sharpened predictions of the others."""

from __future__ import annotations

import pytest
import torch
from small_cases import make_batch, make_method, make_problem, step, terms_of

from ucseg.losses.consistency import sharpen
from ucseg.methods.mc_net import MCNet
from ucseg.networks.blocks import StepUp


def make(dims: int = 2, classes: int = 3, **settings: object) -> MCNet:
    method = make_method("mc_net", make_problem(dims, classes), settings)
    assert isinstance(method, MCNet)
    return method


def test_sharpening_is_its_equation_and_keeps_who_is_ahead() -> None:
    p = torch.tensor([0.0, 0.1, 0.4, 0.5, 0.6, 1.0], dtype=torch.float64)
    expected = [x**10 / (x**10 + (1 - x) ** 10) for x in p.tolist()]
    torch.testing.assert_close(sharpen(p, 0.1), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(sharpen(p, 1.0), p)
    pair = torch.stack([p, 1 - p])
    torch.testing.assert_close(sharpen(pair, 0.1).sum(dim=0), torch.ones_like(p))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("decoders", [("transposed", "linear"), ("transposed", "linear", "nearest")])
def test_the_loss_is_the_papers_equation(classes: int, decoders: tuple[str, ...]) -> None:
    method = make(classes=classes, decoders=decoders).eval()
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)
    with torch.no_grad():
        z = [z_k.double() for z_k in method.decode(torch.cat([batch.labelled, batch.unlabelled["image"]]))]
    p = [z_k.sigmoid() if classes == 2 else z_k.softmax(dim=1) for z_k in z]
    assert sorted(found) == sorted(f"{term}_{k + 1}" for term in ("supervised", "consistency") for k in range(len(z)))
    for k, p_k in enumerate(p):
        others = [p_j**10 / (p_j**10 + (1 - p_j) ** 10) for j, p_j in enumerate(p) if j != k]
        expected = sum(float(((p_k - target) ** 2).mean()) for target in others)
        assert found[f"consistency_{k + 1}"] == pytest.approx(expected, rel=1e-4)


def test_the_decoders_share_the_encoder_and_up_sample_differently() -> None:
    method = make()
    transposed, linear, nearest = method.network.decoder, *method.others
    assert [d.up for d in (transposed, linear, nearest)] == ["transposed", "linear", "nearest"]
    assert sum(isinstance(m, StepUp) for m in method.modules()) == 4
    encoders = [name for name, _ in method.named_modules() if name.endswith("encoder")]
    assert encoders == ["network.encoder"]
    with torch.no_grad():
        # With equal weights, linear and nearest interpolation still disagree.
        nearest.load_state_dict(linear.state_dict())
        features = method.eval().network.encode(torch.randn(1, 1, 32, 32))
        assert not torch.equal(linear(features), nearest(features))


def test_a_consistency_term_trains_its_own_decoder_and_the_encoder_and_no_target() -> None:
    method = make()
    terms = step(method, make_batch(method, method.problem)).terms
    decoders = [method.network.decoder, *method.others]
    for k in range(3):
        for module, reached in ((method.network.encoder, True), *((d, d is decoders[k]) for d in decoders)):
            gradients = torch.autograd.grad(
                terms[f"consistency_{k + 1}"], list(module.parameters()), retain_graph=True, allow_unused=True
            )
            assert any(g is not None for g in gradients) == reached


def test_the_decoders_are_the_members_and_their_mean_is_predicted() -> None:
    method = make().eval()
    with torch.no_grad():
        prediction = method.predict(torch.randn(1, 1, 37, 21))
    assert list(prediction.members) == ["transposed", "linear", "nearest"]
    torch.testing.assert_close(prediction.probabilities, sum(prediction.members.values()) / 3)
