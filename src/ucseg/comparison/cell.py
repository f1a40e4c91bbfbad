"""One cell in its own process: train, then measure the last and the best weights on every test set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from ucseg import __version__
from ucseg.comparison.datasets import Cohort, cohort
from ucseg.config import Strict, build
from ucseg.dataset.case import Case
from ucseg.dataset.masks import read_label, unknown_in
from ucseg.errors import UserError
from ucseg.evaluation.metrics import METRICS, ClassMetrics, case_metrics
from ucseg.evaluation.uncertainty_maps import VOXEL_COLUMNS, UncertaintySettings, of_voxels
from ucseg.folder.predictions import FAILURE_SCORE
from ucseg.inference.predictor import Predictor
from ucseg.inference.step_cost import peak_memory
from ucseg.machine.reading import read_json
from ucseg.machine.writing import json_text, write_text
from ucseg.scans.reading import read_scan
from ucseg.training.environment import environment
from ucseg.training.read_back import Reached
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import sort_settings
from ucseg.types import Array

if TYPE_CHECKING:
    from ucseg.training.outcome import FitResult

WEIGHTS = ("last", "best")
COLUMNS = ("network", "weights", "case", "subject", "class", "status", *METRICS, "unit")
"""Of the rows in a cell's file. `network` is empty for the method's prediction."""
DOUBTS = ("weights", "case", *VOXEL_COLUMNS, FAILURE_SCORE)
"""Of the rows of a case's uncertainty, that of the method's prediction."""
MARGIN = UncertaintySettings().margin


Figure = Annotated[float, Field(allow_inf_nan=True)]


class MeasuredRecord(Strict):
    """What was measured on a test set: rows of COLUMNS, why cases are not among them, and rows of DOUBTS.

    Cells of an earlier version have no DOUBTS.
    """

    rows: list[Annotated[list[str | Figure | None], Field(min_length=len(COLUMNS), max_length=len(COLUMNS))]]
    left_out: dict[str, str]
    doubts: list[Annotated[list[str | Figure | None], Field(min_length=len(DOUBTS), max_length=len(DOUBTS))]] = Field(
        default_factory=list
    )


class TrainingRecord(Strict):
    """How a cell was trained, as far as it is read back."""

    model_config = ConfigDict(extra="allow")

    seconds: float
    steps: int


class CellRecord(Strict):
    """The file of a cell."""

    model_config = ConfigDict(extra="allow")

    ucseg: str
    training: TrainingRecord
    environment: dict[str, Any]
    evaluation_seconds: float
    tests: dict[str, MeasuredRecord]


@dataclass(frozen=True)
class Task:
    """All that a cell's process must know; plain values, since they go through its command line.

    `dataset` is trained on and hides masks; it was derived from `source`, which has the test cases. `tests` are the
    keys of the test sets.
    With `hours`, as many steps are made as fit. `precision` is for cells whose settings say none.
    """

    name: str
    out: str
    dataset: str
    source: str
    method: str
    settings: list[str]
    seed: int
    steps: int | None
    hours: float | None
    device: str
    workers: int
    tests: list[str]
    members: bool
    tolerance: float
    mirror: bool
    precision: str | None = None

    @property
    def run(self) -> Path:
        return Path(self.out) / "runs" / self.name

    @property
    def file(self) -> Path:
        return result_file(Path(self.out), self.name)


def result_file(out: Path, name: str) -> Path:
    """Where a cell's result is, once there is one."""
    return out / "cells" / f"{name}.json"


def measured(out: Path, name: str, tests: Sequence[str]) -> dict[str, Any] | None:
    """A cell's result if it has been measured on any of these test sets."""
    found = _read(result_file(out, name))
    return found if found is not None and set(tests) & set(found["tests"]) else None


def _read(file: Path) -> dict[str, Any] | None:
    """A cell's result; None if there is none yet, a UserError if it says what cannot be."""
    if not file.exists():
        return None
    values = read_json(file)
    build(CellRecord, values, str(file))
    return values


def run_cell(task: Task, train: Callable[..., FitResult]) -> None:
    """Do what is left of a cell, with the verb `train`; its file is replaced after training and each test set.

    Raises:
        UserError: training or all of a test set failed.
        Interrupted: training was stopped, and saved.
    """
    result = _read(task.file)
    if result is None:
        made_with = environment()  # now: a checkout may be at another commit when training ends
        made_with.pop("command")  # this very task
        own_precision = "precision" in sort_settings(task.settings, {})["train"]
        fitted = train(
            Path(task.dataset),
            out=task.run,
            method=task.method,
            steps=task.steps,
            hours=task.hours,
            seed=task.seed,
            set=[*task.settings, *([] if task.hours is None else ["clock=work"])],
            resume=RunFolder(task.run).started,
            plan=Path(task.out) / "plan.yaml",
            cache=Path(task.out) / "cache",
            device=task.device,
            precision=None if own_precision else task.precision,
            workers=task.workers,
        )
        training: dict[str, Any] = {"seconds": fitted.seconds, **_peaks(), "last": fitted.last, "best": fitted.best}
        training |= {"steps": fitted.steps, "work": fitted.work, "parameters": fitted.parameters}
        training["silent"] = fitted.silent
        result = {"ucseg": __version__, "environment": made_with, "training": training, "tests": {}}
        result["evaluation_seconds"] = 0.0
        _save(result, task.file)
        # Larger than both weights together, and nothing goes on from here.
        RunFolder(task.run).state_file.unlink(missing_ok=True)
    for key in task.tests:
        if key not in result["tests"]:
            start = time.monotonic()
            result["tests"][key] = _measure(task, cohort(key, Path(task.source)))
            result["evaluation_seconds"] += time.monotonic() - start
            _save(result, task.file)


def _measure(task: Task, tests: Cohort) -> dict[str, Any]:
    """Rows of COLUMNS of both weights, and cases that could not be measured with the reason."""
    rows: list[list[Any]] = []
    doubts: list[list[Any]] = []
    left_out: dict[str, UserError] = {}
    notes = {weights: task.run / f"{weights}.json" for weights in WEIGHTS}
    chosen = {weights: build(Reached, read_json(file), str(file)) for weights, file in notes.items() if file.exists()}
    last, best = (chosen.get(weights) for weights in WEIGHTS)
    # Written at the same step, and not of the averaged weights: the same file twice.
    same = last is not None and best is not None and best.step == last.step and best.weights == "last"
    for weights in WEIGHTS:
        if weights not in chosen:
            continue  # no validation case ever had a foreground: there is no best
        if weights == "best" and same:
            rows += [[row[0], weights, *row[2:]] for row in rows]
            doubts += [[weights, *row[1:]] for row in doubts]
            continue
        precision = str(RunFolder(task.run).config.get("train", {}).get("precision", "auto"))
        predictor = Predictor.from_run(task.run, weights, task.device, precision=precision, mirror=task.mirror)
        for case in tests.cases:
            try:
                unit, found, doubt = _measure_case(predictor, task, tests, case)
            except UserError as error:
                left_out[case.case] = error
                continue
            rows += [
                [network, weights, case.case, case.subject, row["name"], row["status"]]
                + [row[metric] for metric in METRICS]  # type: ignore[literal-required]
                + [unit]
                for network, row in found
            ]
            doubts.append([weights, case.case, *doubt])
    if not rows:
        nothing = UserError("no-case-measured", f"{tests.title}: no case could be measured.")
        raise UserError.together([nothing, *left_out.values()])
    return {"rows": rows, "left_out": {case: str(error) for case, error in left_out.items()}, "doubts": doubts}


def _measure_case(
    predictor: Predictor, task: Task, tests: Cohort, case: Case
) -> tuple[str, list[tuple[str, ClassMetrics]], list[float]]:
    """The unit of distances; a row for each network and class; and DOUBTS without their first two."""
    assert case.mask is not None
    scan = read_scan(case.image)
    predicted = predictor.predict_scan(scan, members=task.members, probabilities=True)
    classes = predictor.plan.classes
    label = read_label(case.mask, scan.array.shape[1:], tests.dataset.config, scan.geometry, case.slices)
    reference, unknown = tests.to_model(label, classes), unknown_in(label)
    masks: dict[str, Array] = {"": predicted.mask}
    if len(predicted.members) > 1:
        masks |= predicted.members
    spacing, unit = scan.geometry.spacing, scan.geometry.unit
    rows = [
        (network, row)
        for network, one in masks.items()
        for row in case_metrics(one, reference, classes, spacing, task.tolerance, unknown)
    ]
    assert predicted.probabilities is not None
    probabilities = zip(classes, predicted.probabilities, strict=True)
    voxels = of_voxels(predicted.uncertainty, probabilities, (predicted.mask, reference), spacing, MARGIN, unknown)
    # The score is of the whole mask, so the Dice of a part of it is no match.
    score = predicted.failure_score if unknown is None else math.nan
    return unit, rows, [*(voxels.figures[name] for name in VOXEL_COLUMNS), score]


def _save(result: Mapping[str, Any], file: Path) -> None:
    write_text(file, json_text(result, indent=None))


def _peaks() -> dict[str, int | None]:
    """Most memory of this process so far, in bytes, and of its GPU."""
    import torch

    peak, gpu = peak_memory(), torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"peak_bytes": None if peak is None else int(peak), "gpu_peak_bytes": gpu}
