"""The head that fuses two subnets; its numbers are held by tests/oracles/test_attention.py."""

from __future__ import annotations

import pytest
import torch

from ucseg.networks.pseudo_label_generator import PseudoLabelGenerator


@pytest.mark.parametrize("shape", [(32, 32), (29, 40), (3, 3)])
def test_the_pseudo_label_generator_takes_any_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = PseudoLabelGenerator(2, 3, (32, 32), (8, 8), "softmax", True).eval()
    z_1, z_2, u_1, u_2 = (torch.rand(2, c, *shape) for c in (3, 3, 1, 1))
    assert module(z_1, z_2, u_1, u_2).shape == (2, 3, *shape)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_fusion_head_computes_the_same_with_its_batch_norms_in_its_convolutions(dims: int) -> None:
    """Which it does in prediction; its own layers, one after the other, are what it stands for."""
    torch.manual_seed(0)
    head = PseudoLabelGenerator(dims, 3, (16,) * dims, (8,) * dims, "none", residual=False)
    z = [torch.randn(2, 3, *(16,) * dims) for _ in range(2)]
    u = torch.rand(2, 1, *(16,) * dims)
    for _ in range(3):
        head(*z, u, u)  # statistics of the batch norms that are not those of the start
    head.eval()
    with torch.no_grad():
        torch.testing.assert_close(head(*z, u, u), head.fusion(torch.cat(z, dim=1) / 2), rtol=1e-4, atol=1e-5)
    head(*z, u, u).sum().backward()
    assert all(parameter.grad is not None for parameter in head.fusion.parameters())
