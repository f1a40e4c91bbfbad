"""`ucseg train`: from a dataset to a run folder with weights, the record of how they were made, and what next."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.holding import holding, keeping_memory, or_how_to_go_on
from ucseg.cli.starting import going_on, load_start, with_earlier_encoder
from ucseg.cli.terminal import progress_bar, say
from ucseg.cli.training_words import (
    MEASURING,
    say_how_it_ended,
    say_what_is_missing,
    say_what_was_found,
    say_which_optimizer,
)
from ucseg.errors import UserError
from ucseg.machine.cores import cores

if TYPE_CHECKING:
    from ucseg.batches.prepare import Prepared
    from ucseg.dataset.manifest import Dataset
    from ucseg.planning.budget import Machine
    from ucseg.planning.plan import Plan
    from ucseg.training.outcome import FitResult
    from ucseg.training.run_folder import RunFolder
    from ucseg.training.settings import TrainConfig

PLAN_FILE = "plan.yaml"


def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset that `ucseg init` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[str | None, typer.Option(help="uc_seg (default), supervised or another.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Updates to make; default: the plan's, else 10,000. Every schedule scales with them."),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Time for training itself, in place of --steps: as many steps as fit.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    set: Annotated[  # the command line's word
        list[str] | None,
        typer.Option(help="key=value: method.KEY, plan.KEY, or a setting of training such as lr. May be repeated."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Weights to start from: a file, a run, or what `ucseg pretrain` made. Classes may differ."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    plan: Annotated[Path | None, typer.Option(help="Another plan than the dataset's plan.yaml.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the prepared cases.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load batches; they change no result.")] = None,
    devices: Annotated[int | None, typer.Option(help="Devices of a machine that share each batch.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines; torchrun or srun starts ucseg on each.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also log for TensorBoard, into OUT/tensorboard.")
    ] = False,
) -> FitResult:
    """Train a method on a dataset, from few labels and many scans.

    RUN then holds config.json, plan.yaml, environment.json, metrics.jsonl and the weights: last, and best on the
    validation cases. Ctrl-C saves; the same command with --resume goes on, to the same result as without a stop.

    Returns:
        Where the run is and its last and best validation figures.

    Raises:
        UserError: a setting, a file or the run folder is not as it should be; or the loss is not finite.
        Interrupted: stopped by the user, after saving.
    """
    from ucseg.dataset.manifest import load_dataset
    from ucseg.planning.origin import reading_of
    from ucseg.training.run_folder import RunFolder
    from ucseg.training.tensorboard import Scalars, require_tensorboard

    run = RunFolder(out)
    run.require(resume)
    if tensorboard:
        require_tensorboard()
        run.also_log = Scalars(run.path)
    data = load_dataset(dataset)  # a wrong folder is refused before the seconds that it takes to load torch
    if resume:
        run.require_data(reading_of(data))

    from ucseg.cli.launch import hush, launch, starter

    if starter() is not None:
        hush()

    options = {
        "steps": steps, "hours": hours, "seed": seed, "device": device, "precision": precision, "workers": workers,
        "devices": devices, "nodes": nodes, "init": None if init is None else str(init),
    }  # fmt: skip
    config, asked = settings_for(run, resume, set, options)
    train_it = partial(_train, data, run, config, asked, method, resume, plan, cache)
    work = partial(holding, run, resume, partial(keeping_memory, config.keep_memory, train_it))
    return or_how_to_go_on(run, partial(launch, work, config.devices, config.nodes, config.device))


def settings_for(
    run: RunFolder, resume: bool, texts: list[str] | None, options: Mapping[str, Any]
) -> tuple[TrainConfig, dict[str, dict[str, Any]]]:
    """The settings of training, on top of those of a resumed run; and what was asked for, by what it belongs to.

    Refuses here what minutes of preparing would not change.
    """
    from ucseg.config import build, merge
    from ucseg.training.device import choose_device
    from ucseg.training.settings import TrainConfig, check_hours, sort_settings
    from ucseg.training.start import find_start

    asked = sort_settings(texts or [], {key: value for key, value in options.items() if value is not None})
    if {"hours", "steps"} <= asked["train"].keys():
        raise UserError("hours-and-steps", "--hours and the number of steps contradict each other; give one of them.")
    config = build(TrainConfig, merge(run.config.get("train", {}) if resume else {}, asked["train"]), "train")
    check_hours(config)
    choose_device(config.device)
    if "init" in asked["train"] and config.init is not None:
        find_start(Path(config.init))
    return config, asked


def _train(
    data: Dataset,
    run: RunFolder,
    config: TrainConfig,
    asked: dict[str, dict[str, Any]],
    method: str | None,
    resume: bool,
    plan: Path | None,
    cache: Path | None,
) -> FitResult:
    """What `train` does in each of its processes, one for each device."""
    import torch

    from ucseg import ranks
    from ucseg.batches.prepare import prepare
    from ucseg.batches.stream import Stream, loader
    from ucseg.cli.training_bar import Display
    from ucseg.config import merge
    from ucseg.inference.calibration import Keeper
    from ucseg.inference.step_cost import ThisMachine
    from ucseg.inference.step_memory import require_batch
    from ucseg.inference.validation import watching
    from ucseg.methods import build_method, settings_of
    from ucseg.planning.origin import reading_of
    from ucseg.planning.plan import write_plan
    from ucseg.randomness import derive_seed
    from ucseg.scans.dicom.codes import save_codes
    from ucseg.training.trainer import fit

    with ranks.first_alone():
        before, (old_name, old_settings) = (run.config, run.method) if resume else ({}, ("uc_seg", {}))
        name = method or old_name
        given = merge(old_settings if name == old_name else {}, asked["method"])
        config, overrides = going_on(config, name, given, asked["train"], resume)
        settings_of(name, overrides)  # wrong ones are refused before all scans are read
        fresh_hours = None if resume else config.hours  # a resumed run keeps its steps
        machine = None if fresh_hours is None else ThisMachine(name, overrides, config, len(data.validation))
        chosen = with_earlier_encoder(
            find_plan(data, run.plan_file if resume and plan is None else plan, asked["plan"], machine, fresh_hours),
            *(None if resume else config.init, name, {**given, **asked["plan"]}),
        )
        torch.manual_seed(derive_seed(config.seed, "weights"))
        model = build_method(name, overrides, chosen.problem)
        start = load_start(model, config.init, before.get("init"), resume and "init" not in asked["train"], resume)
        require_batch(partial(build_method, name, overrides), chosen, config, model.views)
        say_what_was_found(data, resume)
        prepared = prepare(data, chosen, cache, config.workers, progress=ranks.rank() == 0)
        if "steps" not in asked["train"] and not resume:
            planned = _steps(machine, chosen, prepared, fresh_hours)
            config = config.model_copy(update={"steps": planned or config.steps})
        say_what_is_missing(prepared, bool(model.views))
        say_which_optimizer(config, model)

        complete = {
            "dataset": str(data.folder),
            "images": data.config.images,
            "method": {"name": name, "config": model.config.model_dump(mode="json")},
            "train": config.settled(model.has_encoder).model_dump(mode="json"),
            "problem": vars(chosen.problem),
            "plan": chosen.model_dump(mode="json", exclude={"made_of"}),
            "data": reading_of(data),
            "cases": _cases(prepared),
            **({} if start is None else {"init": start}),
        }
        stream = Stream(
            prepared.labelled,
            prepared.unlabelled,
            chosen,
            config.seed,
            model.views,
            pieces=ranks.size() * config.accumulate,
        )
        if resume:
            run.resume(complete)
        elif ranks.rank() == 0:
            run.begin(complete, lambda path: write_plan(chosen, path), hold=True)
            save_codes(data.config.codes, chosen.classes, run.path)
    precision = run.first_precision(config.precision) if resume else config.precision
    keeper = Keeper(run.path, ranks.rank() == 0)
    with progress_bar(own_estimate=True) as bar:
        display = Display(bar, name, None if resume or config.hours is not None else data.folder)
        result = fit(
            model,
            lambda start: loader(
                stream,
                start,
                config.steps if config.hours is None else None,  # with a time, more may fit than it seems now
                _loaders(config),
                range(ranks.rank(), stream.pieces, ranks.size()),
            ),
            run,
            config,
            watching(chosen, prepared.validation, precision, display.show_validation, keeper),
            on_step=display.show,
        )
    say_how_it_ended(result, data, prepared, model, next(iter(keeper.found), None))
    return result


def find_plan(
    data: Dataset, file: Path | None, overrides: Mapping[str, Any], machine: Machine | None, hours: float | None
) -> Plan:
    """The plan of a file or of the dataset, which gets one if it has none, with `overrides` laid over it."""
    from ucseg.config import merge
    from ucseg.planning.choosing import plan_with_reasons
    from ucseg.planning.origin import cases_changed, require_fit
    from ucseg.planning.plan import plan_from, read_plan, require_trainable, write_plan

    own = data.folder / PLAN_FILE
    if file is None and not own.exists():
        say("plan-missing", "No plan yet: making one from the training cases.")
        if overrides:  # fitted to them, and of this run alone
            return plan_with_reasons(data, overrides=overrides, machine=machine, hours=hours).plan
        made = plan_with_reasons(data, machine=machine, hours=hours)
        write_plan(made.plan.model_copy(update={"steps": None}), own, made.reasons)  # the hours are this run's alone
        say("plan-written", f"Wrote {own}; edit it to change how training works.")
    base = read_plan(file or own)
    require_fit(base, data, file or own)
    if file is None and (changed := cases_changed(base, data)):
        say("plan-of-other-cases", f"{own}: {changed}. 'ucseg plan {data.folder}' makes it again.", "yellow")
    preset = overrides.get("preset", base.preset)
    if preset != base.preset:
        raise UserError(
            "plan-preset",
            f"--set plan.preset={preset}: 'train' takes the plan as it is; make another one with "
            f"'ucseg plan DATASET --set preset={preset}'.",
        )
    if not overrides:
        return require_trainable(base, str(file or own))
    try:
        given = merge(base.model_dump(mode="json"), overrides)
        changed_plan = require_trainable(plan_from(given, "--set plan"), "--set plan")
        return changed_plan.model_copy(update={"made_of": base.made_of})
    except UserError as error:
        hint = "The other values stay as they are; 'ucseg plan DATASET --set KEY=VALUE' makes a plan that fits a value."
        raise UserError(error.code, f"{error}\n{hint}") from None


def _steps(machine: Machine | None, plan: Plan, prepared: Prepared, hours: float | None) -> int | None:
    """The plan's; or as many as the time allows, by a step and a validation measured here."""
    from ucseg.planning.budget import few_steps, steps_in

    if machine is None or hours is None:
        return plan.steps
    say("measuring", MEASURING)
    shapes = sorted(case.shape for case in prepared.validation or prepared.labelled)
    cost = machine.step(plan.problem, max(1, (plan.labelled_batch + plan.unlabelled_batch + 1) // 2))
    chosen = steps_in(hours, cost, machine.validation_seconds(plan, shapes[len(shapes) // 2]))
    say("steps-chosen", f"{chosen.value} steps: {chosen.why}. The number is corrected during the run.")
    if found := few_steps(chosen.value, hours, plan):
        say("few-steps", f"{found}.", "yellow")
    return chosen.value


def _loaders(config: TrainConfig) -> int:
    """Processes that make the batches of a device."""
    from ucseg.training.device import choose_device

    if config.counts_cores(choose_device(config.device)):
        return 0  # the work of other processes is counted only when they have ended
    return config.workers if config.workers is not None else max(0, min(4, cores() // config.devices - 1))


def _cases(prepared: Prepared) -> dict[str, Any]:
    """What is trained and validated on, and a digest of its content: a resumed run must find the same."""
    import hashlib

    content = hashlib.blake2b(digest_size=8)
    names: dict[str, Any] = {}
    for part in ("labelled", "unlabelled", "validation"):
        cases = getattr(prepared, part)
        names[part] = [case.case for case in cases]
        for case in cases:  # the names of prepared files hold digests of the scans' content
            content.update(f"{part} {case.image.name} {case.label.name if case.label else ''}\n".encode())
    return {**names, "content": content.hexdigest()}
