"""The training loop. It names no method, opens no scan, and draws every random number from the step's own seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ucseg import ranks
from ucseg.errors import Interrupted
from ucseg.machine.writing import write_json
from ucseg.methods.base import Method
from ucseg.training.average import WeightAverage
from ucseg.training.checkpoint import State, load_state, restore_weights, save_weights
from ucseg.training.device import choose_device, choose_precision, make_fabric
from ucseg.training.optim import learning_rate, optimizer_tensors, restore_optimizer
from ucseg.training.outcome import FitResult, StepReport
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.stopping import STEP_FIRST, StopSignal
from ucseg.training.time_shares import StageClock, best_change
from ucseg.training.update import Updater
from ucseg.types import Batch, Progress

LoaderFactory = Callable[[int], Generator[Batch, None, None]]
Validate = Callable[[Method, bool], Mapping[str, float]]
NEAR_ENOUGH = 0.05  # of the steps: fewer more or less are not worth another end of every schedule
REPORT_EVERY = 0.5  # seconds between words to a progress display: each one waits for the GPU


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
        loader_factory: given a step, yields the batches of that step and the following ones, `accumulate` of each.
        run: a folder that was started or resumed with the complete configuration.
        config: must be the one in the run's configuration.
        validate: measures the method on validation cases: figures by name; "dice" chooses the best weights. It hears
            whether the last step is done: what takes long is measured once.
        on_step: called a few times a second at most, with how far training is.

    Several ranks call this together, each with its own batches; only rank 0 writes and reports.

    Raises:
        UserError: the loss is not finite (nothing of that update reaches the disk), or the saved state is damaged.
        Interrupted: stopped by SIGINT or SIGTERM, after saving.
    """
    state = load_state(run)
    if state is not None:
        config = config.model_copy(update={"steps": state.notes.get("steps", config.steps)})
    if state is not None and state.step >= config.steps:
        return _ended(run, method, state.step, state.notes, already_finished=True)
    loop = _Loop(method, run, config, validate, on_step, state)
    del state  # as large as the weights and the optimiser: not to be held through the run
    return loop.run_to_end(loader_factory)


class _Loop:
    def __init__(
        self,
        method: Method,
        run: RunFolder,
        config: TrainConfig,
        validate: Validate | None,
        on_step: Callable[[StepReport], None] | None,
        state: State | None,
    ) -> None:
        self.method, self.run, self.config, self.validate = method, run, config, validate
        self.leads = ranks.rank() == 0
        self.on_step = on_step if self.leads else None
        self.done = state.step if state else 0
        self.notes: dict[str, Any] = state.notes if state else {"seconds": 0.0, "run": run.digest}
        device = choose_device(config.device)
        self.counts_cores = config.counts_cores(device)
        if config.clock == "work":
            self.notes.setdefault("work", 0.0)
        # A resumed run goes on in the precision that it began with, whatever "auto" would choose on this machine.
        # Ranks take that of the first, since each of them has timed its own.
        chosen = ranks.all_say(choose_precision(config.precision, device))[0]
        precision = self.notes.setdefault("precision", chosen)
        self.fabric = make_fabric(device, precision, config.nodes)
        if self.leads:
            about = {"device": str(self.fabric.device), "precision": precision, "ranks": ranks.size()}
            run.note_environment(**about, from_step=self.done)
        if self.fabric.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # patches keep their size: worth the search for the fastest kernels
        if state is not None:
            restore_weights(method, state.weights, run.state_file)
        self.updater = Updater(method, self.fabric, config)
        self.average = WeightAverage(method, config.ema) if config.ema else None
        if state is not None:
            restore_optimizer(self.updater.optimizer, state.optimizer)
            if self.average is not None:
                self.average.load(state.average)
        if self.leads:
            run.cut_metrics(self.done)
        self.stages = StageClock(method, self.updater.step_module, self.updater.optimizer, self.fabric.device)

    def run_to_end(self, loader_factory: LoaderFactory) -> FitResult:
        self.log = self.run.metrics_file.open("a", encoding="utf-8") if self.leads else None
        try:
            # Closed whatever ends the steps: processes that load would keep one that ends by an error waiting for ever.
            with StopSignal(STEP_FIRST if self.leads else "") as stop, closing(loader_factory(self.done)) as batches:
                self._steps(batches, stop)
        finally:
            if self.log is not None:
                with suppress(OSError):  # what could not be written was reported when it was written
                    self.log.close()
            self.stages.close()
        result = _ended(self.run, self.method, self.done, self.notes, spent=self.stages.shares())
        result.on = f"{self.fabric.device.type} in {self.notes['precision']}"
        if result.spent is not None:
            config, device = self.config, self.fabric.device
            every = config.validate_every or config.tenth
            together = ranks.size() // config.nodes
            validations, saves = (self.stages.counts[stage] for stage in ("validation", "saving"))
            by_the_clock = self.timed_saves / max(1, saves)
            rarer = (validations, every), (by_the_clock, config.save_every)
            change = best_change(result.spent, self.notes["precision"], device, *rarer, together)
            if self.leads:
                shares = {stage: round(share, 4) for stage, share in asdict(result.spent).items()}
                steps = {"from_step": self.begun, "to_step": self.done}
                write_json(self.run.path / "time.json", {**steps, "shares": shares, "would_help_most": change})
            result.would_help_most = change
        return result

    def _steps(self, batches: Iterator[Batch], stop: StopSignal) -> None:
        self._clock = saved = shown = time.monotonic()
        self._worked = time.process_time()
        self.begun, self.timed_saves = self.done, 0
        self.notes.setdefault("counted", [self.done, self._counted()])
        while self.done < self.config.steps:
            config, step = self.config, self.done
            self.stages.step_begins()
            progress = Progress(step, config.steps, config.seed)
            terms, metrics = self.updater.update([next(batches) for _ in range(config.accumulate)], progress)
            if self.average is not None:
                self.average.update(step)
            self.stages.step_ends()
            self.done = step + 1

            validates = config.validates_after(self.done)
            measured = self._measure(self.validate) if validates and self.validate is not None else None
            if config.hours is not None and self.done % config.tenth == 0:
                self._fit_to(3600 * config.hours)
            at_end = self.done == self.config.steps
            if at_end or measured or self.done % config.log_every == 0:
                self._log(terms, metrics, learning_rate(self.updater.lr, config.schedule, step, config.steps), measured)
            if self.on_step is not None and (at_end or measured or time.monotonic() - shown > REPORT_EVERY):
                self.on_step(self._report(_to_floats(terms)))
                shown = time.monotonic()
            # Signals and clocks differ between ranks; what they cause must not.
            stops, due = ranks.any_of(stop.asked, time.monotonic() - saved >= config.save_every)
            if at_end or validates or stops or due:
                self._save(weights=at_end or validates or stops)
                self.timed_saves += not (at_end or validates or stops)
                saved = time.monotonic()
            if stops and not at_end:
                raise Interrupted(
                    f"stopped after step {self.done} of {self.config.steps}; all is saved. "
                    f"Continue with: {self.run.again}"
                )

    def _report(self, terms: dict[str, float]) -> StepReport:
        config = self.config
        by_the_clock = config.hours is not None and config.clock == "wall"
        return StepReport(
            self.done,
            config.steps,
            terms,
            self.notes.get("last"),
            math.ceil(self.steady_from * config.steps),
            max(0.0, 3600 * (config.hours or 0.0) - self._counted()) if by_the_clock else None,
        )

    @property
    def steady_from(self) -> float:
        """Share of the steps after which all of them cost the same; 0: from the first one."""
        share = max(self.method.steady_from, self.updater.small_first)
        return share if share < 1 else 0.0

    def _fit_to(self, seconds: float) -> None:
        """As many steps as fit into the time, at the pace of those since the last count.

        Every schedule is a function of the share of the steps that is done, so it runs on from there. A resumed run
        knows the steps and the last count, which are saved with the state.
        """
        gone = self._counted()
        done, then = self.notes["counted"]
        pace = (gone - then) / (self.done - done)
        self.notes["counted"] = [self.done, gone]
        if done < self.steady_from * self.config.steps:
            return  # quicker steps than those to come
        # One more at least, unless the end has come: the last step is validated, which is decided before.
        steps = max(self.done + round((seconds - gone) / pace), min(self.done + 1, self.config.steps))
        if abs(steps - self.config.steps) > NEAR_ENOUGH * self.config.steps:
            self.notes["steps"] = steps
            self.config = self.config.model_copy(update={"steps": steps})

    def _measure(self, validate: Validate) -> dict[str, float]:
        """Validate the weights, and the averaged ones if they are kept; note the figures, and the best weights."""
        begun = time.perf_counter()
        self.updater.check_finite()
        self.method.eval()
        at_end = self.done == self.config.steps
        with torch.no_grad():
            figures = {name: float(value) for name, value in validate(self.method, at_end).items()}
            self._keep_if_best("last", figures)
            if self.average is not None:
                with self.average.in_place():
                    averaged = {name: float(value) for name, value in validate(self.method, at_end).items()}
                    self._keep_if_best("ema", averaged)
                figures |= {f"ema {name}": value for name, value in averaged.items()}
        self.notes["last"] = {"step": self.done, **figures}
        self.stages.add("validation", begun)
        return figures

    def _keep_if_best(self, weights: str, figures: Mapping[str, float]) -> None:
        best, dice = self.notes.get("best"), figures["dice"]
        if math.isnan(dice) or (best is not None and dice <= best["dice"]):
            return
        self.notes["best"] = {"step": self.done, "weights": weights, **figures}
        if self.leads:
            save_weights(self.run, "best", self.method.state_dict(), self.notes["best"])

    def _log(
        self, terms: dict[str, Tensor], metrics: dict[str, Tensor], lr: float, measured: dict[str, float] | None
    ) -> None:
        self.updater.check_finite()
        if self.log is None:
            return
        figures = _to_floats(terms | metrics)
        known = self.notes.setdefault("terms", [])
        new = [name for name in terms if name not in known]
        known += new
        silent = [*self.notes.get("silent", []), *new]
        self.notes["silent"] = [name for name in silent if figures.get(name, 0.0) == 0.0]
        line: dict[str, Any] = {"step": self.done, "loss": math.fsum(figures[name] for name in terms), **figures}
        line |= {"lr": lr, "seconds": round(self._seconds(), 3)}
        if "work" in self.notes:
            line["work"] = round(self.notes["work"], 3)
        self.run.log(self.log, line | ({"validation": measured} if measured else {}))

    def _save(self, weights: bool) -> None:
        """Write the state, last of all: what it says is on disk is on disk."""
        begun = time.perf_counter()
        self.updater.check_finite()
        if self.log is None:
            return
        self.run.settle(self.log)  # a saved state must never be ahead of its log
        own = self.method.state_dict()
        averaged = self.average.tensors if self.average is not None else {}
        if weights:
            known = {"step": self.done, "of": self.config.steps}
            measured = self.notes.get("last")
            if measured is not None and measured["step"] == self.done:
                known |= measured
            save_weights(self.run, "last", own, known)
            if averaged:
                save_weights(self.run, "ema", averaged, known)
        self._seconds()
        State(self.done, own, optimizer_tensors(self.updater.optimizer), averaged, self.notes).save(self.run.state_file)
        self.stages.add("saving", begun)

    def _seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        now, worked = time.monotonic(), time.process_time()
        self.notes["seconds"] += now - self._clock
        if "work" in self.notes:
            self.notes["work"] += worked - self._worked if self.counts_cores else now - self._clock
        self._clock, self._worked = now, worked
        return float(self.notes["seconds"])

    def _counted(self) -> float:
        """Seconds as `hours` count them."""
        seconds = self._seconds()
        return float(self.notes.get("work", seconds))


def _ended(run: RunFolder, method: Method, steps: int, notes: Mapping[str, Any], **more: Any) -> FitResult:
    seconds, silent = float(notes["seconds"]), notes.get("silent", [])
    more |= {"work": notes.get("work"), "parameters": sum(p.numel() for p in method.parameters() if p.requires_grad)}
    return FitResult(run.path, steps, seconds, notes.get("last"), notes.get("best"), silent=silent, **more)


def _to_floats(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """All figures in one copy from the device."""
    if not tensors:
        return {}
    values = torch.stack([value.detach().float().reshape(()) for value in tensors.values()]).tolist()
    return dict(zip(tensors, values, strict=True))
