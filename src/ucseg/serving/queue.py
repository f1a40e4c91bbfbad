"""Which case does an expert see next? Cases that were sent to a viewer first, then by a strategy; never one twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.labelling.measures import Measure
from ucseg.labelling.names import DEFAULT
from ucseg.labelling.strategies import choose
from ucseg.machine.reading import read_json
from ucseg.machine.writing import write_json
from ucseg.randomness import numpy_generator

STRATEGIES = {
    DEFAULT: "By chance, where scans with more of a class are more likely; every third by chance alone.",
    "random": "Chance alone.",
    "disagreement": "First the scans on whose masks the networks differ most.",
    "entropy": "First the scans in which the model is unsure in most places.",
    "class-entropy": "As entropy, of one class after the other, with noise.",
    "diversity": "First the scans that look least like those with a label.",
}
"""As of `ucseg label-next`; the first is the default of viewers."""
RANKED = 200
"""So many are ranked; the others follow by chance."""
POWER = 10.0
"""Of the score in "class-entropy": at 1 it would be chance."""
GIVEN_FOR = 1800.0
"""Seconds for which a case that one client has got is not given to another."""
STATES = ("rejected", "sent")
"""What a person says of a case: its mask is left alone; a viewer gets it next."""


class Queue:
    """The order of unlabelled training cases, and what people said of them, which is kept in a file.

    Args:
        file: where it is kept.
        cases: the training cases that have no mask now, and those that have one.
        measures: figures of the cases that the model has looked at, by name; the others follow by chance.
        round: number of the round: each makes draws of its own.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(
        self,
        file: Path,
        cases: Callable[[], tuple[list[Case], list[Case]]],
        measures: Callable[[], Mapping[str, Measure]],
        round: Callable[[], int] = lambda: 0,
    ) -> None:
        self._file, self._cases, self._measures, self._round = file, cases, measures, round
        self._busy = threading.Lock()
        self._given: dict[str, tuple[str, float]] = {}
        known = read_json(file) if file.exists() else {}
        self.said: dict[str, dict[str, dict[str, Any]]] = {state: known.get(state, {}) for state in STATES}
        if not all(isinstance(names, dict) for names in self.said.values()):
            raise UserError(
                "queue-damaged", f"{file}: is not what ucseg wrote; restore it, or remove it to begin a new queue."
            )

    def order(self, strategy: str) -> list[Case]:
        """All cases to label, best first. Rejected ones are left out.

        Raises:
            UserError: the strategy needs several networks, and the method has one.
        """
        unlabelled, labelled = self._cases()
        cases = {case.case: case for case in unlabelled if case.case not in self.said["rejected"]}
        known, number = self._measures(), self._round()
        chosen = choose(
            strategy,
            [known[name] for name in cases if name in known],
            RANKED,
            seed=number,
            labelled=[known[case.case] for case in labelled if case.case in known],
            power=POWER,
        )
        ranked = [one.measure.case for one in chosen]
        chance = {name: numpy_generator(number, f"serve {name}").random() for name in cases}
        rest = sorted(cases.keys() - {*ranked}, key=lambda name: chance[name])
        return [cases[name] for name in sorted([*ranked, *rest], key=lambda name: name not in self.said["sent"])]

    def next(self, strategy: str, client: str) -> Case | None:
        """The next case for a client, which others do not get for a while; None if none is left.

        Raises:
            UserError: as of `order`.
        """
        with self._busy:
            now = time.monotonic()
            order = self.order(strategy)
            for case in order:
                owner, since = self._given.get(case.case, (client, now))
                if owner == client or now - since > GIVEN_FOR:
                    self._given[case.case] = (client, now)
                    return case
            return order[0] if order else None

    def say(self, case: str, state: str, note: Mapping[str, Any]) -> None:
        """Keep what a person said of a case: one of STATES; any other word takes it back.

        Raises:
            UserError: it cannot be written.
        """
        with self._busy:
            said = {one: {name: value for name, value in self.said[one].items() if name != case} for one in STATES}
            if state in said:
                said[state][case] = dict(note)
            write_json(self._file, said)
            self.said = said
