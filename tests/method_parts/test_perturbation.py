"""Noise, dropout of features, and the change that alters a prediction most."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ucseg.method_parts.perturbation import (
    adversarial_change,
    channel_dropout,
    feature_dropout,
    feature_noise,
    gaussian_noise,
)

SHAPES = pytest.mark.parametrize("shape", [(4, 8, 9, 7), (2, 8, 5, 6, 7)])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@SHAPES
def test_gaussian_noise_has_its_deviation_is_clipped_and_repeats(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    noise = gaussian_noise(x, 0.5, seeded()) - x
    assert float(noise.abs().max()) <= 1.0 + 1e-6
    assert float(noise.std()) == pytest.approx(0.48, abs=0.02)  # clipping leaves 0.96 of it
    assert torch.equal(noise + x, gaussian_noise(x, 0.5, seeded()))
    assert not torch.equal(noise + x, gaussian_noise(x, 0.5, seeded(1)))


@SHAPES
def test_channel_dropout_takes_whole_channels_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    x = torch.ones((64, *shape[1:]))
    flat = channel_dropout(x, 0.25, seeded()).flatten(2)
    assert torch.equal(flat.amin(dim=2), flat.amax(dim=2))
    torch.testing.assert_close(flat.unique(), torch.tensor([0.0, 4 / 3]))
    assert float(flat.mean()) == pytest.approx(1.0, abs=0.1)


@SHAPES
def test_feature_noise_scales_each_voxel_alike_in_all_images(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape) + 0.5
    factor = feature_noise(x, seeded(), 0.3) / x
    assert float((factor - 1).abs().max()) <= 0.3 + 1e-5 and float(factor.std()) > 0.1
    torch.testing.assert_close(factor[0], factor[1])


@SHAPES
def test_feature_dropout_takes_the_most_active_voxels(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    x[0, :, 2, 3] = 5.0
    dropped = feature_dropout(x, seeded())
    gone = (dropped == 0).all(dim=1)
    assert gone[0, 2, 3].all() and not gone[0, 0, 0].any()
    assert torch.equal(dropped[~gone[:, None].expand_as(x)], x[~gone[:, None].expand_as(x)])
    same = torch.ones(shape)
    assert torch.equal(feature_dropout(same, seeded()), same), "never all of them"


@SHAPES
def test_the_adversarial_change_has_its_radius_and_alters_more_than_chance(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    direction = torch.randn(shape[1:])

    def says(x: Tensor) -> Tensor:
        return (x * direction).flatten(1).sum(dim=1, keepdim=True).mul(0.02).sigmoid()

    image = torch.randn(shape)
    change = adversarial_change(says, image, 0.05, seeded())
    assert not change.requires_grad
    torch.testing.assert_close(change.flatten(1).square().mean(dim=1).sqrt(), torch.full((shape[0],), 0.05))
    by_change = (says(image + change) - says(image)).abs()
    by_chance = (says(image + 0.05 * torch.randn(shape)) - says(image)).abs()
    assert (by_change > 3 * by_chance).all()
