"""Vacuity and entropy against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from ucseg.method_parts.uncertainty import dirichlet, entropy, vacuity


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3)])
@pytest.mark.parametrize("classes", [2, 4])
def test_expected_probability_and_vacuity_of_the_dirichlet(shape: tuple[int, ...], classes: int) -> None:
    z = 4 * torch.randn(2, classes, *shape, generator=torch.Generator().manual_seed(0))
    alpha, inverse = dirichlet(z)
    p, u = alpha * inverse, vacuity(z)
    assert p.shape == z.shape and u.shape == (2, 1, *shape)
    columns = z.flatten(2).transpose(1, 2).flatten(0, 1).tolist()
    found = p.flatten(2).transpose(1, 2).flatten(0, 1).tolist()
    for column, probabilities, vacant in zip(columns, found, u.flatten().tolist(), strict=True):
        alpha = [math.log1p(math.exp(v)) + 1 for v in column]
        assert vacant == pytest.approx(classes / sum(alpha), rel=1e-5)
        assert probabilities == pytest.approx([a / sum(alpha) for a in alpha], rel=1e-5)


def test_no_evidence_is_full_vacuity_and_evidence_for_any_class_lowers_it() -> None:
    z = torch.tensor([[-80.0, -80.0], [0.0, 0.0], [5.0, 0.0], [500.0, 500.0], [1e30, -1e30]]).reshape(5, 2, 1, 1)
    u = vacuity(z).flatten()
    assert float(u[0]) == 1.0
    assert (u[1:] < u[:-1]).all() and (u > 0).all()


def test_vacuity_is_float32_whatever_comes_in() -> None:
    assert vacuity(torch.randn(1, 2, 3).bfloat16()).dtype == torch.float32


def test_entropy_in_nats() -> None:
    p = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]).reshape(3, 4, 1, 1)
    assert entropy(p).shape == (3, 1, 1, 1)
    assert entropy(p).flatten().tolist() == pytest.approx([math.log(4), 0.0, math.log(2)], abs=1e-6)
