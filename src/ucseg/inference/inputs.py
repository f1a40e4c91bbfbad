"""Which files to predict, and what to call their results."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ucseg.data.formats import SUFFIXES, stem
from ucseg.data.manifest import CONFIG_FILE, load_dataset
from ucseg.errors import UserError
from ucseg.types import SPLITS


@dataclass(frozen=True)
class Input:
    """A scan to predict; `case` names its results and is unique."""

    case: str
    file: Path


def find_inputs(paths: Sequence[Path], out: Path, split: str = "test") -> tuple[list[Input], list[str]]:
    """Files, folders and datasets as a list of scans, and what is wrong with the paths that give none.

    Args:
        paths: files; folders, of which every readable file is taken, sub-folders included; datasets (the folder that
            `ucseg init` wrote or its dataset.yaml), of which the images of `split` are taken under their case names.
        out: where results will go; never taken as an input.
        split: "train", "validation", "test" or "all".

    Raises:
        UserError: no path gives a scan (it is not there, holds nothing readable, its split is empty); unknown split.
    """
    if split not in (*SPLITS, "all"):
        raise UserError(f"--split {split} is not known; use one of {', '.join(SPLITS)}, all.")
    named: dict[Path, str] = {}
    problems = []
    for path in map(_absolute, paths):
        try:
            found = _of_path(path, _absolute(out), split)
        except UserError as error:
            problems.append(str(error))
            continue
        for file, name in found.items():
            named.setdefault(file, name)
    if not named:
        raise UserError("\n".join(problems))
    return [Input(case, file) for file, case in _unique(named).items()], problems


def _of_path(path: Path, out: Path, split: str) -> dict[Path, str]:
    if path.name == CONFIG_FILE or (path / CONFIG_FILE).is_file():
        return _of_dataset(path, split)
    if path.is_dir():
        return {file: stem(file) for file in _of_folder(path, out)}
    if path.is_file():
        return {path: stem(path)}
    raise UserError(f"{path}: there is no such file or folder.")


def _of_dataset(path: Path, split: str) -> dict[Path, str]:
    dataset = load_dataset(path)
    cases = [case for case in dataset.cases if split in (case.split, "all")]
    if not cases:
        raise UserError(f"{path}: the dataset has no cases in its split '{split}'; choose another --split.")
    return {case.image: case.case for case in cases}


def _of_folder(folder: Path, out: Path) -> list[Path]:
    files = []
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != out)
        files += [here / name for name in sorted(names) if name.lower().endswith(tuple(SUFFIXES)) and name[0] != "."]
    if not files:
        raise UserError(
            f"{folder}: there is no scan in this folder; readable are {', '.join(sorted(SUFFIXES))} "
            "(convert DICOM series to NIfTI first)."
        )
    return files


def _unique(named: dict[Path, str]) -> dict[Path, str]:
    """Names that differ, also where the file system does not tell upper from lower case.

    Files of the same name are told apart by as few parent folders as that takes (a_scan, b_scan); two formats in one
    folder also by their ending (scan_png, scan_jpg).
    """
    groups: dict[str, list[Path]] = {}
    for file, name in named.items():
        groups.setdefault(name.casefold(), []).append(file)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for group in groups.values():
        for file, name in zip(group, _told_apart(group, named), strict=True):
            number = 1
            while (free := name if number == 1 else f"{name}_{number}").casefold() in taken:
                number += 1
            taken.add(free.casefold())
            names[file] = free
    return {file: names[file] for file in named}


def _told_apart(group: list[Path], named: dict[Path, str]) -> list[str]:
    depths = range(max(len(file.parts) for file in group) - 1)
    for ending, depth in itertools.product((False, True), depths):
        names = []
        for file in group:
            parents = file.parent.parts[1:][-depth:] if depth else ()
            names.append("_".join([*parents, named[file], *([file.suffix[1:]] if ending else [])]))
        if len({name.casefold() for name in names}) == len(group):
            return names
    return names  # files whose whole paths differ by case only; numbers will tell them apart


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
