"""How to train, whatever the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ucseg.config import Strict, did_you_mean, parse_overrides
from ucseg.errors import UserError
from ucseg.machine.pool import MOST_WORKERS
from ucseg.methods import METHODS
from ucseg.planning.plan import MOST_STEPS, Plan
from ucseg.training.optim import OptimizerName, Schedule

if TYPE_CHECKING:
    import torch


GOING_ON: Mapping[str, Any] = {"small_first": 0.0}
"""Settings of a run that goes on from one of the same method, where the user gives no other: weights that know the
images need no small ones first. A lower learning rate was no better (benchmarks/warm_start.py)."""


RATES: Mapping[OptimizerName, float] = {"sgd": 0.03, "adamw": 0.001}


class TrainConfig(Strict):
    """How to train, whatever the method. Defaults of the optimiser are UC-Seg's, but for the learning rate.

    Attributes:
        steps: T, updates to make; every schedule scales with it.
        hours: time for training itself. `steps` is then a first estimate, which is corrected at every tenth of the run.
        clock: how `hours` count. "wall": as they pass. "work": on a CPU the time that its cores work for this run.
            Other programs hardly change that, and batches are then made in the process that trains. Elsewhere as they
            pass.
        seed: seed of every random draw.
        precision: "bf16" autocast, "fp32", or "auto": the quicker one on the device.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        channels_last: lay images and convolution weights out with the channels of a voxel together.
        compile: have torch.compile make the networks' passes, in training. For GPUs; the first steps take longer.
            Methods that use parts of a network gain nothing: `unimatch`, `urpc`, `ss_net`, `cct`, `dycon`.
        keep_memory: on a CPU, keep freed memory for the next step (see allocator.py): quicker, with a higher peak.
        optimizer: "sgd" or "adamw"; null: "adamw" where a network has an encoder for photographs and no
            lr is given, else "sgd".
        lr: learning rate at the first step; null: 0.03 with "sgd", 0.001 with "adamw". Published: 0.01 with "sgd", with
            which short runs learn less.
        schedule: how it decays to 0 at T.
        momentum: momentum of the optimiser.
        weight_decay: weight decay of the optimiser.
        small_first: share of the steps, the first ones, whose images have half the size; 0 as published. Images that
            would have fewer than 32 pixels an edge (96 with such an encoder) keep their size, and so do volumes
            of one voxel on the lowest level.
        clip_grad_norm: upper bound of the gradient's norm; null does not clip. 12 is nnU-Net's.
        ema: decay of the averaged weights; 0 keeps none.
        validate_every: steps between validations; null means a tenth of `steps`. The last step is always validated.
        save_every: seconds between saves of the resumable state; it is also saved at each validation.
        log_every: steps between lines of metrics.jsonl.
        workers: processes that load batches, for each device; null chooses. They change nothing in the result.
        devices: devices of each machine; they share the plan's batch.
        nodes: machines that share the plan's batch.
        init: file or run folder whose weights training starts from, see docs/how-to/pretrain.md; null: random weights.
        accumulate: pieces into which the share of a device is cut, to need less memory: an update is then the mean of
            the gradients of `accumulate` smaller batches, one after the other. Steps count updates.
    """

    steps: int = Field(10_000, ge=1, le=MOST_STEPS)
    hours: float | None = Field(None, gt=0, le=100_000)
    clock: Literal["wall", "work"] = "wall"
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "auto"
    channels_last: bool = True
    compile: bool = False
    keep_memory: bool = True
    optimizer: OptimizerName | None = None
    lr: float | None = Field(None, gt=0, le=1000)
    schedule: Schedule = "linear"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-5, ge=0, le=1000)
    small_first: float = Field(0.7, ge=0, le=1)
    clip_grad_norm: float | None = Field(12.0, gt=0, le=1e9)
    ema: float = Field(0.0, ge=0, lt=1)
    validate_every: int | None = Field(None, ge=1, le=MOST_STEPS)
    save_every: float = Field(120.0, ge=0, le=1e9)
    log_every: int = Field(10, ge=1, le=MOST_STEPS)
    workers: int | None = Field(None, ge=0, le=MOST_WORKERS)
    devices: int = Field(1, ge=1, le=1024)
    nodes: int = Field(1, ge=1, le=4096)
    init: str | None = None
    accumulate: int = Field(1, ge=1, le=4096)

    def settled(self, encoder: bool) -> TrainConfig:
        """With optimiser and learning rate where none is given. `encoder`: a network has one for photographs."""
        name = self.optimizer or ("adamw" if encoder and self.lr is None else "sgd")
        return self.model_copy(update={"optimizer": name, "lr": self.lr or RATES[name]})

    @property
    def tenth(self) -> int:
        """Steps in a tenth of the run."""
        return max(1, self.steps // 10)

    def validates_after(self, done: int) -> bool:
        """Whether validation follows once `done` steps are done."""
        return done == self.steps or done % (self.validate_every or self.tenth) == 0

    def counts_cores(self, device: torch.device) -> bool:
        """Whether time is the work of the cores, and not what passes."""
        return self.clock == "work" and device.type == "cpu"


def check_hours(config: TrainConfig) -> None:
    """Refuse, with a UserError, to fit steps to a time on several devices: their clocks would not agree."""
    if config.hours is not None and config.devices * config.nodes > 1:
        raise UserError("hours-one-device", "--hours works with one device only; give --steps with several.")


def sort_settings(texts: list[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """--set texts and options, sorted into settings of "method", "plan" and "train".

    Raises:
        UserError: a text is not key=value, belongs elsewhere (the message says where), or contradicts an option.
    """
    given = parse_overrides(texts)
    rooms: dict[str, dict[str, Any]] = {}
    for room, example in (("method", "--method supervised, or --set method.KEY=VALUE"), ("plan", "--plan FILE")):
        values = given.pop(room, {})
        if not isinstance(values, dict):
            raise UserError("set-whole", f"'--set {room}={values}' sets a whole {room}; use {example}.")
        rooms[room] = values
    homes = {
        "plan": {*Plan.model_fields},
        "method": {key for one in METHODS.values() for key in one.Config.model_fields},
    }
    for key, value in given.items():
        home = next((room for room, keys in homes.items() if key in keys and key not in TrainConfig.model_fields), None)
        if home:
            raise UserError("set-elsewhere", f"'{key}' is a setting of the {home}; write --set {home}.{key}=VALUE.")
        if key not in TrainConfig.model_fields and not did_you_mean(key, TrainConfig.model_fields):
            near = [hint for room, keys in homes.items() if (hint := did_you_mean(key, keys, f"{room}."))]
            if near:
                raise UserError("set-elsewhere", f"training has no setting '{key}'; {near[0]}")
        if key in options and options[key] != value:
            raise UserError(
                "set-contradicts", f"--{key} {options[key]} and --set {key}={value} contradict each other; give one."
            )
    return {**rooms, "train": {**given, **options}}
