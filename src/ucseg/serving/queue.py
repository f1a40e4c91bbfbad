"""Which case does an expert see next? Cases that were sent to a viewer first, then by a strategy; never one twice."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.dataset.case import Case
from ucseg.machine.reading import read_json
from ucseg.machine.writing import write_json
from ucseg.randomness import numpy_generator

STRATEGIES = {
    "failure-score": "The scan on whose mask the networks agree least, of those that were looked at so far.",
    "random": "Any scan without a mask.",
}
GIVEN_FOR = 1800.0
"""Seconds for which a case that one client has got is not given to another."""


class Queue:
    """The order of unlabelled training cases, and what people said of them, which is kept in a file.

    Args:
        file: where it is kept.
        unlabelled: the training cases that have no mask now.
        scores: failure scores of those that the model has seen.
    """

    def __init__(
        self, file: Path, unlabelled: Callable[[], list[Case]], scores: Callable[[], dict[str, float]], seed: int = 0
    ) -> None:
        self._file, self._unlabelled, self._scores, self._seed = file, unlabelled, scores, seed
        self._busy = threading.Lock()
        self._given: dict[str, tuple[str, float]] = {}
        known = read_json(file) if file.exists() else {}
        self.rejected: dict[str, dict[str, Any]] = dict(known.get("rejected", {}))
        self.sent: dict[str, dict[str, Any]] = dict(known.get("sent", {}))

    def order(self, strategy: str) -> list[Case]:
        """All cases to label, best first. Rejected ones are left out."""
        cases = [case for case in self._unlabelled() if case.case not in self.rejected]
        chance = {case.case: numpy_generator(self._seed, f"serve {case.case}").random() for case in cases}
        scores = self._scores() if strategy == "failure-score" else {}

        def key(case: Case) -> tuple[bool, float, float]:
            score = scores.get(case.case, math.nan)
            return case.case not in self.sent, -score if np.isfinite(score) else 1.0, chance[case.case]

        return sorted(cases, key=key)

    def next(self, strategy: str, client: str) -> Case | None:
        """The next case for a client, which others do not get for a while; None if none is left."""
        with self._busy:
            now = time.monotonic()
            order = self.order(strategy)
            for case in order:
                owner, since = self._given.get(case.case, (client, now))
                if owner == client or now - since > GIVEN_FOR:
                    self._given[case.case] = (client, now)
                    return case
            return order[0] if order else None

    def say(self, case: str, what: str, note: dict[str, Any]) -> None:
        """Keep what a person said of a case: "rejected", "sent" (to a viewer), or "open", which takes both back.

        Raises:
            UserError: it cannot be written.
        """
        with self._busy:
            rejected = {name: value for name, value in self.rejected.items() if name != case}
            sent = {name: value for name, value in self.sent.items() if name != case}
            if what == "rejected":
                rejected[case] = note
            if what == "sent":
                sent[case] = note
            write_json(self._file, {"rejected": rejected, "sent": sent})
            self.rejected, self.sent = rejected, sent
