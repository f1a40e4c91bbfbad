"""What does training cost on a machine, and what fits its memory and the given time?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ucseg.errors import UserError
from ucseg.planning.sizing import LEAST_EDGE, Choice, multiples, strides_for
from ucseg.types import Array, Problem, Strides

if TYPE_CHECKING:
    from ucseg.planning.plan import Plan

VALIDATIONS = 10
"""In a run, by default."""
FEWEST_STEPS = 10_000
"""Where the time allows fewer updates, batches become smaller, and then plain images. 330 and 2,100 steps at full size
were far worse than more steps at half of it (benchmarks/results/self_planned.json). Limits between were not tried."""
WIDE = 32
"""Channels of the finest level in nnU-Net: taken where WIDE_STEPS updates of networks so wide fit into the time."""
WIDE_STEPS = 20_000
FEW_STEPS = 500
"""Fewer are reported: 330 steps on hc18 were far worse than 1,200, 470 on hippocampus little worse than 600."""
LEAST_BATCH = 2
LEAST_PIXELS = 112**2
"""Plain images are not made smaller for any time: half the paper's edge. Multiples of 16 may be a bit less."""
SLOW_STEP = 10.0
"""In seconds: a longer step is estimated from smaller batches instead of measured."""


@dataclass(frozen=True)
class Cost:
    """Time and peak memory of one training step.

    `measured` with this batch; otherwise estimated from smaller ones, along a line.
    """

    seconds: float
    bytes: float
    measured: bool = True


class Machine(Protocol):
    """Runs real steps of a method on a device, which has `memory` bytes for a step; `name` is for people."""

    name: str
    memory: float

    def step(self, problem: Problem, half: int) -> Cost:
        """A step of `half` labelled and as many unlabelled patches; of infinite memory if the device has too little."""
        ...

    def validation_seconds(self, plan: Plan, shape: tuple[int, ...]) -> float:
        """One validation of a run: all its cases, of S = `shape` in the median, on the network's grid."""
        ...


def batch_that_fits(
    machine: Machine, problem: Problem, wanted: Choice[int], hours: float | None = None
) -> tuple[Choice[int], Cost]:
    """Half a batch, at most as large as `wanted`, and what a step of it costs.

    A step of one and of two patches a half is measured. Larger ones follow a line through both: a batch that is too
    large would end the process before it could be measured.
    """
    one = machine.step(problem, 1)
    two = machine.step(problem, 2) if one.bytes <= machine.memory / 2 and one.seconds <= SLOW_STEP else None

    def cost(half: int) -> Cost:
        if two is None:
            return Cost(half * one.seconds, half * one.bytes, half == 1)
        grown = [max(b - a, 0.3 * a) for a, b in ((one.seconds, two.seconds), (one.bytes, two.bytes))]
        return Cost(one.seconds + (half - 1) * grown[0], one.bytes + (half - 1) * grown[1], half <= 2)

    why = [wanted.why] if wanted.why else []
    fits = [half for half in range(1, wanted.value + 1) if cost(half).bytes <= machine.memory]
    half = max(fits, default=1)
    if half < wanted.value:
        why.append(f"{half} of them fit into {_gib(machine.memory)} of {machine.name}")
    if hours is not None:
        enough = [n for n in range(LEAST_BATCH, half + 1) if hours * 3600 >= FEWEST_STEPS * cost(n).seconds]
        timely = max(enough, default=min(half, LEAST_BATCH))
        if timely < half:
            steps = 3600 * hours / cost(timely).seconds
            fewer = f"fewer, so that {FEWEST_STEPS} steps fit into {hours:g} h"
            why = [fewer if enough else f"the fewest, and still only about {steps:.0f} steps fit into {hours:g} h"]
            half = timely
    found = cost(half)
    if not found.measured and found.seconds <= SLOW_STEP and found.bytes <= machine.memory:
        found = machine.step(problem, half)
    how = "measured" if found.measured else "estimated from smaller batches"
    why.append(f"a step takes {found.seconds:.3g} s and {_gib(found.bytes)} on {machine.name} ({how})")
    return Choice(half, "; ".join(why)), found


def pixels_in(hours: float, pixels: int, step: Cost) -> Choice[float] | None:
    """Pixels of an image or a patch at which FEWEST_STEPS fit, at least LEAST_PIXELS; None if they fit at `pixels`.

    The time of a step grows with the pixels. Few updates at full size teach less than more at half of it: see
    benchmarks/results/short_runs.json.
    """
    share = hours * 3600 / (FEWEST_STEPS * step.seconds)
    if share >= 1 or pixels <= LEAST_PIXELS:
        return None
    if share * pixels >= LEAST_PIXELS:
        return Choice(share * pixels, f"so that {FEWEST_STEPS} steps fit into {hours:.3g} h")
    return Choice(LEAST_PIXELS, f"the least, and still fewer than {FEWEST_STEPS} steps fit into {hours:.3g} h")


def halve_to_fit(
    patch: tuple[int, ...], spacing: tuple[float, ...], halvings: int, strides: Strides | None = None
) -> Choice[tuple[int, ...]]:
    """A patch with its voxels halved so many times, cut along its longest axis in mm, in multiples for its levels."""

    def down(shape: Array) -> tuple[Array, Array]:
        """Rounded down to multiples of what the levels of such a patch divide by, and these numbers."""
        steps = strides or strides_for(tuple(map(int, shape)), spacing).value
        divide = np.array(multiples(steps, len(patch)))
        return np.maximum(divide, shape // divide * divide), divide

    shape, divide = down(np.array(patch))
    while np.prod(shape) > np.prod(patch) / 2**halvings:
        able = shape - divide >= 2 * LEAST_EDGE
        if not able.any():
            break
        shape[int(np.argmax(np.where(able, shape * np.asarray(spacing), 0)))] -= 1
        shape, divide = down(shape)
    whole = " x ".join(map(str, patch))
    return Choice(tuple(map(int, shape)), f"{whole} is too large for the device's memory even one at a time")


def steps_in(hours: float, step: Cost, validation: float) -> Choice[int]:
    """Updates that fit into the time, beside ten validations and a twentieth for reading and saving.

    A UserError if not even one step fits.
    """
    seconds = 3600 * hours
    left = 0.95 * seconds - VALIDATIONS * validation
    steps = int(left / step.seconds)
    if steps < 1:
        least = math.ceil(100 * (VALIDATIONS * validation + step.seconds) / 0.95 / 3600) / 100
        raise UserError(
            "hours-too-few",
            f"--hours {hours:g}: a step takes {step.seconds:.3g} s and {VALIDATIONS} validations "
            f"{VALIDATIONS * validation:.3g} s, so not even one step fits: give it {least:g} h or more.",
        )
    digits = max(0, len(str(steps)) - 2)
    rounded = steps // 10**digits * 10**digits
    return Choice(
        rounded,
        f"{hours:g} h at {step.seconds:.3g} s a step, less the time for {VALIDATIONS} validations, reading and saving",
    )


def few_steps(steps: int, hours: float, plan: Plan, *, for_this_time: bool = False) -> str | None:
    """What to expect and to do if too few steps fit into the time; None if enough do.

    Args:
        for_this_time: the plan was made for it.
    """
    if steps >= FEW_STEPS:
        return None
    images = plan.dims == 2 and plan.unit == "px" and np.prod(plan.patch) > LEAST_PIXELS
    fix = "give it more time"
    if for_this_time:
        fix += ", or a smaller patch or batch (--set)"
    elif images or plan.labelled_batch > LEAST_BATCH:
        fix += f", or change the plan: 'ucseg plan DATASET --hours {hours:g}' makes a plan of quicker steps"
    return f"{steps} steps are few: below {FEW_STEPS}, often little or nothing is learned; {fix}"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"
