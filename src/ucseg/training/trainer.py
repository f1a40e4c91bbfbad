"""The training loop. It names no method, opens no scan, and draws every random number from the step's own seed."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.errors import Interrupted, UserError
from ucseg.methods.base import Method
from ucseg.randomness import derive_seed
from ucseg.training.average import WeightAverage
from ucseg.training.checkpoint import State, restore_weights, save_weights
from ucseg.training.device import channels_last, choose_device, choose_precision, convolutions_to, make_fabric
from ucseg.training.optim import (
    Schedule,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from ucseg.training.run_folder import MetricsLog, RunFolder
from ucseg.types import Batch, Progress

LoaderFactory = Callable[[int], Iterator[Batch]]
Validate = Callable[[Method], Mapping[str, float]]


class TrainConfig(Strict):
    """How to train, whatever the method. Defaults for the optimiser are UC-Seg's published ones (method.md).

    Attributes:
        steps: T, updates to make; every schedule scales with it.
        seed: of every random draw.
        precision: "bf16" autocast, "fp32", or "auto": bf16 where the device has it in hardware.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        channels_last: lay images and convolution weights out with the channels of a voxel together.
        lr: learning rate at the first step.
        schedule: how it decays to 0 at T.
        momentum, weight_decay: of SGD.
        clip_grad_norm: upper bound of the gradient's norm; None does not clip. 12 is nnU-Net's.
        ema: decay of the averaged weights; 0 keeps none.
        validate_every: steps between validations; None: a tenth of `steps`. The last step is always validated.
        save_every: seconds between saves of the resumable state; it is also saved at each validation.
        log_every: steps between lines of metrics.jsonl.
        workers: processes that load batches; None lets the loader choose. They change nothing in the result.
    """

    steps: int = Field(10_000, ge=1)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "auto"
    channels_last: bool = True
    lr: float = Field(0.01, gt=0)
    schedule: Schedule = "linear"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-5, ge=0)
    clip_grad_norm: float | None = Field(12.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    validate_every: int | None = Field(None, ge=1)
    save_every: float = Field(120.0, ge=0)
    log_every: int = Field(10, ge=1)
    workers: int | None = Field(None, ge=0)

    def validates_after(self, done: int) -> bool:
        """Whether validation follows once `done` steps are done."""
        return done == self.steps or done % (self.validate_every or max(1, self.steps // 10)) == 0


@dataclass
class StepReport:
    """What the loop tells a progress display."""

    done: int
    total: int
    terms: dict[str, float]
    validation: Mapping[str, float] | None


@dataclass
class FitResult:
    """How a run ended. `last` and `best` are validation results with their "step"; None without validation."""

    steps: int
    seconds: float
    last: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    already_finished: bool = False


def fit(
    method: Method,
    loader_factory: LoaderFactory,
    run: RunFolder,
    config: TrainConfig,
    validate: Validate | None = None,
    *,
    on_step: Callable[[StepReport], None] | None = None,
) -> FitResult:
    """Train a method to its last step, from the run's saved state if there is one.

    Args:
        method: freshly built from the run's seed; it is trained in place.
        loader_factory: given a step, yields the batches of that step and the following ones.
        run: a folder that was begun or resumed with the complete configuration.
        config: must be the one in the run's configuration.
        validate: measures the method on validation cases: figures by name; "dice" chooses the best weights.
        on_step: told at most a few times a second where training is.

    Raises:
        UserError: the loss is not finite (nothing of that update reaches the disk), or the saved state is damaged.
        Interrupted: stopped by SIGINT or SIGTERM, after saving.
    """
    return _Loop(method, loader_factory, run, config, validate, on_step).run_to_end()


class _TrainingStep(nn.Module):
    """The method's `step` as a forward pass, which is where fabric applies precision and, later, gradient exchange."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(
        self, labelled: Tensor, label: Tensor, unlabelled: dict[str, Tensor], where: _Where
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        batch = Batch(labelled, label, unlabelled, where.batch.labelled_cases, where.batch.unlabelled_cases)
        output = self.method.step(batch, where.progress)
        return output.terms, output.metrics


class _Where:
    """Hands the step's progress and case names through fabric, which looks into plain collections for tensors."""

    def __init__(self, progress: Progress, batch: Batch) -> None:
        self.progress = progress
        self.batch = batch


@dataclass
class _Flags:
    """One step's figures that have to be finite, maybe still being computed on the device."""

    done: int
    names: list[str]
    values: Tensor
    batch: Batch


@dataclass
class _Loop:
    method: Method
    loader_factory: LoaderFactory
    run: RunFolder
    config: TrainConfig
    validate: Validate | None
    on_step: Callable[[StepReport], None] | None
    done: int = 0
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    pending: _Flags | None = None
    stop: int | None = None

    def run_to_end(self) -> FitResult:
        config, method = self.config, self.method
        state = State.load(self.run.state_file) if self.run.state_file.exists() else None
        if state is not None:
            self.done, self.notes, self.seconds = state.step, state.notes, float(state.notes["seconds"])
        if self.done >= config.steps:
            return self._result(already_finished=True)
        device = choose_device(config.device)
        # A resumed run goes on in the precision that it began with, whatever "auto" would choose on this machine.
        precision = self.notes.setdefault("precision", choose_precision(config.precision, device))
        fabric = make_fabric(device, precision)
        self.run.note_environment(device=str(fabric.device), precision=precision, from_step=self.done)
        self.run.cut_metrics(self.done)
        if fabric.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # patches keep their size: worth the search for the fastest kernels

        if state is not None:
            restore_weights(method, state.weights, self.run.state_file)
        method.to(fabric.device)
        self.layout = channels_last(method.problem.dims) if config.channels_last else None
        if self.layout is not None:
            convolutions_to(method, self.layout)
        optimizer = make_optimizer(method, config.lr, config.momentum, config.weight_decay)
        self.average = WeightAverage(method, config.ema) if config.ema else None
        if state is not None:
            restore_optimizer(optimizer, state.optimizer)
            if self.average is not None:
                self.average.load(state.average)
        del state
        module, wrapped = fabric.setup(_TrainingStep(method), optimizer)
        self.fabric, self.optimizer, self.module, self.wrapped = fabric, optimizer, module, wrapped
        self.log = MetricsLog(self.run.metrics_file)
        try:
            with _stop_on_signal(self):
                self._steps(fabric)
        finally:
            self.log.close()
        return self._result()

    def _steps(self, fabric: Fabric) -> None:
        config = self.config
        self.clock = time.monotonic()
        saved = shown = time.monotonic()
        batches = self.loader_factory(self.done)
        for step in range(self.done, config.steps):
            progress = Progress(step, config.steps, config.seed, fabric.global_rank)
            lr = learning_rate(config.lr, config.schedule, step, config.steps)
            batch = self._to_device(next(batches))
            terms, metrics = self._step(batch, progress, lr)
            self.done = step + 1

            line: dict[str, Any] = {}
            if config.validates_after(self.done) and self.validate is not None:
                self._check_finite()
                line = {"validation": self._validate(self.validate)}
            if line or self.done % config.log_every == 0 or self.done == config.steps:
                self._check_finite()
                figures = _to_floats(terms | metrics)
                total = math.fsum(figures[name] for name in terms)
                self.log.write(
                    {
                        "step": self.done,
                        "loss": total,
                        **figures,
                        "lr": lr,
                        "seconds": round(self._elapsed(), 3),
                        **line,
                    }
                )
            now = time.monotonic()
            if self.on_step is not None and (now - shown > 0.5 or line or self.done == config.steps):
                shown = now
                last = self.notes.get("last")
                self.on_step(StepReport(self.done, config.steps, _to_floats(terms), last))
            ends = self.done == config.steps or self.stop is not None
            if ends or config.validates_after(self.done) or now - saved >= config.save_every:
                self._save(weights=ends or config.validates_after(self.done))
                saved = time.monotonic()
            if self.stop is not None and self.done < config.steps:
                again = f"ucseg train {self.run.config.get('dataset', 'DATASET')} --out {self.run.path} --resume"
                raise Interrupted(f"stopped after step {self.done} of {config.steps}, saved; go on with: {again}")

    def _step(self, batch: Batch, progress: Progress, lr: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One update. Dropout and the like draw from the global generator, so that is made a function of the step."""
        torch.manual_seed(derive_seed(progress.seed, "step", progress.step, 0, progress.rank))
        self.method.train()
        set_learning_rate(self.optimizer, lr)
        terms, metrics = self.module(batch.labelled, batch.label, batch.unlabelled, _Where(progress, batch))
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        flags = {name: value.detach() for name, value in terms.items()}
        if self.config.clip_grad_norm is not None:
            norm = self.fabric.clip_gradients(
                self.module, self.wrapped, max_norm=self.config.clip_grad_norm, error_if_nonfinite=False
            )
            assert norm is not None
            flags["gradient norm"] = norm.detach()
            metrics = {**metrics, "gradient norm": flags["gradient norm"]}
        self._check_finite()  # of the step before: by now it has been computed
        self.pending = _Flags(progress.step + 1, list(flags), torch.stack(list(flags.values())), batch)
        if self.fabric.device.type == "cpu":
            self._check_finite()  # costs nothing where nothing runs ahead
        self.wrapped.step()
        self.wrapped.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.method.after_update(progress)
        if self.average is not None:
            self.average.update(progress.step)
        return {name: value.detach() for name, value in terms.items()}, metrics

    def _check_finite(self) -> None:
        """Stop on figures that are not finite.

        On a GPU this looks at the step before the current one, so as not to make it wait; saving looks first, so
        weights that such a step has touched never reach the disk.
        """
        flags, self.pending = self.pending, None
        if flags is None or bool(torch.isfinite(flags.values).all()):
            return
        bad = [
            f"{name} = {value}"
            for name, value in zip(flags.names, flags.values.tolist(), strict=True)
            if not math.isfinite(value)
        ]
        cases = ", ".join(dict.fromkeys([*flags.batch.labelled_cases, *flags.batch.unlabelled_cases]))
        raise UserError(
            f"step {flags.done}: the loss is not finite ({', '.join(bad)}); the cases of the batch: {cases}; "
            "nothing of this step was saved. Look at these cases with 'ucseg check', "
            "or train with a smaller learning rate (--set lr=...) or --precision fp32."
        )

    def _to_device(self, batch: Batch) -> Batch:
        def image(tensor: Tensor) -> Tensor:
            tensor = tensor.to(self.fabric.device, non_blocking=True)
            return tensor if self.layout is None else tensor.contiguous(memory_format=self.layout)

        return Batch(
            image(batch.labelled),
            batch.label.to(self.fabric.device, non_blocking=True),
            {view: image(tensor) for view, tensor in batch.unlabelled.items()},
            batch.labelled_cases,
            batch.unlabelled_cases,
        )

    def _validate(self, validate: Validate) -> dict[str, Any]:
        """Measure the weights, and the averaged ones if they are kept; note them, and the best as such."""
        self.method.eval()
        with torch.no_grad(), self.fabric.autocast():
            plain = {name: float(value) for name, value in validate(self.method).items()}
            self._keep_if_best("last", plain)
            results = dict(plain)
            if self.average is not None:
                with self.average.in_place():
                    averaged = {name: float(value) for name, value in validate(self.method).items()}
                    self._keep_if_best("ema", averaged)
                results |= {f"ema {name}": value for name, value in averaged.items()}
        self.notes["last"] = {"step": self.done, **results}
        return results

    def _keep_if_best(self, weights: str, figures: Mapping[str, float]) -> None:
        best = self.notes.get("best")
        dice = figures["dice"]
        if math.isnan(dice) or (best is not None and dice <= best["dice"]):
            return
        self.notes["best"] = {"step": self.done, "weights": weights, **figures}
        save_weights(self.run, "best", self.method.state_dict(), self.notes["best"])

    def _save(self, weights: bool) -> None:
        """Write the state, last of all: what it says is on disk is on disk."""
        self._check_finite()
        self.log.settle()
        measured = self.notes.get("last") or {}
        own = self.method.state_dict()
        averaged = self.average.tensors if self.average is not None else {}
        if weights:
            known = {
                "of": self.config.steps,
                **(measured if measured.get("step") == self.done else {}),
                "step": self.done,
            }
            save_weights(self.run, "last", own, known)
            if averaged:
                save_weights(self.run, "ema", averaged, known)
        self.notes["seconds"] = self._elapsed()
        State(self.done, own, optimizer_tensors(self.optimizer), averaged, self.notes).save(self.run.state_file)

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.seconds += now - self.clock
        self.clock = now
        return self.seconds

    def _result(self, already_finished: bool = False) -> FitResult:
        return FitResult(self.done, self.seconds, self.notes.get("last"), self.notes.get("best"), already_finished)


class _stop_on_signal:  # noqa: N801 - reads as a phrase after `with`
    """While it lasts, the first Ctrl-C or SIGTERM asks the loop to end after its step; a second one ends it at once."""

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop
        self.owner = os.getpid()
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._asked)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _frame: object) -> None:
        if os.getpid() != self.owner:  # a loader's process inherited this; Ctrl-C reaches it too, and is not for it
            if number == signal.SIGTERM:
                os._exit(0)
            return
        self.loop.stop = number
        self.__exit__()


def _to_floats(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """All figures in one copy from the device."""
    if not tensors:
        return {}
    values = torch.stack([value.detach().float().reshape(()) for value in tensors.values()]).tolist()
    return dict(zip(tensors, values, strict=True))
