"""A dataset on disk: dataset.yaml (what it is) and cases.csv (a line a case), small enough to read and edit by hand.

    dataset.yaml   name, root of the data, dims, modality, channels, classes, how masks are read, codes for DICOM
    cases.csv      case,subject,image,mask,split; paths relative to the root (see scans/address.py); no mask: unlabelled
    hidden.csv     case,mask: masks that exist but that training must not see (studies with known truth)
    left_out.csv   file,reason: images and masks that `ucseg init` found and could not use

`load_dataset` never opens hidden.csv; only `reference_masks`, which evaluation calls, does. left_out.csv is for
`ucseg check` alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ucseg.config import build, read_yaml
from ucseg.dataset.case import SPLITS, Case
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.tables import read_table, write_table
from ucseg.errors import UserError
from ucseg.machine.writing import whole_file
from ucseg.scans.address import Address

CACHE = "cache"
"""Folder, in that of a dataset, of what is made of its scans."""
CONFIG_FILE = "dataset.yaml"
CASES_FILE = "cases.csv"
HIDDEN_FILE = "hidden.csv"
LEFT_OUT_FILE = "left_out.csv"
DATASET_FILES = (CACHE, CONFIG_FILE, CASES_FILE, HIDDEN_FILE, LEFT_OUT_FILE, "plan.yaml")
"""What ucseg puts into a dataset's folder, which the scans may share."""
CASE_COLUMNS = ("case", "subject", "image", "mask", "split")
HIDDEN_COLUMNS = ("case", "mask")
LEFT_OUT_COLUMNS = ("file", "reason")


@dataclass
class Dataset:
    """A dataset as training may see it: its settings and its cases, with absolute paths."""

    folder: Path
    config: DatasetConfig
    cases: list[Case]

    @property
    def root(self) -> Path:
        """Absolute folder of the data."""
        return _absolute(self.folder / self.config.root)

    @property
    def training(self) -> list[Case]:
        """Cases to train on, labelled or not."""
        return [case for case in self.cases if case.split == "train"]

    @property
    def validation(self) -> list[Case]:
        """Cases that choose checkpoints and settings."""
        return [case for case in self.cases if case.split == "validation"]

    @property
    def test(self) -> list[Case]:
        """Cases that no training and no choice ever sees."""
        return [case for case in self.cases if case.split == "test"]

    @property
    def labelled(self) -> list[Case]:
        """Training cases with a mask."""
        return [case for case in self.training if case.mask is not None]

    @property
    def unlabelled(self) -> list[Case]:
        """Training cases without a mask that training may see."""
        return [case for case in self.training if case.mask is None]


def load_dataset(path: Path | str) -> Dataset:
    """Read a dataset.

    Args:
        path: the dataset's folder, or its dataset.yaml.

    Raises:
        UserError: all problems of the two files at once, a line each. Whether scans can be read is for
            `check_dataset` to find out.
    """
    path = _absolute(Path(path))
    config_file = path / CONFIG_FILE if path.is_dir() else path
    if not path.exists():
        raise UserError(
            "todo",
            f"{path}: no such dataset; make one of a folder of scans: ucseg init SCANS --out DATASET",
        )
    if path.is_file() and path.name != CONFIG_FILE:
        raise UserError(
            "todo",
            f"{path}: this is a file; give the folder of the dataset, in which its {CONFIG_FILE} is.",
        )
    if not config_file.is_file():
        raise UserError(
            "todo",
            f"{path}: there is no {CONFIG_FILE} here; if these are scans, make a dataset of them first: "
            f"ucseg init {path} --out DATASET",
        )
    folder = config_file.parent
    config = build(DatasetConfig, read_yaml(config_file), str(config_file))
    root = _absolute(folder / config.root)
    if not root.is_dir():
        raise UserError(
            "todo",
            f"{config_file}: the data root {root} is not there; mend 'root' to where the scans now are.",
        )
    return Dataset(folder, config, _read_cases(folder / CASES_FILE, root))


def scans_of_made_folder(folder: Path) -> Path | None:
    """The folder of the scans where `folder` is a dataset and they lie outside of it; else None.

    Whatever images are in such a folder are ucseg's own: the cache, masks that were predicted.
    """
    if not all((folder / name).is_file() for name in (CONFIG_FILE, CASES_FILE)):
        return None
    root = _absolute(folder / str(read_yaml(folder / CONFIG_FILE).get("root", ".")))
    return None if root.is_relative_to(_absolute(folder)) else root


def refuse_to_replace(folder: Path, overwrite: bool) -> None:
    """Raise a UserError if a dataset is in a folder and may not be replaced."""
    if (folder / CONFIG_FILE).exists() and not overwrite:
        raise UserError(
            "todo",
            f"{folder}: there already is a dataset; choose another --out, or replace it with --overwrite.",
        )


def save_dataset(
    dataset: Dataset, hidden: Mapping[str, Address] | None = None, left_out: Mapping[Path, str] | None = None
) -> None:
    """Write dataset.yaml, cases.csv and, where there is something for them, hidden.csv and left_out.csv.

    Each file is written whole or not at all.

    Args:
        dataset: its folder is made when it is not there.
        hidden: case -> mask that training must not see.
        left_out: image or mask that could not be used -> why.
    """
    folder, root = dataset.folder, dataset.root
    rows = [
        (
            case.case,
            case.subject,
            _relative(case.image.path, root),
            _relative(case.mask.path, root) if case.mask else "",
            case.split,
        )
        for case in dataset.cases
    ]
    write_table(folder / CASES_FILE, CASE_COLUMNS, rows)
    unseen = [(case, _relative(mask.path, root)) for case, mask in (hidden or {}).items()]
    unused = [(_relative(file, root), reason) for file, reason in (left_out or {}).items()]
    for name, columns, lines in ((HIDDEN_FILE, HIDDEN_COLUMNS, unseen), (LEFT_OUT_FILE, LEFT_OUT_COLUMNS, unused)):
        if lines:
            write_table(folder / name, columns, lines)
        else:
            (folder / name).unlink(missing_ok=True)
    text = yaml.safe_dump(dataset.config.model_dump(), sort_keys=False, allow_unicode=True)
    with whole_file(folder / CONFIG_FILE, ".yaml") as part:
        part.write_text(f"# Written by 'ucseg init'. You may edit it; run 'ucseg check' after that.\n{text}", "utf-8")


def reference_masks(dataset: Dataset) -> dict[str, Address]:
    """Every known mask by case, hidden ones included. For evaluation only: training must not call this.

    Raises:
        UserError: hidden.csv is broken or names a case that cases.csv does not have.
    """
    masks = {case.case: case.mask for case in dataset.cases if case.mask is not None}
    file = dataset.folder / HIDDEN_FILE
    if not file.is_file():
        return masks
    known = {case.case for case in dataset.cases}
    problems = []
    for line, row in read_table(file, HIDDEN_COLUMNS):
        if row["case"] not in known:
            problems.append(f"{file}, line {line}: case '{row['case']}' is not in {CASES_FILE}; remove the line.")
        elif not row["mask"]:
            problems.append(f"{file}, line {line}: the mask is empty; name a file or remove the line.")
        else:
            masks[row["case"]] = Address.of(_absolute(dataset.root / row["mask"]))
    if problems:
        raise UserError("todo", "\n".join(problems))
    return masks


def files_left_out(dataset: Dataset) -> dict[Path, str]:
    """What `ucseg init` could not use, with the reasons, unless a case has come to use it since.

    Raises:
        UserError: left_out.csv is broken.
    """
    file = dataset.folder / LEFT_OUT_FILE
    rows = read_table(file, LEFT_OUT_COLUMNS) if file.is_file() else []
    used = {one.path for case in dataset.cases for one in (case.image, case.mask) if one is not None}
    return {path: row["reason"] for _, row in rows if (path := _absolute(dataset.root / row["file"])) not in used}


def root_for(data: Path, folder: Path) -> str:
    """How dataset.yaml names the root: relative when one folder holds the other (they move together), else absolute."""
    data, folder = _absolute(data), _absolute(folder)
    if data.is_relative_to(folder) or folder.is_relative_to(data):
        return Path(os.path.relpath(data, folder)).as_posix()
    return data.as_posix()


def _read_cases(file: Path, root: Path) -> list[Case]:
    cases: list[Case] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    for line, row in read_table(file, CASE_COLUMNS):
        here = f"{file}, line {line}"
        name = row["case"]
        if not name or "/" in name or "\\" in name:
            problems.append(f"{here}: case '{name}' cannot name files; give it a name without slashes.")
        elif name in lines:
            problems.append(f"{here}: case '{name}' is also in line {lines[name]}; every case needs a name of its own.")
        lines.setdefault(name, line)
        if not row["subject"]:
            problems.append(
                f"{here}: the subject is empty; name the person or exam (the case's name if there is one scan of each)."
            )
        if not row["image"]:
            problems.append(f"{here}: the image is empty; name a file relative to {root} or remove the line.")
        if row["split"] not in SPLITS:
            problems.append(f"{here}: split '{row['split']}' is not one of {', '.join(SPLITS)}; choose one.")
        mask = Address.of(_absolute(root / row["mask"])) if row["mask"] else None
        cases.append(Case(name, row["subject"], Address.of(_absolute(root / row["image"])), mask, row["split"]))
    if problems:
        raise UserError("todo", "\n".join(problems))
    if not cases:
        raise UserError("todo", f"{file}: there are no cases in it; add a line a case or run 'ucseg init' again.")
    return cases


def _absolute(path: Path) -> Path:
    """Absolute without following links: a linked data folder keeps the name the user gave it."""
    return Path(os.path.normpath(path.absolute()))


def _relative(path: Path, root: Path) -> str:
    path, root = _absolute(path), _absolute(root)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
