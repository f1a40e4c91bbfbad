"""The folder of `ucseg label-next`, file by file, so that a stop costs one scan and no more.

- list.csv: rank, case, slice, score, strategy, image, start; best first.
- sheet.html: the pictures of the list, each with the model's mask.
- start/CASE.*: the model's mask, in the scan's format and geometry, with the values of the dataset's own masks.
- finished/: empty; for the masks that an expert has corrected.
- label_next.json: which weights and settings made this folder.
- measures.jsonl: the figures of each scan that was measured, a line a scan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CONFIG_FILE, OTHERS
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError
from ucseg.inference.predictor import Predictor
from ucseg.labelling.measures import Measure
from ucseg.labelling.strategies import Choice
from ucseg.machine.reading import read_json, read_rows, read_text
from ucseg.machine.writing import csv_text, make_folder, write_json, write_text, writing
from ucseg.scans.palette import all_grey, greys_of
from ucseg.scans.reading import read_scan
from ucseg.scans.writing import mask_ending, write_like
from ucseg.types import NOT_ANNOTATED, Array

ABOUT, LIST, SHEET, MEASURES, START, FINISHED = (
    *("label_next.json", "list.csv", "sheet.html", "measures.jsonl", "start", "finished"),
)
COLUMNS = ("rank", "case", "slice", "score", "strategy", "image", "start")
_MEASURES = TypeAdapter(list[Measure])


class LabelFolder:
    """The folder of one list.

    Args:
        settings: what decides the list, kept in label_next.json.
        resume: keep what an earlier call with the same settings has measured.

    Raises:
        UserError: the folder is another command's, or holds masks that no list names; it holds a list, and `resume`
            is off; or it was made with other settings, or is damaged, and `resume` is on.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = path
        if any((path / name).exists() for name in (CONFIG_FILE, *OTHERS)):
            raise UserError("list-out-taken", f"{path}: this is the folder of another command; choose another --out.")
        about = path / ABOUT
        if about.exists() and not resume:
            raise UserError(
                "out-has-list", f"{path}: there already is a list here; choose another --out, or add --resume."
            )
        if about.exists():
            earlier = read_json(about)
            differing = [key for key, value in settings.items() if earlier.get(key) != value]
            if differing:
                raise UserError(
                    "list-differs",
                    f"{path}: cannot be resumed: '{differing[0]}' was {earlier.get(differing[0])} and is "
                    f"{settings[differing[0]]} now; choose another --out.",
                )
        elif any((path / START).glob("*")):  # they are kept below: of which model, nobody knows
            raise UserError(
                "starts-of-unknown-model",
                f"{path / START}: holds masks, and {ABOUT} is gone; choose another --out, or remove the folder.",
            )
        self.measured: dict[tuple[str, str], list[Measure]] = self._read() if about.exists() else {}
        make_folder(path, "--out")
        make_folder(path / FINISHED, "--out")
        write_json(about, settings)
        # Once more as a whole: a power cut may have left half a line at its end.
        write_text(path / MEASURES, "".join(_line(*key, found) for key, found in self.measured.items()))

    def add(self, case: str, content: str, found: list[Measure]) -> None:
        """Keep the figures of a scan; `content`: digest of its files."""
        self.measured[case, content] = found
        file = self.path / MEASURES
        with writing(file), file.open("a", encoding="utf-8") as lines:
            lines.write(_line(case, content, found))

    def start_file(self, case: Case) -> Path:
        return self.path / START / f"{case.case}{mask_ending(case.image)}"

    def write_start(self, case: Case, predictor: Predictor, config: DatasetConfig) -> None:
        """The model's mask of a case, unless it is there; slices that are labelled are the expert's.

        Raises:
            UserError: the scan cannot be predicted, or the mask cannot be written.
        """
        file = self.start_file(case)
        if not file.exists():
            scan = read_scan(case.image)
            mask = predictor.predict_scan(scan, members=False).mask
            if case.mask is not None:
                known = read_label(case.mask, mask.shape, config, scan.geometry, case.slices)
                mask = np.where(known == NOT_ANNOTATED, mask, known)
            write_like(as_the_masks_of(config, mask), scan, file)

    def write_list(self, choices: Sequence[Choice], strategy: str, cases: Mapping[str, Case]) -> list[dict[str, Any]]:
        """Write list.csv; its rows."""
        rows = []
        for rank, choice in enumerate(choices, start=1):
            one = choice.measure
            start = self.start_file(cases[one.case])
            rows.append(
                {
                    "rank": rank,
                    "case": one.case,
                    "slice": "" if one.slice is None else str(Slices(one.axis or 0, (one.slice,))),
                    "score": choice.score,
                    "strategy": strategy,
                    "image": str(cases[one.case].image),
                    "start": start.relative_to(self.path).as_posix() if start.exists() else "",
                }
            )
        write_text(self.path / LIST, csv_text(COLUMNS, rows))
        return rows

    def _read(self) -> dict[tuple[str, str], list[Measure]]:
        file = self.path / MEASURES
        found: dict[tuple[str, str], list[Measure]] = {}
        try:
            for line in read_text(file).rpartition("\n")[0].splitlines():
                known = json.loads(line)
                found[str(known["case"]), str(known["content"])] = _MEASURES.validate_python(known["measures"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, RecursionError, ValidationError):
            raise UserError(
                "measures-damaged", f"{file}: cannot be read; remove it, and the scans are measured again."
            ) from None
        return found


def run_of_list(folder: Path) -> str | None:
    """The run that made a list; None where there is no list, or it does not say."""
    run = read_json(folder / ABOUT).get("run") if (folder / ABOUT).is_file() else None
    return run if isinstance(run, str) else None


def slices_of_list(folder: Path) -> dict[str, Slices]:
    """The slices that a list names, by case; empty where it is of whole cases, or where there is no list.

    Raises:
        UserError: the list is damaged.
    """
    file = folder / LIST
    if not (folder / ABOUT).is_file() or not read_json(folder / ABOUT).get("slices"):
        return {}
    found: dict[str, Slices] = {}
    try:
        for _, row in read_rows(read_text(file))[1]:
            one = Slices.read(row["slice"])
            found[row["case"]] = one.joined(found[row["case"]]) if row["case"] in found else one
    except (OSError, ValueError, KeyError, UserError):
        raise UserError(
            "list-damaged", f"{file}: cannot be read; restore it, or move the masks into a folder elsewhere."
        ) from None
    return found


def as_the_masks_of(config: DatasetConfig, mask: Array) -> Array:
    """Class indices as the values that the dataset's own masks have, so that a corrected mask can take their place."""
    if config.mask_threshold is not None:
        return np.where(mask > 0, np.uint8(255), np.uint8(0))
    if config.palette and all_grey(config.said.palette):
        return np.asarray(np.array(greys_of(config.said.palette), np.uint8)[_numbers(config, mask)])
    return _numbers(config, mask)


def _numbers(config: DatasetConfig, mask: Array) -> Array:
    if not config.values:
        return mask
    values = {index: min(v for v, i in config.values.items() if i == index) for index in config.values.values()}
    table = np.array([values.get(index, 0) for index in range(len(config.classes))])
    return np.asarray(table[mask])


def as_class_indices(config: DatasetConfig, values: Array) -> Array:
    """The way back of `as_the_masks_of`."""
    if config.mask_threshold is not None:
        return (values > config.mask_threshold).astype(np.uint8)
    if config.palette and all_grey(config.said.palette):
        place = {grey: number for number, grey in enumerate(greys_of(config.said.palette))}
        values = np.vectorize(place.__getitem__, otypes=[np.uint8])(values)
    indices = values.astype(np.uint8)
    for value, index in config.values.items():
        indices[values == value] = index
    return indices


def _line(case: str, content: str, found: Sequence[Measure]) -> str:
    return json.dumps({"case": case, "content": content, "measures": [asdict(one) for one in found]}) + "\n"
