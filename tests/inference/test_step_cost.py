"""A step that is measured is a real one: it takes time and memory, and leaves the run's random numbers alone."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext

import torch

from ucseg.config import build
from ucseg.inference.step_cost import ThisMachine
from ucseg.planning.plan import plan_from
from ucseg.training.settings import TrainConfig


def test_a_step_and_a_validation_are_measured(forkserver: BaseContext) -> None:
    plan = plan_from(
        {"dims": 2, "unit": "px", "spacing": 1.0, "size": 32, "patch": 32, "token": 8, "labelled_batch": 1,
         "unlabelled_batch": 1, "channels": 1, "classes": {0: "background", 1: "blob"}, "normalisation": "unit"},
        "test",
    )  # fmt: skip
    config = build(TrainConfig, {"device": "cpu"}, "train")
    machine = ThisMachine("uc_seg", {}, config, validation_cases=3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    # In a process of its own: here the allocator may still hold what earlier tests gave back, and no memory is added.
    with ProcessPoolExecutor(1, forkserver) as fresh:
        large, again = (fresh.submit(machine.step, plan.problem, 8).result() for _ in range(2))
    small = machine.step(plan.problem, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert small.seconds > 0 and small.measured
    assert 1e6 < large.bytes < machine.memory
    assert again.bytes > large.bytes / 4  # what the first step has left does not hide what the second one takes
    assert machine.validation_seconds(plan, (32, 32)) > 0
