"""Where the time of a training run goes, and the one change that would help most.

Stages follow one another, so at each border between two of them the time gone is given to the one that ends. Borders
inside an update are hooks on modules and optimiser, which leaves the update itself as it is. A device that works behind
Python's back has to be waited for at each border: there only every `SAMPLED`-th step is looked at, and the others are
taken to be like it. Validation and saving wait for the device anyway and are timed always.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ucseg.machine.cores import busy, cores
from ucseg.methods.base import Method
from ucseg.networks import Network
from ucseg.training.device import quicker_in_bf16

SAMPLED = 25  # on a GPU
WARM = 3  # first steps there choose kernels and are like no other
WORTH = 0.05  # a change that saves less of the time is not worth saying
BF16_SAVES = 0.3  # of a step, from float32 to bf16 where it is quicker; benchmarks/results/step.json
RARER = 4  # times


@dataclass(frozen=True)
class TimeShares:
    """Shares of the run's time since it was started or resumed; together 1.

    Attributes:
        data: waiting for batches and bringing them to the device.
        networks: forward passes of the networks.
        method: the rest of the method's step: losses, pseudo-labels, mixing, memories.
        backward: gradients, their exchange and clipping.
        update: optimiser, teachers, averages.
        validation, saving: as named.
        other: logging, and whatever no stage has.
    """

    data: float
    networks: float
    method: float
    backward: float
    update: float
    validation: float
    saving: float
    other: float

    def __str__(self) -> str:
        shown = sorted(((share, name) for name, share in asdict(self).items() if share >= 0.005), reverse=True)
        named = {"networks": "forward of the networks", "method": "the method's own work"}
        return ", ".join(f"{named.get(name, name)} {share:.0%}" for share, name in shown)


class StageClock:
    """Times the stages of training.

    Args:
        method: its networks get hooks.
        step_module: the module whose forward pass is the method's step.
        optimizer: its step is the border between gradients and update.
        device: what is waited for at borders.

    Attributes:
        counts: how often there was "validation" and "saving".
    """

    def __init__(
        self, method: Method, step_module: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}  # of sampled steps
        self._whole: dict[str, float] = {"validation": 0.0, "saving": 0.0}
        self.counts = dict.fromkeys(self._whole, 0)
        self._steps = 0
        self._stage: str | None = None
        self._begun = time.perf_counter()
        self._hooks: list[RemovableHandle] = []
        self._hook(step_module, "method", "backward")
        for module in method.modules():
            if isinstance(module, Network):
                self._hook(module, "networks", "method")
        self._hooks.append(optimizer.register_step_pre_hook(lambda *_: self._border("update")))

    def _hook(self, module: nn.Module, inside: str, after: str) -> None:
        self._hooks.append(module.register_forward_pre_hook(lambda *_: self._border(inside)))
        self._hooks.append(module.register_forward_hook(lambda *_: self._border(after)))

    def step_begins(self) -> None:
        """Call before the batch is asked for."""
        sampled = self._device.type == "cpu" or self._steps % SAMPLED == WARM
        self._steps += 1
        self._stage, self._at = ("data" if sampled else None), self._now(sampled)

    def step_ends(self) -> None:
        """Call when the update is made, before validation, logging and saving."""
        self._border("none")
        self._stage = None

    def add(self, stage: str, since: float) -> None:
        """Count the time since `since` (of `time.perf_counter`) as "validation" or "saving"."""
        self._whole[stage] += time.perf_counter() - since
        self.counts[stage] += 1

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def shares(self) -> TimeShares | None:
        """None when no step was looked at."""
        looked_at = self._steps if self._device.type == "cpu" else len(range(WARM, self._steps, SAMPLED))
        if not looked_at:
            return None
        steps = {stage: seconds / looked_at * self._steps for stage, seconds in self._seconds.items()}
        known = steps | self._whole
        # Sampled steps may be slower than the others, so that the sum of the stages is more than the time gone.
        total = max(time.perf_counter() - self._begun, sum(known.values()), 1e-9)
        stages = ("data", "networks", "method", "backward", "update", "validation", "saving")
        shares = {stage: known.get(stage, 0.0) / total for stage in stages}
        return TimeShares(**shares, other=max(0.0, 1 - sum(shares.values())))

    def _border(self, following: str) -> None:
        if self._stage is None:
            return
        now = self._now(True)
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._at
        self._stage, self._at = following, now

    def _now(self, wait: bool) -> float:
        if wait and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif wait and self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def best_change(
    shares: TimeShares,
    precision: str,
    device: torch.device,
    validations: tuple[int, int],
    saves: tuple[float, float],
    processes: int = 1,
) -> str:
    """The change of settings that would save most time; where none saves much, the hardware that would.

    Args:
        precision: of the run, "bf16" or "fp32".
        validations: how many there were, the last one included, which always is; steps between them.
        saves: the part of them that the clock asked for, not a validation or the end; seconds between these.
        processes: that train together on this machine, each with as many threads as this one.
    """
    compute = shares.networks + shares.method + shares.backward
    there, used = cores(), torch.get_num_threads() * processes
    (count, validate_every), (by_the_clock, save_every) = validations, saves
    rarer = 1 - max(1, count // RARER) / max(1, count)
    less = 1 - 1 / RARER
    changes = [
        (shares.data, "more processes that load batches (--workers), or the cache on a faster disk (--cache)"),
        (rarer * shares.validation, f"validating less often (--set validate_every={RARER * validate_every})"),
        (less * by_the_clock * shares.saving, f"saving less often (--set save_every={RARER * save_every:.0f})"),
    ]
    if precision == "fp32" and quicker_in_bf16(device):
        changes.append((BF16_SAVES * compute, "bfloat16, in which this device is quicker (--precision bf16)"))
    if device.type == "cpu" and torch.cuda.is_available():
        changes.append((compute, "the GPU of this machine (--device cuda)"))
    elif device.type == "cpu" and used < there:
        saved = (1 - used / there) * compute
        free = "" if not busy() else ", once other programs leave them free"
        changes.append((saved, f"all {there} cores instead of {used} (OMP_NUM_THREADS={there // processes}){free}"))
    elif device.type == "cpu" and processes > there:
        changes.append(((1 - there / processes) * compute, f"no more processes than cores (--devices {there})"))
    saved, change = max(changes)
    if saved >= WORTH:
        return f"{change}: up to {saved:.0%} of the time"
    hardware = "a GPU" if device.type == "cpu" else "a faster or further device"
    return f"no setting: {compute:.0%} of the time is computing, so {hardware}"
