"""What `ucseg predict` opens: runs, or a model that `ucseg export` wrote. The second needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucseg.cli.calls import typed
from ucseg.errors import UserError

if TYPE_CHECKING:
    from ucseg.inference.ensemble import AnyPredictor
    from ucseg.inference.exported import ExportedPredictor


@dataclass(frozen=True)
class Opened:
    """Models and scans of a command line.

    Attributes:
        make: gives the predictor of `runs`, with settings of `ScanPredictor`; it can be pickled.
        runs: runs, or one exported model.
        inputs: the scans.
        unfinished: of models whose weights are not final: why.
        geometry: how NIfTI headers that say two things were read in training.
        images: pattern of the files that were images of training, of the first model; "" if all were.
    """

    make: Callable[..., AnyPredictor]
    runs: list[Path]
    inputs: list[Path]
    unfinished: dict[Path, str]
    geometry: Callable[[], str | None]
    images: Callable[[], str]


def trained(run: Path, inputs: Sequence[Path], checkpoint: str) -> Opened:
    """A run, and those that stand before the scans."""
    from ucseg.inference.ensemble import predictor_of, split_runs
    from ucseg.inference.predictor import Predictor
    from ucseg.training.run_folder import RunFolder

    runs, scans = split_runs(run, inputs)
    _refuse_models(run, scans)
    unfinished = {}
    for folder in map(RunFolder, runs):
        if folder.started and (reached := folder.unfinished):
            command = typed("train", Path(folder.config.get("dataset", "DATASET")), out=folder.path, resume=True)
            why = f"training stands at {reached}: the weights are not final; '{command}' continues it."
            unfinished[folder.path] = why
    make = partial(predictor_of, load=Predictor.from_run, checkpoint=checkpoint)
    return Opened(
        make,
        runs,
        scans,
        unfinished,
        geometry=lambda: RunFolder(run).config.get("data", {}).get("geometry"),
        images=partial(_images_of, runs),
    )


def _images_of(runs: Sequence[Path]) -> str:
    from ucseg.folder.like_training import require_one_kind
    from ucseg.training.run_folder import RunFolder

    patterns = [str(RunFolder(run).config.get("images", "")) for run in runs]
    require_one_kind(runs, patterns)
    return patterns[0]


def exported(model: Path, inputs: Sequence[Path], checkpoint: str) -> Opened:
    """A model that `ucseg export` wrote.

    Raises:
        UserError: it is damaged, holds other weights, or a second model follows it.
    """
    from ucseg.inference.exported import read_record

    _refuse_models(model, inputs)
    record = read_record(model)
    if checkpoint not in ("last", record.checkpoint):
        raise UserError(
            "model-checkpoint",
            f"{model}: holds the weights '{record.checkpoint}' alone; leave --checkpoint out, or export again.",
        )
    why = "it was exported before its training ended: the weights are not final."
    return Opened(
        _of_model,
        [model],
        list(inputs),
        {} if record.finished else {model: why},
        geometry=lambda: record.geometry,
        images=lambda: record.images,
    )


def _refuse_models(first: Path, scans: Sequence[Path]) -> None:
    """Raise a UserError if a model follows the first one: only runs can be combined."""
    from ucseg.inference.exported import PLAN, is_exported

    for path in scans:  # a run by its files: what else knows runs needs torch
        if is_exported(path) or ((path / "config.json").is_file() and (path / PLAN).is_file()):
            raise UserError(
                "models-combined",
                f"{path}: no scan but a model, and only runs that stand first are combined, no exported models; "
                f"predict with {first} and with {path.name} one by one.",
            )


def _of_model(models: Sequence[Path], **settings: Any) -> ExportedPredictor:
    from ucseg.inference.exported import ExportedPredictor

    return ExportedPredictor(models[0], **settings)
