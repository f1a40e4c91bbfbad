"""AD-MT: whose turn it is, what each turn shows, and the two teachers' label."""

from __future__ import annotations

import copy
import dataclasses
import math
from itertools import groupby
from typing import Any

import pytest
import torch
from small_cases import make_batch, make_method, make_problem, make_sgd, step, terms_of, update
from torch import Tensor, nn

from ucseg.losses.segmentation import class_probabilities
from ucseg.method_parts.mixing import cutmix, sample_cutmix_boxes
from ucseg.methods.ad_mt import ADMT
from ucseg.types import Progress

EVEN, ODD = Progress(98, 100), Progress(99, 100)


def make(dims: int = 2, classes: int = 3, **settings: Any) -> ADMT:
    """Turns of one step, so that even steps are the first teacher's; teachers that differ; no dropout."""
    method = make_method("ad_mt", make_problem(dims, classes), {"period": 1, "threshold": 0.0, **settings})
    assert isinstance(method, ADMT)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.teachers.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


def test_turns_are_random_alternate_and_are_at_most_a_period_long() -> None:
    method = make(period=6)
    turns = [method.turn(Progress(t, 400, seed=3)) for t in range(400)]
    lengths = [len(list(group)) for _, group in groupby(turn for turn, _ in turns)]
    assert set(lengths[:-1]) == set(range(1, 7)) and turns[0] == (0, 0)
    for who in (0, 1):
        assert [before for turn, before in turns if turn == who] == list(range(sum(t == who for t, _ in turns)))
    assert turns == [method.turn(Progress(t, 400, seed=3, part=1)) for t in range(400)], "pieces agree"
    assert turns != [method.turn(Progress(t, 400, seed=4)) for t in range(400)]


def test_the_teacher_whose_turn_it_is_follows_the_student_and_the_other_stays() -> None:
    method = make(decay=0.5)
    optimizer = make_sgd(method)
    for progress, own in ((Progress(0, 100), 0), (Progress(1, 100), 1)):
        before = copy.deepcopy(method.teachers[1 - own]).state_dict()
        update(method, optimizer, make_batch(method, method.problem), progress)
        for a, b in zip(method.teachers[own].parameters(), method.student.parameters(), strict=True):
            assert torch.equal(a, b) and a.grad is None, "a copy of the student"
        other = dict(method.teachers[1 - own].named_parameters())
        assert all(torch.equal(value, before[key]) for key, value in other.items())
    old = [p.clone() for p in method.teachers[0].parameters()]
    update(method, optimizer, make_batch(method, method.problem), Progress(2, 100))
    for a, was, b in zip(method.teachers[0].parameters(), old, method.student.parameters(), strict=True):
        torch.testing.assert_close(a, 0.5 * was + 0.5 * b)


def test_the_first_turn_shows_strong_views_and_the_second_cutmix_of_weak_ones() -> None:
    method = make()
    batch = make_batch(method, method.problem)
    other = dataclasses.replace(batch, unlabelled={**batch.unlabelled, "strong": batch.unlabelled["strong"].flip(2)})
    assert terms_of(method, batch, EVEN)["pseudo"] != terms_of(method, other, EVEN)["pseudo"]
    assert terms_of(method, batch, ODD) == terms_of(method, other, ODD)
    seen: list[Tensor] = []
    method.student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    for progress in (EVEN, ODD):
        step(method, batch, progress)
    boxes = sample_cutmix_boxes((32, 32), 2, ODD.generator("cutmix"), 1.0)
    weak, strong = batch.unlabelled["weak"], batch.unlabelled["strong"]
    assert torch.equal(seen[0], torch.cat([batch.labelled, weak, strong]))
    assert torch.equal(seen[1], torch.cat([batch.labelled, weak, cutmix(weak, boxes)]))


class Says(nn.Module):
    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z = z

    def forward(self, _image: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.z, []


@pytest.mark.parametrize("classes", [2, 4])
def test_the_label_is_the_ensemble_by_sureness_and_the_students_where_it_is_surer_of_another(classes: int) -> None:
    method = make(classes=classes)
    generator = torch.Generator().manual_seed(5)
    z = 3 * torch.randn(3, 1, classes, 6, 7, generator=generator)
    method.teachers = nn.ModuleList(Says(one) for one in z[:2])
    label, confidence, conflict = method.combat(torch.zeros(1, 1, 6, 7), z[2])
    p = class_probabilities(z.transpose(0, 1), classes == 2) if classes == 2 else z.transpose(0, 1).softmax(dim=2)
    overruled = 0
    for i in range(6):
        for j in range(7):
            one, two, own = ([v / sum(q) for v in q] for q in p[0, :, :, i, j].tolist())
            weights = [math.exp(sum(v * math.log(v) for v in q)) for q in (one, two)]
            mean = [(weights[0] * a + weights[1] * b) / sum(weights) for a, b in zip(one, two, strict=True)]
            disagree = one.index(max(one)) != two.index(max(two))
            best = mean
            if disagree and own.index(max(own)) != mean.index(max(mean)) and max(own) > max(mean):
                best, overruled = own, overruled + 1
            assert bool(conflict[0, i, j]) == disagree
            assert int(label[0, i, j]) == best.index(max(best))
            assert float(confidence[0, i, j]) == pytest.approx(max(best), rel=1e-4)
    assert 0 < overruled < int(conflict.sum()) < 42


@pytest.mark.parametrize(("dims", "kind"), [(2, "ce"), (2, "dice")])
def test_voxels_of_conflict_have_their_own_weight_and_unsure_ones_none(dims: int, kind: str) -> None:
    threshold = 0.4
    method = make(dims, loss=kind, conflict_weight=3.0, threshold=threshold, pseudo_weight=1.0)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch, EVEN)["pseudo"]
    again, weak = copy.deepcopy(method), batch.unlabelled["weak"]
    with torch.no_grad():
        z, _ = again.student(torch.cat([batch.labelled, weak, batch.unlabelled["strong"]]))
        label, confidence, conflict = again.combat(weak, z[2:4])
    p, sure = z[4:].softmax(dim=1), confidence >= threshold
    assert 0 < int(sure.sum()) < sure.numel() and bool((conflict & sure).any()) and bool((~conflict & sure).any())
    if kind == "ce":
        own = p.gather(1, label[:, None])[:, 0]
        total = sum((3 if c else 1) * -math.log(v) for v, c, s in zip(*flat(own, conflict, sure), strict=True) if s)
        expected = total / int(sure.sum())
    else:
        scores = []
        for k in range(3):
            values = list(zip(*flat(p[:, k], label == k, conflict, sure), strict=True))
            both = sum((3 if c else 1) * v * hit for v, hit, c, s in values if s)
            size = sum((3 if c else 1) * (v + hit) for v, hit, c, s in values if s)
            scores.append(2 * both / size)
        expected = 1 - sum(scores) / 3
    assert found == pytest.approx(expected, rel=1e-3)


def flat(*tensors: Tensor) -> list[list[Any]]:
    return [t.flatten().tolist() for t in tensors]


def test_published_numbers_depend_on_the_rank_and_teachers_can_predict() -> None:
    flat_one, volume = (make_method("ad_mt", make_problem(dims)) for dims in (2, 3))
    assert isinstance(flat_one, ADMT) and isinstance(volume, ADMT)
    assert (flat_one.threshold, flat_one.loss) == (0.95, "dice") and (volume.threshold, volume.loss) == (0.8, "ce")
    method = make(predict_with="teachers").eval()
    with torch.no_grad():
        prediction = method.predict(make_batch(method, method.problem).labelled)
    assert list(prediction.members) == ["teacher_1", "teacher_2"]
    torch.testing.assert_close(prediction.probabilities, torch.stack([*prediction.members.values()]).mean(dim=0))
