"""A teacher follows its student and shares nothing with it."""

from __future__ import annotations

import torch
from torch import nn

from ucseg.method_parts.teacher import follow, make_teacher


def make_student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_the_teacher_is_a_copy_without_gradient_or_shared_storage() -> None:
    student = make_student()
    teacher = make_teacher(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    for (name, own), theirs in zip(teacher.state_dict().items(), student.state_dict().values(), strict=True):
        assert torch.equal(own, theirs) and own.data_ptr() != theirs.data_ptr(), name


def test_it_is_the_running_mean_of_weights_and_norm_statistics() -> None:
    """Literally: theta' = d theta' + (1 - d) theta, with d = min(decay, 1 - 1 / (step + 1))."""
    student = make_student()
    teacher = make_teacher(student)
    expected = {name: value.double() for name, value in teacher.state_dict().items()}
    for step in range(6):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(torch.randn_like(p))
        student(torch.randn(2, 1, 8, 8))
        follow(teacher, student, 0.7, step)
        d = min(0.7, 1 - 1 / (step + 1))
        for name, value in student.state_dict().items():
            new = d * expected[name] + (1 - d) * value.double() if value.is_floating_point() else value.double()
            expected[name] = new
        if step == 0:
            assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert int(teacher.state_dict()["1.num_batches_tracked"]) == 6
