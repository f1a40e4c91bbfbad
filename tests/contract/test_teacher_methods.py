"""What distinguishes mean_teacher, ua_mt and ict: what the teacher sees, where it counts, how it moves."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, make_sgd, step, terms_of, update
from torch import Tensor

from ucseg.losses.segmentation import class_probabilities, normalised_probabilities
from ucseg.method_parts.perturbation import gaussian_noise
from ucseg.methods.ict import ICT
from ucseg.methods.mean_teacher import MeanTeacher
from ucseg.methods.ua_mt import UAMT
from ucseg.randomness import numpy_generator
from ucseg.types import Progress

TEACHERS = pytest.mark.parametrize("name", ["mean_teacher", "ua_mt", "ict"])
CLASSES = pytest.mark.parametrize("classes", [2, 3])


@TEACHERS
def test_the_teacher_follows_the_student_and_gets_no_gradient(name: str) -> None:
    method = make_method(name, make_problem(2), {"decay": 0.5})
    assert isinstance(method, MeanTeacher | UAMT | ICT)
    update(method, make_sgd(method), make_batch(method, method.problem), Progress(0, 100))
    for own, theirs in zip(method.teacher.parameters(), method.student.parameters(), strict=True):
        assert torch.equal(own, theirs) and own.grad is None
    before = [p.clone() for p in method.teacher.parameters()]
    update(method, make_sgd(method), make_batch(method, method.problem, seed=1), Progress(50, 100))
    changed = zip(method.teacher.parameters(), before, method.student.parameters(), strict=True)
    for own, old, student in changed:
        torch.testing.assert_close(own, 0.5 * old + 0.5 * student)


@TEACHERS
def test_either_network_can_be_the_prediction(name: str) -> None:
    problem = make_problem(2)
    said = {}
    for which in ("teacher", "student"):
        method = make_method(name, problem, {"predict_with": which}).eval()
        with torch.no_grad():
            for p in method.teacher.parameters():  # type: ignore[union-attr]
                p.mul_(0.5)
            image = make_batch(method, problem).labelled
            said[which] = method.predict(image).probabilities
            network = getattr(method, which)
            torch.testing.assert_close(said[which], normalised_probabilities(network(image)[0], False))
    assert not torch.allclose(said["teacher"], said["student"])


@TEACHERS
def test_the_consistency_is_ramped_up_and_weighted(name: str) -> None:
    def consistency(progress: Progress, weight: float) -> float:
        method = make_method(name, make_problem(2), {"ramp": 0.5, "consistency_weight": weight, **still(name)})
        # The mix of ICT is drawn again in each step: seed and step stay, T changes.
        return terms_of(method, make_batch(method, method.problem), progress)["consistency"]

    full = consistency(Progress(10, 20), 1.0)
    assert consistency(Progress(10, 20), 3.0) == pytest.approx(3 * full, rel=1e-4)
    assert consistency(Progress(10, 40), 1.0) == pytest.approx(full * math.exp(-5 / 4), rel=1e-4)


def still(name: str) -> dict[str, object]:
    """UA-MT's mask depends on t too: a threshold that lets everything through."""
    return {"threshold": (9.0, 9.0)} if name == "ua_mt" else {}


def separate_teacher(method: MeanTeacher | UAMT | ICT) -> None:
    """A teacher unlike the student, and no dropout, so that both sides can be computed again."""
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


@CLASSES
def test_mean_teacher_is_the_squared_difference_of_two_noisy_views(classes: int) -> None:
    method = make_method("mean_teacher", make_problem(2, classes))
    assert isinstance(method, MeanTeacher)
    separate_teacher(method)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)["consistency"]
    student, teacher = (
        gaussian_noise(batch.unlabelled[view], 0.1, LATE.generator(f"{view} noise")) for view in ("student", "teacher")
    )
    noises = student - batch.unlabelled["student"], teacher - batch.unlabelled["teacher"]
    assert not torch.allclose(*noises, atol=1e-2), "different noise"
    with torch.no_grad():
        z = copy.deepcopy(method.student)(torch.cat([batch.labelled, student]))[0][len(batch.labelled) :]
        target = copy.deepcopy(method.teacher)(teacher)[0]
        p, q = (class_probabilities(one, classes == 2) for one in (z, target))
    assert found == pytest.approx(float((p - q).square().mean()), rel=1e-4)


@CLASSES
def test_ua_mt_counts_only_voxels_whose_mean_prediction_is_sure(classes: int) -> None:
    method = make_method("ua_mt", make_problem(2, classes), {"passes": 3, "threshold": (0.9, 0.9)})
    assert isinstance(method, UAMT)
    separate_teacher(method)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)
    student = gaussian_noise(batch.unlabelled["student"], 0.1, LATE.generator("student noise"))
    noise = LATE.generator("teacher noise")
    with torch.no_grad():
        teacher = copy.deepcopy(method.teacher)
        passes = [teacher(gaussian_noise(batch.unlabelled["teacher"], 0.1, noise))[0] for _ in range(3)]
        z = copy.deepcopy(method.student)(torch.cat([batch.labelled, student]))[0][len(batch.labelled) :]
    mean = sum(normalised_probabilities(one, classes == 2) for one in passes) / 3
    total = count = 0.0
    for b in range(len(z)):
        for i in range(z.shape[2]):
            for j in range(z.shape[3]):
                u = -sum(float(p) * math.log(float(p)) for p in mean[b, :, i, j])
                if u < 0.9 * math.log(classes):
                    p, q = (class_probabilities(one, classes == 2)[b, :, i, j] for one in (z, passes[0]))
                    total, count = total + float((p - q).square().mean()), count + 1
    assert 0 < count < z.shape[0] * z.shape[2] * z.shape[3], "some voxels are sure"
    assert found["consistency"] == pytest.approx(total / count, rel=1e-3)


def test_ua_mt_lets_more_through_as_training_goes_on_and_nothing_below_zero() -> None:
    method = make_method("ua_mt", make_problem(2))
    batch = make_batch(method, method.problem)
    state = copy.deepcopy(method.state_dict())

    def sure(t: int) -> float:
        method.load_state_dict(state)
        return float(step(method, batch, Progress(t, 100)).metrics["sure"])

    assert sure(1) <= sure(99)
    none = make_method("ua_mt", make_problem(2), {"threshold": (0.0, 0.0)})
    assert terms_of(none, batch)["consistency"] == 0.0


@CLASSES
def test_ict_compares_the_mix_with_the_mix_of_predictions(classes: int) -> None:
    method = make_method("ict", make_problem(2, classes), {"alpha": 2.0})
    assert isinstance(method, ICT)
    separate_teacher(method)
    batch = make_batch(method, method.problem, unlabelled=3)
    found = terms_of(method, batch)["consistency"]
    share = float(numpy_generator(LATE.seed, "mixup", LATE.step, 0, LATE.part).beta(2.0, 2.0))
    x = batch.unlabelled["image"]

    def mixed(v: Tensor) -> Tensor:
        return torch.stack([share * v[i] + (1 - share) * v[(i + 1) % 3] for i in range(3)])

    with torch.no_grad():
        target = class_probabilities(copy.deepcopy(method.teacher)(x)[0], classes == 2)
        z = copy.deepcopy(method.student)(torch.cat([batch.labelled, mixed(x)]))[0][len(batch.labelled) :]
    difference = class_probabilities(z, classes == 2) - mixed(target)
    assert found == pytest.approx(float(difference.square().mean()), rel=1e-4)


def test_a_batch_of_other_teacher_views_changes_the_target_alone() -> None:
    method = make_method("mean_teacher", make_problem(2))
    batch = make_batch(method, method.problem)
    other = {**batch.unlabelled, "teacher": batch.unlabelled["teacher"].flip(2)}
    first, second = terms_of(method, batch), terms_of(method, dataclasses.replace(batch, unlabelled=other))
    assert first["supervised"] == second["supervised"] and first["consistency"] != second["consistency"]
