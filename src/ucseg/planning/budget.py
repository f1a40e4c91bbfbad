"""What training costs on a machine, as measured there, and what fits its memory and the time that there is."""

from __future__ import annotations

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
"""Where the time allows fewer updates, batches are made smaller, and then plain images: 330 and 2,100 steps at full
size came out far below more steps at half of it (benchmarks/results/self_planned.json). Where between 2,100 and 10,000
the limit belongs was not measured."""
FEW_STEPS = 500
"""Fewer are told: 330 steps on hc18 came out far below 1,200, 470 on hippocampus little below 600 (the same file)."""
LEAST_BATCH = 2
LEAST_PIXELS = 112**2
"""Room that plain images keep however short the time: half the paper's edge. Multiples of 16 may fill it less."""
SLOW_STEP = 10.0
"""A step that would take longer, in seconds, is estimated from smaller batches instead of measured."""


@dataclass(frozen=True)
class Cost:
    """Of a training step.

    Attributes:
        seconds, bytes: of one step; the most memory that it takes.
        measured: with this batch; otherwise drawn on linearly from smaller ones.
    """

    seconds: float
    bytes: float
    measured: bool = True


class Machine(Protocol):
    """Runs real steps of a method on a device.

    Attributes:
        name: of method, device and precision, for people.
        memory: bytes that a step may take.
    """

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
    """Half a batch of at most the patches that are wanted, and what a step of it costs.

    A step of one and of two patches a half is measured; larger ones follow a line through both, since memory and time
    grow with the batch, and a batch too large would end the process before it could be measured.
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
            held = f"about {3600 * hours / cost(timely).seconds:.0f}"
            so = f"fewer, so that {hours:g} h hold {FEWEST_STEPS} steps"
            why.append(so if enough else f"the fewest, since {hours:g} h hold {held} steps even so")
            half = timely
    found = cost(half)
    if not found.measured and found.seconds <= SLOW_STEP and found.bytes <= machine.memory:
        found = machine.step(problem, half)
    how = "measured" if found.measured else "estimated from smaller batches"
    why.append(f"a step takes {found.seconds:.3g} s and {_gib(found.bytes)} on {machine.name} ({how})")
    return Choice(half, "; ".join(why)), found


def pixels_in(hours: float, pixels: int, step: Cost) -> Choice[float] | None:
    """Pixels an image at which FEWEST_STEPS fit, or LEAST_PIXELS; None where they fit as it is.

    A step of convolutions takes a time that grows with the pixels. Few updates at full size teach less than more of
    them at half of it: see benchmarks/results/short_runs.json.
    """
    share = hours * 3600 / (FEWEST_STEPS * step.seconds)
    if share >= 1 or pixels <= LEAST_PIXELS:
        return None
    if share * pixels >= LEAST_PIXELS:
        return Choice(share * pixels, f"so that {hours:.3g} h hold {FEWEST_STEPS} steps")
    return Choice(LEAST_PIXELS, f"the least, since {hours:.3g} h hold few of the {FEWEST_STEPS} steps that are wanted")


def halve_to_fit(
    patch: tuple[int, ...], spacing: tuple[float, ...], halvings: int, strides: Strides | None = None
) -> Choice[tuple[int, ...]]:
    """A patch of so many times half the voxels, cut along its longest axis in mm, in multiples for its levels."""

    def down(shape: Array) -> tuple[Array, Array]:
        """To multiples of what the levels of such a patch divide by, and these."""
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
    """Updates for which the time suffices, ten validations and a twentieth for reading and saving included.

    Raises:
        UserError: not even one step fits.
    """
    seconds = 3600 * hours
    left = 0.95 * seconds - VALIDATIONS * validation
    steps = int(left / step.seconds)
    if steps < 1:
        raise UserError(
            "todo",
            f"--hours {hours:g}: a step takes {step.seconds:.3g} s and a validation {validation:.3g} s, of which a run "
            f"has {VALIDATIONS}; give it more time, or let 'ucseg plan DATASET --hours H' make a quicker plan.",
        )
    digits = max(0, len(str(steps)) - 2)
    rounded = steps // 10**digits * 10**digits
    return Choice(
        rounded,
        f"{hours:g} h at {step.seconds:.3g} s a step, with {VALIDATIONS} validations of {validation:.3g} s and a "
        "twentieth for reading and saving; ramps and schedules are parts of the steps, and scale with them",
    )


def few_steps(steps: int, hours: float, plan: Plan) -> str | None:
    """What to expect and to do where the time holds too few steps to learn from; None where it holds enough."""
    if steps >= FEW_STEPS:
        return None
    images = plan.size is not None and np.prod(plan.size) > LEAST_PIXELS
    mend = "give it more time"
    if images or plan.labelled_batch > LEAST_BATCH:
        mend = f"'ucseg plan DATASET --hours {hours:g}' makes a plan of quicker steps, of which more fit; or {mend}"
    return f"{steps} steps are few: below {FEW_STEPS}, often little or nothing is learned; {mend}"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"
