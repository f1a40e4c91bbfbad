"""What is not annotated, for every method: nothing of the label there is trained, and nothing breaks without any."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_cases import ALL_AT_ONCE, LATE, make_batch, make_method, problem_of, step, terms_of, thin_problem
from torch import Tensor

from ucseg.losses.segmentation import segmentation_loss, supervised_loss
from ucseg.methods import METHODS
from ucseg.methods.bcp import BCP
from ucseg.methods.uc_seg import UCSeg
from ucseg.training.small_images import small
from ucseg.types import Batch, Progress

EARLY = Progress(1, 100)


def partly(batch: Batch, annotated: Tensor) -> Batch:
    return dataclasses.replace(batch, annotated=annotated)


def other_label(batch: Batch, classes: int) -> Batch:
    """The same batch with another class in every voxel that is not annotated."""
    assert batch.annotated is not None
    label = torch.where(batch.annotated > 0, batch.label, (batch.label + 1) % classes)
    return dataclasses.replace(batch, label=label)


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize(("dims", "classes"), [(2, 3), (3, 2)])
def test_what_stands_under_what_is_not_annotated_changes_no_loss(name: str, dims: int, classes: int) -> None:
    problem = problem_of(name, dims, classes)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    batch = make_batch(method, problem, 2, 2)
    annotated = torch.ones_like(batch.label, dtype=torch.float32)
    annotated[:, 5:, :9] = 0.0
    batch = partly(batch, annotated)
    for progress in (EARLY, LATE) if dims == 2 else (LATE,):
        found = terms_of(method, batch, progress)
        assert terms_of(method, other_label(batch, classes), progress) == found
        whole = terms_of(method, dataclasses.replace(batch, annotated=None), progress)
        assert any(whole[term] != found[term] for term in whole if term.startswith("supervised"))


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("images", [1, 2])
def test_images_without_an_annotated_voxel_have_finite_losses_and_gradients(name: str, images: int) -> None:
    problem = problem_of(name, 2)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    batch = make_batch(method, problem, 2, 2)
    annotated = torch.ones_like(batch.label, dtype=torch.float32)
    annotated[:images] = 0.0
    output = step(method, partly(batch, annotated))
    assert all(bool(torch.isfinite(value)) for value in output.terms.values())
    output.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters() if p.grad is not None)
    if (
        images == 2 and name != "uc_seg"
    ):  # its L_u is not a mean of annotated voxels alone where there are none: it is 0
        supervised = [value for term, value in output.terms.items() if term.startswith("supervised")]
        assert all(float(value.detach()) == pytest.approx(0.0, abs=1e-6) for value in supervised)


@pytest.mark.parametrize("binary", [True, False])
def test_the_supervised_loss_is_that_of_the_annotated_voxels_alone(binary: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 2, 6, 8, generator=generator)
    batch = Batch(z, torch.randint(0, 2, (2, 6, 8), generator=generator), {}, annotated=torch.zeros(2, 6, 8))
    assert batch.annotated is not None
    batch.annotated[:, 2:5] = 1.0
    expected = segmentation_loss(z[:, :, 2:5], batch.label[:, 2:5], binary)
    torch.testing.assert_close(supervised_loss(z, batch, binary), expected, rtol=1e-5, atol=1e-5)


def test_mixed_images_show_pseudo_labels_where_nothing_is_annotated() -> None:
    problem = thin_problem(2)
    method = make_method("uc_seg", problem, ALL_AT_ONCE["uc_seg"])
    assert isinstance(method, UCSeg)
    seen: list[Tensor] = []
    own = method.mix
    method.mix = lambda batch, *more: seen.append(batch.label) or own(batch, *more)  # type: ignore
    batch = make_batch(method, problem)
    nothing = torch.zeros_like(batch.label, dtype=torch.float32)
    step(method, partly(dataclasses.replace(batch, label=torch.full_like(batch.label, 2)), nothing))
    assert not bool((seen[0] == 2).all()), "predicted, not the label"
    bcp = make_method("bcp", problem)
    assert isinstance(bcp, BCP)
    terms = terms_of(bcp, partly(batch, nothing))
    assert terms["supervised"] == pytest.approx(0.0, abs=1e-6) and terms["copy_paste"] > 0


def test_small_images_are_annotated_where_more_than_a_quarter_of_a_window_is() -> None:
    annotated, label = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    annotated[0, 0, :3] = 1.0  # half of the first window, a quarter of the second
    label[0, 0, 0], label[0, 1] = 1, 2  # the second row is not annotated
    made = small(Batch(torch.zeros(1, 1, 4, 4), label, {}, annotated=annotated), thin_problem(2))
    assert made.annotated is not None
    assert made.annotated.tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert int(made.label[0, 0, 0]) == 0
