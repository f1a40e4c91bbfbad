"""`ucseg pretrain`: networks learn what the scans of a dataset look like, without masks, and training starts there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.holding import holding, keeping_memory, or_how_to_go_on
from ucseg.cli.starting import load_start
from ucseg.cli.terminal import console, progress_bar, say
from ucseg.cli.train import find_plan, settings_for
from ucseg.cli.training_words import say_which_optimizer
from ucseg.machine.cores import cores

if TYPE_CHECKING:
    from ucseg.batches.prepare import PreparedCase
    from ucseg.dataset.manifest import Dataset
    from ucseg.training.outcome import FitResult
    from ucseg.training.run_folder import RunFolder
    from ucseg.training.settings import TrainConfig


def pretrain(
    dataset: Annotated[Path, typer.Argument(help="Dataset that `ucseg init` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights, for `ucseg train --init`.")],
    steps: Annotated[int | None, typer.Option(help="Updates to make; default: the plan's, else 10,000.")] = None,
    hours: Annotated[float | None, typer.Option(help="Time, in place of --steps: as many steps as fit.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    set: Annotated[  # the command line's word
        list[str] | None,
        typer.Option(help="key=value: method.networks, method.hidden, plan.KEY, or a setting of training such as lr."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from, as of `ucseg train`.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the pretraining in the folder.")] = False,
    plan: Annotated[Path | None, typer.Option(help="Another plan than the dataset's plan.yaml.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the prepared cases.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load batches; they change no result.")] = None,
) -> FitResult:
    """Let networks fill in hidden blocks of the training scans: no mask is used, and no validation or test scan.

    OUT then holds weights.safetensors, which `ucseg train DATA --out RUN --init OUT` starts from, and what a run holds.
    Ctrl-C saves; the same command with --resume goes on, to the same result as without a stop.

    Returns:
        Where the run is, its steps and seconds.

    Raises:
        UserError: a setting, a file or the folder is not as it should be; or the loss is not finite.
        Interrupted: stopped by the user, after saving.
    """
    from ucseg.dataset.manifest import load_dataset
    from ucseg.training.run_folder import RunFolder

    run = RunFolder(out)
    run.require(resume, "pretrain")
    data = load_dataset(dataset)

    from ucseg.cli.launch import launch

    options = {
        "steps": steps, "hours": hours, "seed": seed, "device": device, "precision": precision, "workers": workers,
        "init": None if init is None else str(init),
    }  # fmt: skip
    config, asked = settings_for(run, resume, set, options)
    pretrain_it = partial(_pretrain, data, run, config, asked, resume, plan, cache)
    work = partial(holding, run, resume, partial(keeping_memory, config.keep_memory, pretrain_it))
    return or_how_to_go_on(run, partial(launch, work, config.devices, config.nodes, config.device))


def _pretrain(
    data: Dataset,
    run: RunFolder,
    config: TrainConfig,
    asked: dict[str, dict[str, Any]],
    resume: bool,
    plan: Path | None,
    cache: Path | None,
) -> FitResult:
    """What `pretrain` does in each of its processes, one for each device."""
    import torch

    from ucseg import ranks
    from ucseg.batches.prepare import prepare
    from ucseg.batches.stream import ImageStream, loader
    from ucseg.cli.training_bar import Display
    from ucseg.config import build, merge
    from ucseg.inference.step_cost import StepsOfPretraining
    from ucseg.inference.step_memory import require_batch
    from ucseg.planning.budget import steps_in
    from ucseg.planning.plan import write_plan
    from ucseg.randomness import derive_seed
    from ucseg.training.masked_images import NAME, MaskedImages, MaskedImagesConfig
    from ucseg.training.trainer import fit

    with ranks.first_alone():
        before: dict[str, Any] = run.config if resume else {}
        settings = merge(run.method[1] if resume else {}, asked["method"])
        method = build(MaskedImagesConfig, settings, "pretrain")
        chosen = find_plan(data, run.plan_file if resume and plan is None else plan, asked["plan"], None, None)
        torch.manual_seed(derive_seed(config.seed, "weights"))
        model = MaskedImages(method, chosen.problem)
        say_which_optimizer(config, model)
        config = config.settled(model.has_encoder)
        start = load_start(model, config.init, before.get("init"), resume and "init" not in asked["train"], resume)
        require_batch(partial(MaskedImages, method), chosen, config, model.views, masks=False)
        prepared = prepare(data, chosen, cache, config.workers, progress=ranks.rank() == 0)
        for case, reason in prepared.left_out:
            say("case-left-out", f"left out: {case}: {reason}", "yellow")
        images = sorted(prepared.labelled + prepared.unlabelled, key=lambda case: case.case)
        stream = ImageStream(images, chosen, config.seed, model.views, pieces=ranks.size() * config.accumulate)
        if "steps" not in asked["train"] and not resume:
            planned = chosen.steps
            if config.hours is not None:
                step = StepsOfPretraining(method, config).step(chosen.problem, stream.patches)
                planned = steps_in(config.hours, step, 0.0).value
                why = f"a step takes {step.seconds:.3g} s. The number is corrected during the run"
                say("steps-chosen", f"{planned} steps in {config.hours:g} h: {why}.")
            config = config.model_copy(update={"steps": planned or config.steps})
        complete = {
            "verb": "pretrain",
            "dataset": str(data.folder),
            "method": {"name": NAME, "config": method.model_dump(mode="json")},
            "train": config.model_dump(mode="json"),
            "plan": chosen.model_dump(mode="json", exclude={"made_of"}),
            "cases": _images(images),
            **({} if start is None else {"init": start}),
        }
        if resume:
            run.resume(complete)
        elif ranks.rank() == 0:
            run.begin(complete, lambda path: write_plan(chosen, path), hold=True)
    own = range(ranks.rank(), stream.pieces, ranks.size())
    processes = config.workers if config.workers is not None else max(0, min(4, cores() // config.devices - 1))
    last = config.steps if config.hours is None else None
    with progress_bar() as bar:
        display = Display(bar, "pretrain")
        result = fit(
            model, lambda start: loader(stream, start, last, processes, own), run, config, on_step=display.show
        )  # fmt: skip
    if ranks.rank() == 0:
        _hand_on(model, run, result)
    return result


def _hand_on(model: Any, run: RunFolder, result: FitResult) -> None:
    """Write what was learned, from the last weights on disk, and say what comes next."""
    from ucseg.training.checkpoint import load_tensors, restore_weights, save_tensors

    file = run.weights_file("last")
    restore_weights(model, load_tensors(file)[0], file)
    save_tensors(run.pretrained_file, model.learned(), {"step": result.steps})
    if result.already_finished:
        say("pretraining-finished", f"{run.path}: this pretraining has already ended, at step {result.steps}.")
    errors = ", ".join(
        f"{name.removeprefix('reconstruction_')} {value:.3f}"
        for name, value in (run.metrics() or [{}])[-1].items()
        if name.startswith("reconstruction_")
    )
    minutes, seconds = divmod(round(result.seconds), 60)
    say(
        "pretraining-ended",
        f"{result.steps} steps in {minutes} min {seconds} s; error of the hidden voxels (1: knows nothing): {errors}. "
        f"The weights are in {run.pretrained_file}.",
    )
    console.print("Next, training that starts from them:")
    console.print(f"  ucseg train {run.config.get('dataset', 'DATASET')} --out RUN --init {run.path}")


def _images(images: list[PreparedCase]) -> dict[str, Any]:
    """What is learned from, and a digest of its content: resumed pretraining must find the same."""
    import hashlib

    content = hashlib.blake2b(digest_size=8)
    for case in images:  # the names of prepared files hold digests of the scans' content
        content.update(f"{case.image.name}\n".encode())
    return {"images": [case.case for case in images], "content": content.hexdigest()}
