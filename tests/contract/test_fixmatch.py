"""FixMatch: sure predictions of the weak view are the target of the strong view; both get the same CutMix."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of
from torch import Tensor

from ucseg.losses.segmentation import class_probabilities
from ucseg.method_parts.mixing import Box, sample_cutmix_boxes
from ucseg.methods.fixmatch import FixMatch


def pasted(x: Tensor, boxes: list[Box | None]) -> Tensor:
    out = x.clone()
    for i, box in enumerate(boxes):
        if box is not None:
            out[(i, ..., *box)] = x[((i + 1) % len(x), ..., *box)]
    return out


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_is_the_sure_voxels_cross_entropy_over_all_voxels(classes: int) -> None:
    tau = 0.5 + 0.1 / classes
    method = make_method("fixmatch", make_problem(2, classes), {"threshold": tau, "cutmix": 0.7, "pseudo_weight": 2.0})
    assert isinstance(method, FixMatch)
    batch = make_batch(method, method.problem, unlabelled=3)
    found = terms_of(method, batch)["pseudo"]
    boxes = sample_cutmix_boxes((32, 32), 3, LATE.generator("cutmix"), 0.7)
    assert any(boxes)
    torch.manual_seed(7)
    again = copy.deepcopy(method.network)
    with torch.no_grad():
        q = class_probabilities(again(torch.cat([batch.labelled, batch.unlabelled["weak"]]))[0][2:], classes == 2)
        q = pasted(q / q.sum(dim=1, keepdim=True), boxes)
        p = class_probabilities(again(pasted(batch.unlabelled["strong"], boxes))[0], classes == 2)
    total, sure = 0.0, 0
    for b in range(3):
        for i in range(32):
            for j in range(32):
                said = q[b, :, i, j].tolist()
                if max(said) < tau:
                    continue
                sure, label, own = sure + 1, said.index(max(said)), p[b, :, i, j].tolist()
                if classes == 2:
                    total += sum(-math.log(own[c] if c == label else 1 - own[c]) for c in range(2)) / 2
                else:
                    total -= math.log(own[label])
    assert 0 < sure < 3 * 32 * 32, "some voxels are sure"
    assert found == pytest.approx(2.0 * total / (3 * 32 * 32), rel=1e-3)


def test_nothing_is_learned_from_what_is_not_sure_nor_through_the_weak_view() -> None:
    method = make_method("fixmatch", make_problem(2), {"threshold": 1.0})
    output = step(method, make_batch(method, method.problem))
    assert float(output.terms["pseudo"].detach()) == 0.0 and float(output.metrics["sure"]) == 0.0

    method = make_method("fixmatch", make_problem(2), {"threshold": 0.0})
    batch = make_batch(method, method.problem)
    weak = batch.unlabelled["weak"].requires_grad_()
    step(method, batch).terms["pseudo"].backward()
    assert weak.grad is None or not weak.grad.any(), "pseudo-labels have no gradient"


def test_the_strong_view_leaves_the_supervised_loss_alone() -> None:
    """Batch norm sees strong views in a separate pass."""
    method = make_method("fixmatch", make_problem(2), {"threshold": 0.0})
    batch = make_batch(method, method.problem)
    other = dataclasses.replace(batch, unlabelled={**batch.unlabelled, "strong": -batch.unlabelled["strong"]})
    first, second = terms_of(method, batch), terms_of(method, other)
    assert first["supervised"] == second["supervised"] and first["pseudo"] != second["pseudo"]
    dice = make_method("fixmatch", make_problem(2), {"threshold": 0.0, "loss": "dice"})
    assert 0 < terms_of(dice, batch)["pseudo"] < 1
