"""Masks that come back from experts: each a new version in DATA/labels, and the newest one in cases.csv.

    labels/CASE.v0001.png     the mask, in the format and grid of its image, coded as the dataset's masks are
    labels/CASE.v0001.json    who sent it, when, from which model; it comes after the mask and shows that it is whole
    labels/cases.before.csv   cases.csv as it was before the first label

Nothing is written over but the mask's cell of a line in cases.csv. Its older masks stay where they are.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CASES_FILE, SLICES_COLUMN, load_dataset
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.labelling.shortlist import as_the_masks_of
from ucseg.machine.lock import Lock, lock
from ucseg.machine.reading import read_json, read_rows, read_text
from ucseg.machine.writing import PART, csv_text, make_folder, write_json, write_text
from ucseg.scans.address import Address
from ucseg.scans.scan import Scan
from ucseg.scans.writing import mask_ending, write_like
from ucseg.types import Array

FOLDER = "labels"
FINAL = "final"
"""The tag of labels that training takes; others are kept beside."""
BESIDE = "beside"
"""The tag of labels of a case for validation or test that has a mask: results are measured against that one."""
TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOTE = re.compile(r".+\.v(\d{4,})\.json")


@dataclass(frozen=True)
class Version:
    """A saved label.

    Attributes:
        mask: its file.
        note: what the file of the same name ending in .json holds.
    """

    number: int
    mask: Path
    note: dict[str, Any]

    @property
    def case(self) -> str:
        return str(self.note["case"])

    @property
    def tag(self) -> str:
        return str(self.note["tag"])

    @property
    def warnings(self) -> list[str]:
        """What the person who sent it should know, in sentences."""
        found = []
        if self.note.get("empty"):
            found.append("Nothing is drawn in this label: training takes the scan for one without any class.")
        if self.tag == BESIDE:
            found.append("The case is not for training, so it keeps its own mask, and this label is kept beside it.")
        return found


class Labels:
    """The labels of a dataset. One process at a time has them; its threads may share the object.

    Raises:
        UserError: another server has them, or the folder cannot be made.
    """

    def __init__(self, data: Path) -> None:
        self.data, self.folder = data, data / FOLDER
        make_folder(self.folder, "DATA")
        self._busy = threading.Lock()
        held = lock(self.folder)
        if held is None:
            raise UserError("serve-busy", f"{data}: another 'ucseg serve' has this dataset; stop it first.")
        self._lock: Lock = held
        for part in self.folder.glob(PART):  # what a killed server was writing
            part.unlink(missing_ok=True)
        self.versions = [
            self._version(file) for file in sorted(self.folder.glob("*.json")) if _NOTE.fullmatch(file.name)
        ]
        self.settle()

    def close(self) -> None:
        """Let another server in."""
        self._lock.release()

    def of(self, case: str) -> list[Version]:
        """The versions of a case, oldest first."""
        return sorted((one for one in self.versions if one.case == case), key=lambda one: one.number)

    def newest(self, case: str) -> Version | None:
        """The newest version that training takes."""
        return next((one for one in reversed(self.of(case)) if one.tag == FINAL), None)

    def save(self, case: Case, label: Array, scan: Scan, config: DatasetConfig, note: dict[str, Any]) -> Version:
        """Keep a label as a new version, and let cases.csv name it.

        Args:
            label: S class indices, in the grid of `scan`, the case's image.
            note: who, from which model and the like; "tag" says what it is for.

        Raises:
            UserError: it cannot be written, or would not be read back as what it is. Then no version is left; or
                cases.csv cannot be written. Then the version stays, and the next start or label enters it.
        """
        # A label begins with what a model says. As a reference it would make that model look better than it is.
        if case.split != "train" and case.mask is not None and self.folder not in case.mask.path.parents:
            note = {**note, "tag": BESIDE}
        with self._busy:
            mask, number = self._free(case.case, mask_ending(case.image))
            try:
                write_like(as_the_masks_of(config, label), scan, mask)
                read = read_label(Address.of(mask), label.shape, config, scan.geometry)
                if not np.array_equal(read, label):
                    raise UserError(
                        "label-not-kept",
                        f"{case.case}: its label would be read back as another one (lines are filled, or values "
                        "merged); change how dataset.yaml reads masks.",
                    )
                _settle(mask)
                about = {
                    **note,
                    "case": case.case,
                    "version": number,
                    "mask": mask.name,
                    "empty": not label.any(),
                    "saved": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "replaces": self._cell(case.case),
                }
                write_json(_note_of(mask, number), about)
            except BaseException:
                mask.unlink(missing_ok=True)
                raise
            version = Version(number, mask, about)
            self.versions.append(version)
            self._enter([version])
            return version

    def settle(self) -> None:
        """Enter into cases.csv what a killed server had saved and not entered yet."""
        with self._busy:
            cases = {one.case for one in self.versions}
            self._enter([newest for case in sorted(cases) if (newest := self.newest(case)) is not None])

    def _version(self, file: Path) -> Version:
        note = read_json(file)
        kinds = {"case": str, "tag": str, "mask": str, "version": int}
        wrong = next((key for key, kind in kinds.items() if not isinstance(note.get(key), kind)), None)
        if wrong is not None or Path(note["mask"]).name != note["mask"]:
            raise UserError("label-note", f"{file}: its '{wrong or 'mask'}' is not what ucseg wrote; restore the file.")
        return Version(note["version"], self.folder / note["mask"], note)

    def _free(self, case: str, ending: str) -> tuple[Path, int]:
        number = 1 + max((one.number for one in self.of(case)), default=0)
        while any(self.folder.glob(f"{_literal(case)}.v{number:04d}.*")):  # what a kill left without its note
            number += 1
        return self.folder / f"{case}.v{number:04d}{ending}", number

    def _cell(self, case: str) -> str:
        _, rows = read_rows(read_text(self.data / CASES_FILE))
        return next((row["mask"] for _, row in rows if row["case"] == case), "")

    def _enter(self, versions: list[Version]) -> None:
        """Let the lines of cases.csv name the newest versions, unless a person has changed them since.

        Lines and columns that a person added stay.
        """
        file = self.data / CASES_FILE
        root = load_dataset(self.data).root
        columns, rows = read_rows(read_text(file))
        named = {one.case: one for one in versions if one.tag == FINAL}
        changed = False
        for _, row in rows:
            one = named.get(row["case"])
            if one is not None and row["mask"] == one.note["replaces"]:
                row["mask"] = Address.of(one.mask).below(root)
                if SLICES_COLUMN in row:  # they were those of the mask before
                    row[SLICES_COLUMN] = ""
                changed = True
        if not changed:
            return
        before = self.folder / "cases.before.csv"
        if not before.exists():
            write_text(before, read_text(file))
        write_text(file, csv_text(columns, [row for _, row in rows]))


def _note_of(mask: Path, number: int) -> Path:
    stem, _, _ = mask.name.rpartition(f".v{number:04d}")
    return mask.with_name(f"{stem}.v{number:04d}.json")


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _settle(path: Path) -> None:
    """On disk before its note is."""
    opened = os.open(path, os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
