"""Which folders does a report show? Those that are given, and those that they were made from, if they are there."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import ConfigDict

from ucseg.config import Strict, build
from ucseg.dataset.manifest import CONFIG_FILE
from ucseg.errors import UserError
from ucseg.folder.predictions import ABOUT, note_of
from ucseg.machine.reading import read_json
from ucseg.training.run_folder import RunFolder

METRICS_FILE = "metrics.json"
_MARKS = {"numbers": METRICS_FILE, "masks": ABOUT, "run": "config.json", "data": CONFIG_FILE}
"""Kind of folder -> the file by which it is known."""
_WHAT = {
    "numbers": "an evaluation",
    "masks": "a folder of predictions",
    "run": "a training run",
    "data": "a dataset",
}


_PAGES = ("index.html", "sheet.html")
"""Of a comparison, and of a list of what to label next."""
_TELLS = {"masks": "cases.csv", "run": "config.json", "data": "cases.csv"}
"""Kind of folder -> the file that is the same in a copy of it."""


class _MadeOf(Strict):
    model_config = ConfigDict(extra="allow")

    run: str | None = None


class _Evaluated(Strict):
    """Of metrics.json: where the masks and references lay."""

    model_config = ConfigDict(extra="allow")

    predictions: str | None = None
    references: str | None = None
    dataset: str | None = None
    made_of: _MadeOf = _MadeOf()


@dataclass
class Sources:
    """The folders of a report; None: there is none.

    Attributes:
        references: masks of no dataset that the evaluation compared with, as `evaluate` was given them.
        gone: where such masks lay, and are no longer.
        trained_on: the dataset of the run, where the evaluation is of another one; `data` is that of the evaluation.
        lost: what a folder was made from and is no longer there, in words.
    """

    numbers: Path | None = None
    masks: Path | None = None
    run: Path | None = None
    data: Path | None = None
    references: Path | None = None
    gone: str = ""
    trained_on: Path | None = None
    lost: list[str] = field(default_factory=list)


def find_sources(given: Sequence[Path]) -> Sources:
    """Know each folder by what lies in it, and follow what it was made from.

    Raises:
        UserError: a folder is none that ucseg writes, two are of one kind, or one was made with another than is given.
    """
    found = Sources()
    for folder in given:
        if not folder.exists():
            raise UserError("report-not-there", f"{folder}: there is no such folder; check the path.")
        kind = next((kind for kind, mark in _MARKS.items() if (folder / mark).is_file()), None)
        if kind is None:
            own = next((f"; it has a page, {page}" for page in _PAGES if (folder / page).is_file()), "")
            raise UserError(
                "report-of-what",
                f"{folder}: is no dataset, run, folder of predictions or evaluation{own}; give a folder that "
                "'ucseg init', 'train', 'predict' or 'evaluate' wrote.",
            )
        if (other := getattr(found, kind)) is not None:
            raise UserError(
                "report-of-two", f"{folder}: this is {_WHAT[kind]}, as {other} is; give one folder of each kind."
            )
        setattr(found, kind, folder)
    if found.numbers is not None:
        file = found.numbers / METRICS_FILE
        about = build(_Evaluated, read_json(file), str(file))
        _follow(found, "masks", about.predictions, found.numbers)
        if about.dataset is not None:
            _follow(found, "data", about.references, found.numbers)
        _follow(found, "run", about.made_of.run, found.numbers)
        if about.dataset is None and about.references is not None:
            found.references = next(iter(_places(about.references, found.numbers)), None)
            found.gone = "" if found.references else about.references
    if found.masks is not None and (note := note_of(found.masks)) is not None:
        _follow(found, "run", note.run, found.masks)
    if found.run is not None:
        trained = RunFolder(found.run).config.get("dataset")
        evaluated = found.numbers is not None and found.data is not None and found.references is None
        found.trained_on = _other_data(found, trained) if evaluated else None
        if found.trained_on is None:
            _follow(found, "data", trained, found.run)
    return found


def _other_data(found: Sources, trained: str | None) -> Path | None:
    """The dataset that the run was trained on, where the evaluation is of another one: scans of another hospital."""
    assert found.run is not None and found.data is not None
    places = _places(trained, found.run) if trained else []
    folder = next((place for place in places if (place / _MARKS["data"]).is_file()), None)
    same = folder is None or _is_copy(folder / _TELLS["data"], found.data / _TELLS["data"])
    return None if same else folder


def _follow(found: Sources, kind: str, path: str | None, maker: Path) -> None:
    """Take a folder that `maker` names, unless one of its kind is known: then it has to be the same."""
    if path is None:
        return
    places = _places(path, maker)
    folder = next((place for place in places if (place / _MARKS[kind]).is_file()), None)
    known = getattr(found, kind)
    if known is not None:
        if folder is not None and not _is_copy(folder / _TELLS[kind], known / _TELLS[kind]):
            raise UserError(
                "report-of-others",
                f"{known}: {maker} was not made with it, but with {_WHAT[kind]} that is still there, {folder}; give "
                "folders that belong together, or fewer.",
            )
        return
    if folder is not None:
        setattr(found, kind, folder)
    elif not places and (lost := f"{_WHAT[kind]}, {path}") not in found.lost:
        found.lost.append(lost)  # what is there is of another kind: masks of another program, a folder of references


def _places(path: str, maker: Path) -> list[Path]:
    """Where what `maker` names may lie. A relative path was typed in a folder that nobody knows any more."""
    return [place for place in (Path(path), maker.absolute().parent / path) if _is_there(place)]


def _is_copy(one: Path, other: Path) -> bool:
    return not (one.is_file() and other.is_file()) or filecmp.cmp(one, other, shallow=False)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no system takes
        return False


def named(sources: Sources) -> dict[str, str]:
    """What each folder is -> its name. Its path is of this machine, and a page may be sent to another one."""
    paths = {_WHAT[one.name]: getattr(sources, one.name) for one in fields(sources) if one.name in _WHAT}
    return {what.partition(" ")[2]: path.absolute().name for what, path in paths.items() if path is not None}
