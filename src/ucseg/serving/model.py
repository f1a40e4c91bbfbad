"""The model that answers: its weights, which a finished training replaces, and the last few predictions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.dataset.case import Case
from ucseg.inference.predictor import Predictor
from ucseg.inference.scan_predictor import CasePrediction
from ucseg.labelling.measures import Measure, measure_scan
from ucseg.machine.memory import memory_for
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Scan
from ucseg.training.checkpoint import weights_digest

KEPT = 4
"""Predictions in memory: a person goes to the next case and comes back."""


@dataclass(frozen=True)
class Answer:
    """A scan and what the model says of it.

    Attributes:
        origin: which weights said it; goes into the notes of labels.
    """

    scan: Scan
    prediction: CasePrediction
    origin: dict[str, str]


class Model:
    """A predictor that several threads ask, one at a time.

    Args:
        settings: of Predictor.from_run.
    """

    def __init__(self, run: Path, checkpoint: str = "last", settings: Mapping[str, Any] | None = None) -> None:
        self.checkpoint, self.settings = checkpoint, dict(settings or {})
        self._busy = threading.Lock()
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self.measures: dict[str, Measure] = {}
        self._said: dict[str, dict[str, str]] = {}
        self.use(run)

    def use(self, run: Path) -> None:
        """Answer with the weights of this run from now on.

        Raises:
            UserError: it has none.
        """
        predictor = Predictor.from_run(run, self.checkpoint, **self.settings)
        origin = {"run": str(run), "checkpoint": self.checkpoint, "weights": weights_digest(predictor.method)}
        with self._busy:
            self.run, self.predictor, self.origin = run, predictor, origin
            self._quick = Predictor(
                predictor.method, predictor.plan, predictor.device, precision=predictor.precision, mirror=False
            )
            self._kept.clear()
            self.measures.clear()

    def answer(self, case: Case) -> Answer:
        """The prediction of a case, kept for the next call.

        Raises:
            UserError: its scan cannot be read or predicted.
        """
        with self._busy:
            if case.case not in self._kept:
                with memory_for(case.image):
                    self._kept[case.case] = self._predict(read_scan(case.image))
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(case.case)
            self._said[case.case] = self._kept[case.case].origin
            return self._kept[case.case]

    def answer_scan(self, scan: Scan) -> Answer:
        """The prediction of a scan that a client sent."""
        with self._busy, memory_for(scan.source):
            return self._predict(scan)

    def look(self, case: Case) -> None:
        """Learn the figures of a case by which the queue is sorted, and keep nothing else.

        Raises:
            UserError: its scan cannot be read or predicted.
        """
        with self._busy, memory_for(case.image):
            self.measures[case.case] = measure_scan(self._quick, case.case, read_scan(case.image))[0]

    def last_said(self, case: str) -> dict[str, str] | None:
        """The weights whose mask of a case went to a client last, which its label may have come from."""
        return self._said.get(case)

    def _predict(self, scan: Scan) -> Answer:
        return Answer(scan, self.predictor.predict_scan(scan, members=False), dict(self.origin))
