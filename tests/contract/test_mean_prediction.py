"""What several networks say together."""

from __future__ import annotations

import math

import pytest
import torch

from ucseg.losses.segmentation import normalised_probabilities
from ucseg.methods.base import mean_prediction


@pytest.mark.parametrize("classes", [2, 3])
def test_the_mean_of_probabilities_with_its_entropy_as_a_part_of_the_largest(classes: int) -> None:
    z = {"a": torch.randn(2, classes, 4, 5), "b": torch.randn(2, classes, 4, 5)}
    found = mean_prediction(z, binary=classes == 2)
    p = sum(normalised_probabilities(one, classes == 2) for one in z.values()) / 2
    torch.testing.assert_close(found.probabilities, p)
    torch.testing.assert_close(found.uncertainty, -(p * p.log()).sum(dim=1, keepdim=True) / math.log(classes))
    assert list(found.members) == ["a", "b"]


def test_a_single_network_is_no_member_and_is_never_quite_certain() -> None:
    found = mean_prediction({"a": torch.tensor([200.0, -200.0, -200.0]).reshape(1, 3, 1, 1)}, binary=False)
    assert not found.members
    assert 0 < float(found.uncertainty) < 1e-5


def test_no_idea_is_full_uncertainty() -> None:
    assert float(mean_prediction({"a": torch.zeros(1, 4, 1, 1)}, binary=False).uncertainty) == pytest.approx(1.0)
