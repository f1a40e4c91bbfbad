"""What prediction writes, file by file, so that a broken scan or a kill costs one case and no more.

<case>.<ending>                          mask, in the scan's format and geometry
uncertainty/<case>.<ending>              vacuity, float32
probabilities/<class>/<case>.<ending>    on request: probability of each class, background included, float32
members/<network>/<case>.<ending>        on request: the single networks' masks
dicom/<case>.dcm                         on request: the mask as a DICOM segmentation that refers to its series
dicom/uncertainty/<case>.dcm             ... and the uncertainty as a Parametric Map
dicom/rtstruct/<case>.dcm                on request: the mask as an RT Structure Set
cases.csv                                a line a case, failed ones too
prediction.json                          which weights and settings made this folder
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucseg.dataset.manifest import CONFIG_FILE
from ucseg.errors import UserError
from ucseg.folder.inputs import Input
from ucseg.folder.predictions import (
    ABOUT,
    FAILURE_SCORE,
    INTERVAL,
    PREDICTED_DICE,
    SCORES,
    file_names,
    note_of,
    rows_of,
)
from ucseg.inference.scan_predictor import CasePrediction
from ucseg.machine.reading import read_json
from ucseg.machine.room import leave, pieces
from ucseg.machine.writing import PART, csv_text, make_folder, require_place, write_json, write_text, writing
from ucseg.pictures.drawing import COLOURS
from ucseg.planning.plan import Plan
from ucseg.scans.content import content_of
from ucseg.scans.dicom import results as dicom_results
from ucseg.scans.dicom.codes import SegmentCodes
from ucseg.scans.dicom.contours import refuse_contours_without_place, structure_set
from ucseg.scans.scan import Geometry, Scan
from ucseg.scans.writing import map_ending, mask_ending, write_like
from ucseg.types import Array

Row = dict[str, str | float]
DicomObjects = Mapping[str, Any]
"""DICOM objects that are not yet written (pydicom datasets), by the folder that they go to."""


@dataclass(frozen=True)
class DicomOutput:
    """Which DICOM results are wanted, and what they say beyond the voxels.

    Attributes:
        codes: of the classes by index.
        algorithm: who segmented.
        segmentation: the kind of SEG, which the uncertainty goes with; None: no SEG.
        structures: an RT Structure Set.
    """

    codes: Mapping[int, SegmentCodes]
    algorithm: dicom_results.Algorithm
    segmentation: Literal["BINARY", "LABELMAP"] | None = "BINARY"
    structures: bool = False


@dataclass(frozen=True)
class CaseFiles:
    """The files of each case: where they go, and which are wanted.

    It can be pickled: a worker that has it writes what `ucseg predict` itself would. The plan gives the classes' names
    and the unit of volumes.
    """

    path: Path
    plan: Plan
    probabilities: bool = False
    members: bool = False
    dicom: DicomOutput | None = None
    colour: bool = False

    def mask_file(self, item: Input) -> Path:
        return self.path / f"{item.case}{mask_ending(item.address)}"

    def dicom_source(self, scan: Scan) -> dicom_results.Source | None:
        """What the DICOM objects of a scan refer to; None where none are wanted.

        Raises:
            UserError: the scan cannot have those that are wanted.
        """
        if self.dicom is None:
            return None
        source = dicom_results.source_of(scan)
        if self.dicom.structures:
            refuse_contours_without_place(scan, source)
        return source

    def dicom_objects(self, scan: Scan, source: dicom_results.Source, prediction: CasePrediction) -> DicomObjects:
        """The DICOM objects of a case, for `write`. Images without a place have no map of uncertainty.

        Raises:
            UserError: the source's headers do not allow it.
        """
        assert self.dicom is not None
        what, made = self.dicom, {}
        about = (self.plan.classes, what.codes, what.algorithm)
        if what.segmentation is not None:
            made["dicom"] = dicom_results.segmentation(prediction.mask, source, *about, what.segmentation)
            if source.order is not None:
                uncertainty = dicom_results.parametric_map(prediction.uncertainty, source, what.algorithm)
                made["dicom/uncertainty"] = uncertainty
        if what.structures:
            made["dicom/rtstruct"] = structure_set(prediction.mask, scan, source, *about)
        return made

    def write(
        self,
        item: Input,
        scan: Scan,
        prediction: CasePrediction,
        objects: DicomObjects | None = None,
        content: str = "",
    ) -> Row:
        """Write all files of a case, each whole or not at all and the mask last; its line of the table.

        Args:
            content: digest of the scan's files.

        Raises:
            Exception: a file could not be written. Then those before it are gone too.
        """
        written: list[Path] = []
        try:
            for file, write in self._writers(item, scan, prediction, objects or {}):
                write(file)
                written.append(file)
        except Exception:
            for file in written:
                file.unlink(missing_ok=True)
            raise
        return self._row(item, scan, prediction, content)

    def _writers(
        self, item: Input, scan: Scan, prediction: CasePrediction, objects: DicomObjects
    ) -> Iterator[tuple[Path, Callable[[Path], None]]]:
        """The files of a case, and what writes each, in order."""
        for folder, found in objects.items():
            yield self.path / folder / f"{item.case}.dcm", partial(dicom_results.write, found)
        maps = f"{item.case}{map_ending(item.address)}"
        mask = self.mask_file(item)
        colours = COLOURS if self.colour else None
        yield self.path / "uncertainty" / maps, partial(write_like, prediction.uncertainty, scan)
        leave(prediction.uncertainty)
        if prediction.probabilities is not None:
            folders = file_names(self.plan.classes.values())
            for index, name in self.plan.classes.items():
                values = prediction.probabilities[index]
                yield self.path / "probabilities" / folders[name] / maps, partial(write_like, values, scan)
                leave(values)  # memory would hold the maps of all classes
        folders = file_names(prediction.members)
        for name, member in prediction.members.items():
            file = self.path / "members" / folders[name] / mask.name
            yield file, partial(write_like, member, scan, colours=colours)
        yield mask, partial(write_like, prediction.mask, scan, colours=colours)

    def _row(self, item: Input, scan: Scan, prediction: CasePrediction, content: str) -> Row:
        """The line of a case whose files are written."""
        mask = self.mask_file(item)
        row: Row = {"case": item.case, "file": str(item.address), "content": content, "status": "ok", "reason": ""}
        row["mask"] = mask.name
        row |= volumes(prediction.mask, scan.geometry, self.plan.classes)
        row["mean_uncertainty"] = float(prediction.uncertainty.mean(dtype=np.float64))
        row["empty_networks"] = " ".join(prediction.empty_members)
        return row | prediction.scores | dict(zip((PREDICTED_DICE, *INTERVAL), prediction.predicted_dice, strict=True))


def failed_row(item: Input, reason: str) -> Row:
    """The line of a case that could not be predicted. What an earlier call wrote for it stays."""
    return {"case": item.case, "file": str(item.address), "status": "failed", "reason": reason}


class PredictionFolder:
    """The folder of one prediction.

    Args:
        settings: what decides the results, kept in prediction.json.
        resume: keep what an earlier call with the same settings has finished.

    Raises:
        UserError: the folder is a dataset or a training run; it holds a scan to predict; or it was made with other
            settings and `resume` is on.
    """

    def __init__(
        self, files: CaseFiles, items: Sequence[Input], settings: dict[str, Any], *, resume: bool = False
    ) -> None:
        path = files.path
        if (path / CONFIG_FILE).exists() or (path / "config.json").exists():
            raise UserError("out-taken", f"{path}: this is the folder of a dataset or of a run; choose another --out.")
        require_place(path)
        inside = [item.address for item in items if item.address.path.resolve().is_relative_to(path.resolve())]
        if inside:
            raise UserError(
                "out-holds-scan", f"{inside[0]}: results in {path} could overwrite this scan; choose another --out."
            )
        self.files = files
        self._items = items
        self._rows: dict[str, Row] = {}
        self._finished: dict[str, Row] = {}
        self._table_exists = False
        about = path / ABOUT
        if about.exists() and not resume:
            raise UserError(
                "out-has-predictions",
                f"{path}: this folder already holds predictions; choose another --out, or continue them with --resume.",
            )
        if about.exists():
            note_of(path)  # refused if it is damaged
            earlier = read_json(about)
            differing = [key for key, value in settings.items() if earlier.get(key) != value]
            if differing:
                raise UserError(
                    "resume-differs",
                    f"{path}: cannot be resumed: '{differing[0]}' was {earlier.get(differing[0])} and is "
                    f"{settings[differing[0]]} now; choose another --out.",
                )
            for part in path.rglob(PART):  # what a killed process was writing
                part.unlink(missing_ok=True)
            self._finished = {row["case"]: dict(row) for row in rows_of(path, whole_lines=True) if row.get("case")}
        make_folder(path, "--out")
        write_json(about, settings)

    def __repr__(self) -> str:
        return f"<PredictionFolder {self.files.path}: {len(self.rows)} cases, {len(self.failed)} failed>"

    @property
    def rows(self) -> list[Row]:
        """The lines of the cases that have ended, in the order of the inputs whatever order they ended in."""
        return [self._rows[item.case] for item in self._items if item.case in self._rows]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row["status"] == "failed"]

    @property
    def empty(self) -> list[str]:
        """Cases of which the mask holds no foreground at all."""
        columns = volume_columns(self.files.plan)
        return [
            str(row["case"]) for row in self.rows if row["status"] == "ok" and not any(float(row[c]) for c in columns)
        ]

    @property
    def doubtful(self) -> list[tuple[str, float]]:
        """Cases with a failure score above 0 and that score, highest first."""
        done = [row for row in self.rows if row["status"] == "ok"]
        scores = [(str(row["case"]), float(row["failure_score"] or "nan")) for row in done]
        return sorted((one for one in scores if one[1] > 0), key=lambda one: -one[1])

    def keep_finished(self, item: Input) -> bool:
        """Take over a case that an earlier call has finished; False if it has to be predicted."""
        row = self._finished.get(item.case)
        if row is None or (row["status"], row["file"]) != ("ok", str(item.address)):
            return False
        try:
            if row.get("content") != content_of(item.address):  # another scan took its place
                return False
        except (OSError, UserError):
            return False  # reading it will say why
        if found := self.files.mask_file(item).exists():
            self._rows[item.case] = row
        return found

    def add(self, row: Row) -> None:
        """Take in the line of a case that has ended, and add it to cases.csv, where a kill cannot take it back."""
        self._rows[str(row["case"])] = row
        if self._table_exists:  # by itself: with thousands of cases the whole table would take longer than predicting
            table = self.files.path / "cases.csv"
            with writing(table), table.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([row]))
        else:
            self.save_table()

    def save_table(self) -> None:
        """Write cases.csv, whole or not at all, its lines in the order of the inputs."""
        write_text(self.files.path / "cases.csv", self._lines(self.rows, header=True))
        self._table_exists = True

    def _lines(self, rows: list[Row], *, header: bool = False) -> str:
        columns = [
            *("case", "file", "content", "status", "reason", "mask"),
            *volume_columns(self.files.plan),
            "mean_uncertainty",
            FAILURE_SCORE,
            *[name for name in SCORES if name not in (FAILURE_SCORE, "mean_uncertainty")],
            "empty_networks",
            PREDICTED_DICE,
            *INTERVAL,
        ]
        return csv_text(columns, rows, header=header)


def volumes(mask: Array, geometry: Geometry, classes: dict[int, str]) -> Row:
    """Size of each foreground class: ml for scans in mm (their voxels may be oblique), voxels for plain images."""
    counts = np.zeros(len(classes), np.int64)
    for rows in pieces(mask.shape):  # counting a whole scan at once would take eight times its mask
        counts += np.bincount(mask[rows].ravel(), minlength=len(classes))
    pixels = geometry.unit == "px"
    one = 1 if pixels else abs(float(np.linalg.det(geometry.affine[:-1, :-1]))) / 1000  # mm^3 -> ml
    columns = _columns(classes, "px" if pixels else "ml")
    return {column: int(counts[i]) * one for i, column in zip(classes, columns, strict=True) if i}


def volume_columns(plan: Plan) -> list[str]:
    """Names of the volume columns of cases.csv, background apart."""
    return _columns(plan.classes, "px" if plan.unit == "px" else "ml")[1:]


def _columns(classes: dict[int, str], unit: str) -> list[str]:
    return [f"{name}_{unit}" for name in classes.values()]
