"""BCP: who is pasted into whom, which voxels count how much, and the two stages."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, make_sgd, step, terms_of, update
from torch import Tensor, nn

from ucseg.losses.segmentation import class_probabilities, one_hot
from ucseg.method_parts.mixing import sample_box
from ucseg.methods.bcp import BCP
from ucseg.types import Batch, Progress


def make(classes: int = 3, one_component: tuple[int, ...] = (), **settings: Any) -> BCP:
    method = make_method("bcp", make_problem(2, classes, one_component=one_component), settings)
    assert isinstance(method, BCP)
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for p in method.teacher.parameters():  # a teacher unlike the student
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return method


def seen_by(network: nn.Module, method: BCP, batch: Batch, progress: Progress) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        step(method, batch, progress)
    handle.remove()
    return seen


def literal_loss(p: Tensor, y: Tensor, inside: Tensor) -> float:
    """CE + Dice over the voxels where `inside` (S, bool), by loops."""
    classes = p.shape[1]
    ce, count = 0.0, 0
    both, size = [0.0] * classes, [0.0] * classes
    for b in range(len(p)):
        for i, j in inside.nonzero().tolist():
            own, label = p[b, :, i, j].tolist(), int(y[b, i, j])
            count += 1
            if classes == 2:
                ce += sum(-math.log(own[c] if c == label else 1 - own[c]) for c in range(2)) / 2
            else:
                ce -= math.log(own[label])
            for c in range(classes):
                both[c], size[c] = both[c] + own[c] * (c == label), size[c] + own[c] + (c == label)
    return ce / count + 1 - sum(2 * a / b for a, b in zip(both, size, strict=True)) / classes


@pytest.mark.parametrize("classes", [2, 3])
def test_labelled_voxels_count_one_and_pseudo_labelled_ones_half(classes: int) -> None:
    method = make(classes)
    batch = make_batch(method, method.problem, 1, 1)
    found = terms_of(method, batch)
    box = sample_box((32, 32), 2 / 3, LATE.generator("box"))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[box] = True
    x_l, x_u = batch.labelled, batch.unlabelled["image"]
    with torch.no_grad():
        pseudo = copy.deepcopy(method.teacher)(x_u)[0].argmax(dim=1)
        both_ways = torch.cat([torch.where(inside, x_l, x_u), torch.where(inside, x_u, x_l)])
        p_in, p_out = class_probabilities(copy.deepcopy(method.student)(both_ways)[0], classes == 2).split(1)
    ours = literal_loss(p_in, batch.label, inside) + literal_loss(p_out, batch.label, ~inside)
    theirs = literal_loss(p_in, pseudo, ~inside) + literal_loss(p_out, pseudo, inside)
    assert found["supervised"] == pytest.approx(ours / 2, rel=1e-3)
    assert found["copy_paste"] == pytest.approx(0.5 * theirs / 2, rel=1e-3)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(1, 1), (2, 2), (4, 4), (1, 4), (3, 1), (2, 5)])
def test_every_image_is_in_a_pair_and_both_ways_occur(labelled: int, unlabelled: int) -> None:
    method = make()
    x = torch.arange(1.0, labelled + 1).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    u = -torch.arange(1.0, unlabelled + 1).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    batch = Batch(x, x[:, 0].long() % 3, {"image": u})
    (mixed,) = seen_by(method.student, method, batch, LATE)
    box = sample_box((32, 32), 2 / 3, LATE.generator("box"))
    corner = next((i, j) for i in (0, 31) for j in (0, 31) if not (i in range(32)[box[0]] and j in range(32)[box[1]]))
    pairs = [(float(image[0][box].mean()), float(image[0][corner])) for image in mixed]
    assert all(a * b < 0 for a, b in pairs), "one of each half"
    assert {a > 0 for a, _ in pairs} == {True, False}, "both ways"
    assert {v for pair in pairs for v in pair} == {*x.flatten().tolist(), *u.flatten().tolist()}
    assert len(pairs) == max(2, labelled, unlabelled)


def test_pre_training_sees_labelled_images_alone_and_the_teacher_is_the_student() -> None:
    method = make(pretraining=0.5)
    batch = make_batch(method, method.problem)
    (mixed,) = seen_by(method.student, method, batch, Progress(10, 100))
    box = sample_box((32, 32), 2 / 3, Progress(10, 100).generator("box"))
    expected = batch.labelled.clone()
    expected[(..., *box)] = batch.labelled.flip(0)[(..., *box)]
    assert torch.equal(mixed, expected)
    assert not seen_by(method.teacher, method, batch, Progress(49, 100))
    assert seen_by(method.teacher, method, batch, Progress(50, 100))
    assert terms_of(method, batch, Progress(49, 100))["copy_paste"] == 0.0

    optimizer = make_sgd(method)
    update(method, optimizer, batch, Progress(49, 100))
    state = method.state_dict()
    own = {key for key in state if key.startswith("student.")}
    assert all(torch.equal(state[key], state[key.replace("student", "teacher", 1)]) for key in own)
    before = [p.clone() for p in method.teacher.parameters()]
    update(method, optimizer, batch, Progress(99, 100))
    for teacher, old, student in zip(method.teacher.parameters(), before, method.student.parameters(), strict=True):
        torch.testing.assert_close(teacher, 0.99 * old + 0.01 * student)
        assert teacher.grad is None


def test_pseudo_labels_keep_the_largest_piece_of_planned_classes() -> None:
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[0, 2:10, 2:10], label[0, 20:22, 20:22] = 1, 1
    label[0, 28:30, 2:4], label[0, 28:30, 20:22] = 2, 2
    z = 9 * one_hot(label, 3)

    class Fixed(nn.Module):
        def forward(self, _image: Tensor) -> tuple[Tensor, list[Tensor]]:
            return z, []

    def pseudo_label(**settings: Any) -> Tensor:
        method = make(one_component=(1,), **settings)
        method.teacher = Fixed()  # type: ignore[assignment]
        return method.pseudo_label(torch.zeros(1, 1, 32, 32))()

    assert torch.equal(pseudo_label(component_filter=False), label)
    filtered = pseudo_label()
    assert not filtered[0, 20:22, 20:22].any() and (filtered == 2).sum() == (label == 2).sum()


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_either_network_can_be_the_prediction(which: str) -> None:
    method = make(predict_with=which).eval()
    image = make_batch(method, method.problem).labelled
    with torch.no_grad():
        expected = getattr(method, which)(image)[0].softmax(dim=1)
        torch.testing.assert_close(method.predict(image).probabilities, expected)
