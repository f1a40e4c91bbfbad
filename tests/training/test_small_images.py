"""Small images first: what a small batch holds, and where images keep their size."""

from __future__ import annotations

import pytest
import torch

from ucseg.training.small_images import can_be_small, small
from ucseg.types import Batch, Problem, Strides


def problem(patch: tuple[int, ...], strides: Strides | None = None) -> Problem:
    return Problem(len(patch), 1, 3, patch, (8,) * len(patch), strides=strides)


@pytest.mark.parametrize(
    ("patch", "strides", "expected"),
    [
        ((32, 48), None, (16, 24)),
        ((8, 32, 32), ((1, 2, 2), (2, 2, 2)), (8, 16, 16)),  # thick slices: the first step halves the plane alone
        ((16, 32, 32), ((2, 2, 2), (2, 2, 2)), (8, 16, 16)),
    ],
)
def test_images_have_the_size_of_the_second_level(
    patch: tuple[int, ...], strides: Strides | None, expected: tuple[int, ...]
) -> None:
    image, label = torch.randn(2, 1, *patch), torch.randint(0, 3, (2, *patch))
    made = small(Batch(image, label, {"image": image + 1.0}, ["a", "b"], ["c", "d"]), problem(patch, strides))
    assert made.labelled.shape == made.unlabelled["image"].shape == (2, 1, *expected)
    assert made.label.shape == (2, *expected)
    assert made.label.dtype == torch.long
    torch.testing.assert_close(made.labelled.mean(), image.mean())
    torch.testing.assert_close(made.unlabelled["image"], made.labelled + 1.0)
    assert (made.labelled_cases, made.unlabelled_cases) == (["a", "b"], ["c", "d"])


def test_a_voxel_has_the_class_of_most_of_its_window() -> None:
    label = torch.tensor([[[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 0, 0], [0, 1, 0, 0]]])
    made = small(Batch(torch.zeros(1, 1, 4, 4), label, {}), problem((4, 4)))
    assert made.label.tolist() == [[[1, 2], [0, 0]]]


def test_a_batch_without_labelled_images() -> None:
    """Pre-training has none."""
    none = torch.empty(0, 1, 4, 4)
    made = small(Batch(none, none[:, 0].long(), {"image": torch.ones(3, 1, 4, 4)}), problem((4, 4)))
    assert made.unlabelled["image"].shape == (3, 1, 2, 2)
    assert len(made.label) == 0


@pytest.mark.parametrize(
    ("patch", "strides", "can"),
    [
        ((96, 96), None, True),
        ((32, 48, 32), None, True),  # two voxels on the lowest level
        ((32, 32, 32), None, False),  # one voxel
        ((64, 64), None, True),
        ((64, 48), ((2, 2),), False),  # an encoder would be left with a pixel
        ((16, 32, 32), ((1, 2, 2), (2, 2, 2)), True),
    ],
)
def test_images_that_would_be_too_small_keep_their_size(
    patch: tuple[int, ...], strides: Strides | None, can: bool
) -> None:
    assert can_be_small(problem(patch, strides), False) is can


def test_an_encoder_sees_no_images_far_smaller_than_those_it_knows() -> None:
    for edge, can in ((96, False), (192, True)):
        assert can_be_small(problem((edge, edge)), True) is can
