"""Several runs as one predictor: the mean of their probabilities, uncertain also where the runs differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ucseg.errors import UserError
from ucseg.inference.case_scores import RunningScores, missing
from ucseg.inference.disagreement import disagreement
from ucseg.inference.maps import Maps
from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import CasePrediction, Report, ScanPredictor, keep_largest
from ucseg.machine.room import leave, pieces, room
from ucseg.method_parts.uncertainty import entropy
from ucseg.scans.scan import Scan
from ucseg.training.run_folder import RunFolder
from ucseg.types import Array


class Ensemble:
    """Predicts scans with several runs, in each scan's own grid: their plans may differ, their classes may not.

    The uncertainty is the entropy of the mean of the runs' probabilities, divided by log C. It is high where each run
    is unsure, and where the runs are sure of different classes. Calibrations are of single runs, so they are left out.
    A class is one piece, or always there, where all plans say so: the order of the runs changes nothing.

    Raises:
        UserError: the runs have other classes, channels or units, or one is given twice.
    """

    def __init__(self, runs: Sequence[Path], predictors: Sequence[Predictor]) -> None:
        self.names, self.each = _names(runs), list(predictors)
        first = self.each[0]
        agreed = {
            name: tuple(value for value in getattr(first.plan, name) if all(value in said for said in others))
            for name in ("one_component", "always_present")
            if (others := [getattr(one.plan, name) for one in self.each])
        }
        self.plan = first.plan.model_copy(update=agreed)
        self.precision, self.device = first.precision, first.device
        self.silent: tuple[str, ...] = ()
        self.calibration = None
        weights = [one.weights for one in self.each]
        for index, (run, one) in enumerate(zip(runs, self.each, strict=True)):
            one.calibration = None
            if one.weights in weights[:index]:
                same = runs[weights.index(one.weights)]
                raise UserError("run-twice", f"{run}: its weights are those of {same}; name each run once.")
            for what in ("classes", "channels", "unit"):
                own, others = getattr(one.plan, what), getattr(self.plan, what)
                if own != others:
                    raise UserError(
                        "runs-differ",
                        f"{run}: its {what} ({own}) are not those of {runs[0]} ({others}); give runs of one dataset.",
                    )

    @property
    def place(self) -> str:
        """As of `ScanPredictor`."""
        return self.each[0].place

    @property
    def method_name(self) -> str:
        """As of `ScanPredictor`, of the first run."""
        return self.each[0].method_name

    def require_window(self) -> None:
        """As of `ScanPredictor`, of each run."""
        for one in self.each:
            one.require_window()

    @property
    def weights(self) -> str:
        """A short name for exactly the weights of all runs."""
        return "+".join(one.weights for one in self.each)

    def predict_scan(
        self, scan: Scan, *, probabilities: bool = False, members: bool = True, report: Report | None = None
    ) -> CasePrediction:
        """As of `Predictor`; the members are the masks of the runs."""
        total: Array | None = None
        masks: dict[str, Array] = {}
        for index, (name, one) in enumerate(zip(self.names, self.each, strict=True)):
            part = None if report is None else partial(_part, report, index, len(self.each))
            found = one.predict_scan(scan, probabilities=True, members=False, report=part)
            assert found.probabilities is not None
            masks[name] = found.mask
            if total is None:
                total = found.probabilities
                axis = int(np.argmax(total[0].strides))  # whose rows lie together
                continue
            for rows in pieces(np.moveaxis(total, 1 + axis, 1).shape[1:]):
                part_of_total = np.moveaxis(total, 1 + axis, 1)[:, rows]
                part_of_total += np.moveaxis(found.probabilities, 1 + axis, 1)[:, rows]
                leave(total, found.probabilities)
        assert total is not None
        del found
        moved = np.moveaxis(total, 1 + axis, 1)
        mask, doubt = np.zeros(total.shape[1:], masks[self.names[0]].dtype), room(moved.shape[1:])
        running = RunningScores(doubt)
        for rows in pieces(doubt.shape):
            mean = moved[:, rows]
            mean /= len(self.each)
            tensor = torch.from_numpy(mean)[None]
            unsure = (entropy(tensor) / math.log(len(total))).clamp(1e-6, 1.0).numpy()
            doubt[rows] = unsure[0, 0]
            np.moveaxis(mask, axis, 0)[rows] = running.add(rows, Maps(mean[None], unsure))
            leave(total, doubt)
        mask = keep_largest(mask, self.plan) if self.each[0].components else mask
        missed = missing(mask, self.plan.always_present)
        scores = running.of(np.moveaxis(mask, axis, 0), missed)
        scores["run_disagreement"] = disagreement(list(masks.values()), len(total), missed)
        empty = tuple(name for name, one_mask in masks.items() if mask.any() and not one_mask.any())
        return CasePrediction(
            mask=mask,
            uncertainty=np.moveaxis(doubt, 0, axis),
            scores=scores,
            probabilities=total if probabilities else None,
            members=masks if members else {},
            empty_members=empty,
        )


AnyPredictor = ScanPredictor | Ensemble


def predictor_of(runs: Sequence[Path], load: Callable[..., Predictor], **settings: Any) -> AnyPredictor:
    """The predictor of a run, or of several together; `load` is `Predictor.from_run`, settings as of it."""
    predictors = [load(run, **settings) for run in runs]
    return predictors[0] if len(predictors) == 1 else Ensemble(runs, predictors)


def split_runs(run: Path, inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The runs that stand first among the words of a command line, and the scans behind them.

    A folder that holds config.json and plan.yaml is a run. Nobody predicts the folder of a run, so there is no doubt.

    Raises:
        UserError: a run is given twice, or no scan.
    """
    further = list(takewhile(_is_run, inputs))
    runs, scans = [run, *further], list(inputs[len(further) :])
    if not scans:
        raise UserError("no-scans-given", f"{inputs[-1]}: this is a run, and no scan follows it; name scans after it.")
    places = [one.absolute().resolve() for one in runs]
    if twice := next((one for index, one in enumerate(runs) if places[index] in places[:index]), None):
        raise UserError("run-twice", f"{twice}: this run is given twice; name each run once.")
    return runs, scans


def _is_run(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.started and folder.plan_file.is_file()


def _names(runs: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, numbered where two are alike."""
    names = [run.absolute().name for run in runs]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names, start=1)]


def _part(report: Report, index: int, runs: int, done: float) -> None:
    report((index + done) / runs)
