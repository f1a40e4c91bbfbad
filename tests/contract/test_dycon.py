"""DyCON: what enters its two losses, and how beta falls."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_cases import LATE, make_batch, make_method, make_problem, make_sgd, step, terms_of, update
from torch import Tensor, nn

from ucseg.losses.consistency import uncertain_consistency
from ucseg.losses.contrastive import focal_contrast
from ucseg.method_parts.perturbation import gaussian_noise
from ucseg.methods.dycon import DyCON, to_grid
from ucseg.types import Batch, Progress


def make(dims: int = 2, classes: int = 3, **settings: Any) -> DyCON:
    method = make_method("dycon", make_problem(dims, classes), settings)
    assert isinstance(method, DyCON)
    with torch.no_grad():
        for p in method.teacher.parameters():  # a teacher unlike the student
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


def outputs(method: DyCON, batch: Batch, progress: Progress) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Logits and coarse map of student and teacher."""
    again = copy.deepcopy(method)
    images = [torch.cat([batch.labelled, batch.unlabelled[view]]) for view in ("student", "teacher")]
    noisy = gaussian_noise(images[1], 0.1, progress.generator("teacher noise"))
    with torch.no_grad():
        return again.student(images[0]), again.teacher(noisy)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_consistency_is_uncl_of_all_images_with_a_beta_that_falls(classes: int) -> None:
    method = make(classes=classes)
    batch = make_batch(method, method.problem)
    for t, beta in ((50, 5.0 * 0.1**0.5), (100, 0.5)):
        progress = Progress(t, 100)
        (z, _), (z_t, _) = outputs(method, batch, progress)
        expected = 0.5 * float(uncertain_consistency(z, z_t, beta, classes == 2))
        assert terms_of(method, batch, progress)["consistency"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_contrast_has_the_masks_of_labelled_and_the_teachers_word_for_unlabelled_locations(dims: int) -> None:
    method = make(dims)
    batch = make_batch(method, method.problem)
    (z, coarse), (z_t, coarse_t) = outputs(method, batch, LATE)
    label = torch.cat([batch.label, z_t[2:].argmax(dim=1)])
    p = z.softmax(dim=1)
    h = -(p * p.log()).sum(dim=1)
    cells = [n // 8 for n in label.shape[1:]]
    assert list(coarse.shape[2:]) == cells
    places = torch.cartesian_prod(*(torch.arange(n) for n in cells)).tolist()
    votes, unsure = [], []
    for place in places:
        cell = (slice(None), *(slice(8 * i, 8 * i + 8) for i in place))
        votes.append(torch.stack([(label[cell] == c).flatten(1).float().mean(dim=1) for c in range(3)], dim=1))
        unsure.append(h[cell].flatten(1).mean(dim=1))

    def embed(network: Any, features: Tensor) -> Tensor:
        with torch.no_grad():
            return F.normalize(network.project(features.flatten(2).transpose(1, 2)), dim=2)

    expected = focal_contrast(
        embed(method.student, coarse),
        torch.stack(votes, dim=1).argmax(dim=2),
        torch.stack(unsure, dim=1),
        embed(method.teacher, coarse_t),
        0.6,
        2.0,
        8,
    )
    assert terms_of(method, batch)["contrast"] == pytest.approx(0.5 * float(expected), rel=1e-3)
    other = dataclasses.replace(batch, label=batch.label.flip(0))
    assert terms_of(method, other)["contrast"] != pytest.approx(0.5 * float(expected), rel=1e-6)


def test_cells_of_an_image_that_was_padded_are_those_of_the_padded_image() -> None:
    x = torch.rand(2, 3, 37, 21)
    found = to_grid(x, (6, 4), (16, 16)).reshape(2, 3, 6, 4)  # padded to 48 x 32
    padded = F.pad(x, (0, 11, 0, 11), mode="replicate")
    torch.testing.assert_close(found[:, :, 4, 2], padded[:, :, 32:40, 16:24].mean(dim=(2, 3)))
    torch.testing.assert_close(found[:, :, 0, 0], x[:, :, :8, :8].mean(dim=(2, 3)))


def test_no_more_pairs_than_those_of_the_sample_are_held() -> None:
    method = make(samples=5)
    batch = make_batch(method, method.problem)
    seen: list[torch.Size] = []
    method.student.project.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape))
    for t in (98, 99):
        step(method, batch, Progress(t, 100))
    assert seen == [(4, 5, 64)] * 2
    assert terms_of(method, batch, Progress(98, 100))["contrast"] != terms_of(method, batch, LATE)["contrast"]


def test_the_teacher_and_its_projection_follow_the_student() -> None:
    method = make(decay=0.5)
    update(method, make_sgd(method), make_batch(method, method.problem), Progress(0, 100))
    for own, theirs in zip(method.teacher.parameters(), method.student.parameters(), strict=True):
        assert torch.equal(own, theirs) and own.grad is None


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_either_network_can_be_the_prediction(which: str) -> None:
    method = make(predict_with=which).eval()
    image = make_batch(method, method.problem).labelled
    with torch.no_grad():
        expected = getattr(method, which)(image)[0].softmax(dim=1)
        torch.testing.assert_close(method.predict(image).probabilities, expected)
