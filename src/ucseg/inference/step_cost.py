"""What a method's steps cost on this machine: measured on noise, before anything is planned around them."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ucseg.inference.predictor import Predictor
from ucseg.inference.step_memory import free_on
from ucseg.machine.memory import kernel_bytes, total_memory
from ucseg.methods import build_method
from ucseg.methods.base import Method
from ucseg.networks.cpu import CHANNELS_LAST
from ucseg.planning.budget import Cost
from ucseg.planning.plan import Plan
from ucseg.training.allocator import give_back
from ucseg.training.device import choose_device, choose_precision, convolutions_to, make_fabric
from ucseg.training.masked_images import NAME, MaskedImages, MaskedImagesConfig
from ucseg.training.settings import TrainConfig
from ucseg.training.update import Updater
from ucseg.types import Batch, Problem, Progress

STEPS = 4
"""Steps that are timed, after one that warms up: both kinds of methods whose steps take turns. Fewer, but at least two,
after PATIENCE seconds."""
PATIENCE = 5.0
GPU_SHARE, RAM_SHARE = 0.9, 0.6
"""Parts of the free memory that a step may take: workers and prepared cases share the RAM."""


class ThisMachine:
    """A `Machine` (see planning/budget.py) that runs steps here, with the device and optimiser of `config`."""

    def __init__(self, method: str, settings: Mapping[str, Any], config: TrainConfig, validation_cases: int) -> None:
        self.method, self.settings, self.config = method, settings, config
        self.validation_cases = validation_cases
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.precision, self.device)
        self.name = f"{self.device.type} ({self.precision}, {method})"
        self.memory = _free_memory(self.device)

    def step(self, problem: Problem, half: int) -> Cost:
        """See `Machine`. Random images and labels; the mean over the run of steps that differ."""
        generator = torch.get_rng_state()
        try:
            return self._step(problem, half)
        except torch.OutOfMemoryError:
            return Cost(math.inf, math.inf)
        finally:
            torch.set_rng_state(generator)

    def _step(self, problem: Problem, half: int) -> Cost:
        before = _start_counting(self.device)
        method = self.built(problem)
        updater = Updater(method, make_fabric(self.device, self.precision), self.config)
        shape = (half, problem.channels, *problem.patch)
        label = torch.randint(0, problem.classes, (half, *problem.patch))
        batch = Batch(torch.randn(shape), label, {view: torch.randn(shape) for view in method.views})

        def seconds(first: int) -> float:
            """Of a step of a thousand."""
            found: list[float] = []
            for done in range(STEPS + 1):
                start = self._now()
                updater.update([batch], Progress(first + done, 1000))
                updater.check_finite()  # waits for a GPU
                found.append(self._now() - start)
                if done > 1 and sum(found) > PATIENCE:
                    break
            return statistics.fmean(found[1:])

        # Dearest first: its peak memory is the run's, and what is kept serves the others.
        changes = sorted({0.0, method.steady_from, updater.small_first, 1.0}, reverse=True)
        pairs = itertools.pairwise(changes)
        mean = sum((end - begin) * seconds(max(0, round(1000 * end) - STEPS - 1)) for end, begin in pairs)
        return Cost(mean, _most(self.device, before))

    def built(self, problem: Problem) -> Method:
        """What makes the steps."""
        return build_method(self.method, self.settings, problem)

    def validation_seconds(self, plan: Plan, shape: tuple[int, ...]) -> float:
        """See `Machine`: one prediction of noise, times the validation cases."""
        method = build_method(self.method, self.settings, plan.problem)
        convolutions_to(method, CHANNELS_LAST[plan.dims])
        predictor = Predictor(method, plan, self.device, precision=self.config.precision, mirror=False)
        start = self._now()
        predictor.predict_prepared(np.zeros((plan.channels, *shape), np.float32))
        return self.validation_cases * (self._now() - start)

    def _now(self) -> float:
        """Seconds, as the hours of the run count them."""
        return time.process_time() if self.config.counts_cores(self.device) else time.perf_counter()


class StepsOfPretraining(ThisMachine):
    """The same for steps of `ucseg pretrain`."""

    def __init__(self, pretext: MaskedImagesConfig, config: TrainConfig) -> None:
        super().__init__(NAME, {}, config, 0)
        self.pretext = pretext

    def built(self, problem: Problem) -> Method:
        return MaskedImages(self.pretext, problem)


def _free_memory(device: torch.device) -> float:
    free = free_on(device)
    return (RAM_SHARE if device.type == "cpu" else GPU_SHARE) * (free if math.isfinite(free) else total_memory() / 2)


def _start_counting(device: torch.device) -> float:
    """Memory in use now; the system counts the peak again from here, where it can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    if device.type == "cpu":
        give_back()  # what an earlier step has left would hide what this one takes
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return 0.0  # the whole process counts, then
        return kernel_bytes("VmRSS") or 0.0
    return 0.0


def _most(device: torch.device, before: float) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) - before
    if device.type == "mps":
        return float(torch.mps.driver_allocated_memory())
    return max((peak_memory() or 0.0) - before, 1.0)


def peak_memory() -> float | None:
    """Most bytes that this process has held so far; None where the system does not say it."""
    # The kernel's own figure first: getrusage's includes what the parent held when this process was started.
    peak = kernel_bytes("VmHWM")
    if peak is None:
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10))
    return peak
