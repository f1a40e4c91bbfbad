"""The contact sheet of a dataset: small pictures of its cases with their masks, so that a wrong pairing is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucseg import __version__
from ucseg.dataset.case import SPLITS, Case
from ucseg.dataset.manifest import CONTACT_SHEET_FILE, Dataset
from ucseg.dataset.masks import read_label, unknown_in
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.pictures.drawing import View, legend, overlay
from ucseg.pictures.page import small_uri, write_page
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Scan
from ucseg.types import Array

MOST = 40
"""Pictures on a sheet."""
FEW, SHARE = 12, 80
"""`ucseg init` reads masks alone: it draws so few cases, or one of so many where that is more, to stay quick."""
AT_ONCE = 8
"""Cases that are read before it is asked whether there is time for more."""
MOST_VOXELS = 100_000_000
"""Once so many are read, no more cases are drawn: large volumes would take minutes."""
_VOLUMES_AT_ONCE = 4
_TINT = 0.12
"""Little: what is under the mask must be seen."""


@dataclass(frozen=True)
class Tile:
    """A case on the sheet: its picture (data URI), or why it has none."""

    case: str
    files: str
    note: str
    source: str = ""
    problem: str = ""


class ContactSheet:
    """Draws cases as they are read, and those that nobody has read when the sheet is written.

    Args:
        dataset: masks that are hidden from training are not shown.
        most: cases on the sheet, spread over the splits, those with a mask first.
    """

    def __init__(self, dataset: Dataset, most: int = MOST) -> None:
        self.dataset = dataset
        self._chosen = {case.case: case for case in choose(dataset.cases, most)}
        self._tiles: dict[str, Tile] = {}

    def see(self, case: Case, scan: Scan, label: Array | None) -> None:
        """Draw a case that was read for another reason, if it is one of the sheet; safe to call in threads."""
        if case.case in self._chosen:
            self._tiles[case.case] = self._drawn(case, lambda: (scan, label))

    def fill(self) -> None:
        """Read and draw the cases that have no picture yet, each once, until enough voxels are read."""
        left = [case for case in self._chosen.values() if case.case not in self._tiles]
        voxels = 0
        while left and voxels < MOST_VOXELS:
            some, left = left[:AT_ONCE], left[AT_ONCE:]
            most = _VOLUMES_AT_ONCE if self.dataset.config.dims == 3 else None
            for case, (tile, count) in zip(some, for_each(self._read, some, most=most), strict=True):
                self._tiles[case.case] = tile
                voxels += count

    def tiles(self) -> dict[str, list[Tile]]:
        """What is drawn so far: split and how many of its cases -> their tiles, those with a mask first."""
        shown: dict[str, list[Tile]] = {}
        for split in SPLITS:
            cases = [case for case in self.dataset.cases if case.split == split]
            drawn = [case for case in cases if case.case in self._tiles]
            if drawn:
                drawn.sort(key=lambda case: case.mask is None)
                title = f"{split}: {len(drawn)} of {len(cases)} cases"
                shown[title] = [self._tiles[case.case] for case in drawn]
        return shown

    def write(self) -> Path:
        """Write the page into the dataset's folder, whole or not at all.

        Raises:
            UserError: the folder cannot be written.
        """
        self.fill()
        file = self.dataset.folder / CONTACT_SHEET_FILE
        values = {
            "name": self.dataset.config.name,
            "version": __version__,
            "classes": legend(self.dataset.config.classes),
            "groups": self.tiles(),
        }
        write_page(file, "contact_sheet.html.j2", values, __package__)
        return file

    def _read(self, case: Case) -> tuple[Tile, int]:
        count = 0

        def read() -> tuple[Scan, Array | None]:
            nonlocal count
            scan = read_scan(case.image)
            count = scan.array.size
            shape, config = scan.array.shape[1:], self.dataset.config
            return scan, None if case.mask is None else read_label(case.mask, shape, config, scan.geometry, case.slices)

        return self._drawn(case, read), count

    def _drawn(self, case: Case, read: Callable[[], tuple[Scan, Array | None]]) -> Tile:
        files = " + ".join(one.below(self.dataset.root) for one in (case.image, case.mask) if one is not None)
        try:
            scan, label = read()
            unknown = None if label is None else unknown_in(label)
            if label is not None and unknown is not None:  # drawn as background; the slice is an annotated one
                label = np.where(unknown, 0, label).astype(label.dtype)
            view = View.of(scan.geometry, scan.array.shape[1:], case.image, label)
        except UserError as error:
            return Tile(case.case, files, "", problem=str(error))
        canvas = view.canvas(scan.array)
        state = "no mask" if label is None else "" if label.any() else "empty mask"
        state = state if unknown is None else f"{state or 'mask'}, annotated in parts"
        drawn = canvas if label is None else overlay(canvas, view.labels(label), tint=_TINT)
        return Tile(case.case, files, ", ".join(filter(None, (view.where, state))), small_uri(view.lettered(drawn)))


def few(dataset: Dataset) -> int:
    """How many cases are drawn where each must be read for it."""
    return min(MOST, max(FEW, len(dataset.cases) // SHARE))


def choose(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many cases, in turn from the splits and spread over each; those with a mask first."""
    chosen: list[Case] = []
    for masked in (True, False):
        queues = [[case for case in cases if case.split == split and (case.mask is not None) == masked]
                  for split in SPLITS]  # fmt: skip
        counts = [0] * len(queues)
        while sum(counts) < most - len(chosen) and counts != [len(queue) for queue in queues]:
            counts = [min(count + 1, len(queue)) for count, queue in zip(counts, queues, strict=True)]
        spread = [[queue[i] for i in np.linspace(0, len(queue) - 1, count).round().astype(int)]
                  for count, queue in zip(counts, queues, strict=True)]  # fmt: skip
        in_turn = [queue[turn] for turn in range(max(counts)) for queue in spread if turn < len(queue)]
        chosen += in_turn[: most - len(chosen)]
    return chosen
