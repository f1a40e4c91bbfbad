"""A dataset on disk: dataset.yaml (what it is) and cases.csv (one line per case), easily edited by hand.

    dataset.yaml   name, root of the data, dims, modality, channels, classes, how masks are read, codes for DICOM
    cases.csv      case,subject,image,mask,split; paths relative to the root (see scans/address.py); no mask: unlabelled
                   A column labelled_slices may say which slices of a volume its mask annotates (see dataset/slices.py)
    hidden.csv     case,mask: masks that exist but that training must not see (studies with known truth)
    left_out.csv   file,reason: images and masks that `ucseg init` found and could not use
    cases.before.1.csv   an older cases.csv with masks that a new one does not have; nothing reads it
    contact_sheet.html   small pictures of cases with their masks; `ucseg init` and `ucseg check` make it, for people

`load_dataset` never opens hidden.csv. Only `reference_masks` does, for `evaluate`, `compare`, `demo` and
`report`. left_out.csv is for `ucseg check` alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ucseg.config import build, read_yaml
from ucseg.dataset.case import SPLITS, Case
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices, axis_of_slices
from ucseg.dataset.tables import read_table, write_table
from ucseg.errors import UserError
from ucseg.machine.writing import require_place, whole_file
from ucseg.scans.address import Address, absolute

CACHE = "cache"
"""Folder, in that of a dataset, of what is made of its scans."""
CONFIG_FILE = "dataset.yaml"
CASES_FILE = "cases.csv"
HIDDEN_FILE = "hidden.csv"
LEFT_OUT_FILE = "left_out.csv"
CONTACT_SHEET_FILE = "contact_sheet.html"
DATASET_FILES = (CACHE, CONFIG_FILE, CASES_FILE, HIDDEN_FILE, LEFT_OUT_FILE, CONTACT_SHEET_FILE, "plan.yaml")
"""What ucseg puts into a dataset's folder, which the scans may share."""
OTHERS = ("config.json", "prediction.json", "comparison.json")
"""Of a folder that another command wrote."""
MOST_NAME = 200
"""Bytes of a case's name: file systems take 255, and results add to it."""
LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""
CASE_COLUMNS = ("case", "subject", "image", "mask", "split")
SLICES_COLUMN = "labelled_slices"
"""Of cases.csv, where it is wanted."""
HIDDEN_COLUMNS = ("case", "mask")
LEFT_OUT_COLUMNS = ("file", "reason")


@dataclass
class Dataset:
    """A dataset as training may see it: its settings and its cases, with absolute paths."""

    folder: Path
    config: DatasetConfig
    cases: list[Case]

    def __repr__(self) -> str:
        return (
            f"<Dataset {self.folder}: {len(self.training)} training cases ({len(self.labelled)} labelled), "
            f"{len(self.validation)} validation, {len(self.test)} test>"
        )

    @property
    def root(self) -> Path:
        """Absolute folder of the data."""
        return absolute(self.folder / self.config.root)

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
    """Read a dataset from its folder or its dataset.yaml.

    Raises:
        UserError: all problems of a file at once, a line each. Whether scans can be read, `check_dataset` finds out.
    """
    path = absolute(Path(path))
    if not path.exists():
        raise UserError("dataset-missing", f"{path}: no such dataset; make one with ucseg init SCANS --out DATASET.")
    if path.is_file() and path.name != CONFIG_FILE:
        raise UserError("dataset-is-file", f"{path}: this is a file; give the folder in which the {CONFIG_FILE} is.")
    folder = path if path.is_dir() else path.parent
    config_file = folder / CONFIG_FILE
    if not config_file.is_file():
        raise UserError(
            "dataset-not-made",
            f"{path}: there is no {CONFIG_FILE} here; if these are scans, run ucseg init {path} --out DATASET.",
        )
    return read_dataset(folder)


def read_dataset(folder: Path, *, without_root: bool = False) -> Dataset:
    """What the two files of a dataset say; a UserError as in `load_dataset`.

    Args:
        without_root: the folder of the scans may be gone.
    """
    config_file = folder / CONFIG_FILE
    dataset = Dataset(folder, build(DatasetConfig, read_yaml(config_file), str(config_file)), [])
    if not dataset.root.is_dir() and not without_root:
        raise UserError(
            "dataset-root",
            f"{config_file}: the data root {dataset.root} is not there; set 'root' to where the scans are.",
        )
    cases = _read_cases(folder / CASES_FILE, dataset.root, dataset.config.dims)
    dataset.cases = [case.as_said(dataset.config.said) for case in cases]
    return dataset


def scans_of_made_folder(folder: Path) -> Path | None:
    """The folder of the scans where `folder` is a dataset and they lie outside of it; else None.

    All images in such a folder were made by ucseg: the cache, masks that were predicted.
    """
    if not all((folder / name).is_file() for name in (CONFIG_FILE, CASES_FILE)):
        return None
    root = absolute(folder / str(read_yaml(folder / CONFIG_FILE).get("root", ".")))
    return None if root.is_relative_to(absolute(folder)) else root


def refuse_to_replace(folder: Path, overwrite: bool) -> None:
    """Raise a UserError if a dataset is in a folder and may not be replaced, or the folder cannot hold one."""
    require_place(folder)
    if other := next((name for name in OTHERS if (folder / name).exists()), None):
        raise UserError("dataset-out-taken", f"{folder}: it holds a {other} of another command; choose another --out.")
    if (folder / CONFIG_FILE).exists() and not overwrite:
        raise UserError(
            "dataset-exists", f"{folder}: there already is a dataset; choose another --out, or add --overwrite."
        )


def save_dataset(
    dataset: Dataset, hidden: Mapping[str, Address] | None = None, left_out: Mapping[Path, str] | None = None
) -> None:
    """Write dataset.yaml, cases.csv and, where there is something for them, hidden.csv and left_out.csv.

    Each file is written whole or not at all.

    Args:
        hidden: case -> mask that training must not see.
        left_out: image or mask that could not be used -> why.
    """
    folder, root = dataset.folder, dataset.root
    save_cases(dataset)
    unseen = [(case, _relative(mask, root)) for case, mask in (hidden or {}).items()]
    unused = [(_relative(file, root), reason) for file, reason in (left_out or {}).items()]
    for name, columns, lines in ((HIDDEN_FILE, HIDDEN_COLUMNS, unseen), (LEFT_OUT_FILE, LEFT_OUT_COLUMNS, unused)):
        if lines:
            write_table(folder / name, columns, lines)
        else:
            (folder / name).unlink(missing_ok=True)
    settings = dataset.config.model_dump()
    settings["values"] = _InOneLine(settings["values"])
    text = yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    with whole_file(folder / CONFIG_FILE, ".yaml") as part:
        part.write_text(f"# Written by 'ucseg init'. You may edit it; run 'ucseg check' after that.\n{text}", "utf-8")


def save_cases(dataset: Dataset) -> None:
    """Write cases.csv alone, whole or not at all."""
    root = dataset.root
    rows = [
        (one.case, one.subject, _relative(one.image, root), _relative(one.mask, root) if one.mask else "",
         one.split, one.slices.text(axis_of_slices(one.image)) if one.mask and one.slices else "")
        for one in dataset.cases
    ]  # fmt: skip
    columns: tuple[str, ...] = (*CASE_COLUMNS, SLICES_COLUMN) if any(row[-1] for row in rows) else CASE_COLUMNS
    write_table(dataset.folder / CASES_FILE, columns, [row[: len(columns)] for row in rows])


class _InOneLine(dict[int, int]):
    """A mapping that is written as {128: 1, 255: 2}."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _InOneLine, lambda dumper, values: dumper.represent_mapping("tag:yaml.org,2002:map", values, flow_style=True)
)


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
        here, name = f"{file}, line {line}", row["case"]
        if name not in known:
            problems.append(UserError("hidden-case", f"{here}: case '{name}' is not in {CASES_FILE}; remove the line."))
        elif not row["mask"]:
            problems.append(UserError("hidden-mask", f"{here}: the mask is empty; name a file or remove the line."))
        else:
            masks[name] = _address(row["mask"], dataset.root).as_said(dataset.config.said)
    if problems:
        raise UserError.together(problems)
    return masks


def files_left_out(dataset: Dataset) -> dict[Path, str]:
    """What `ucseg init` could not use, with the reasons, unless a case uses it now; a UserError if it is broken."""
    file = dataset.folder / LEFT_OUT_FILE
    rows = read_table(file, LEFT_OUT_COLUMNS) if file.is_file() else []
    used = {one.path for case in dataset.cases for one in (case.image, case.mask) if one is not None}
    return {path: row["reason"] for _, row in rows if (path := absolute(dataset.root / row["file"])) not in used}


def root_for(data: Path, folder: Path) -> str:
    """How dataset.yaml names the root: relative when one folder holds the other (they move together), else absolute."""
    data, folder = absolute(data), absolute(folder)
    if data.is_relative_to(folder) or folder.is_relative_to(data):
        return Path(os.path.relpath(data, folder)).as_posix()
    return data.as_posix()


def _read_cases(file: Path, root: Path, dims: int) -> list[Case]:
    cases: list[Case] = []
    problems: list[UserError] = []
    lines: dict[str, int] = {}
    for line, row in read_table(file, CASE_COLUMNS, (SLICES_COLUMN,)):
        here, name, split = f"{file}, line {line}", row["case"], row["split"]
        if not name or "/" in name or "\\" in name or len(name.encode()) > MOST_NAME:
            what = f"case '{name[:MOST_NAME]}' cannot name files; give it a shorter name without slashes."
            problems.append(UserError("row-name", f"{here}: {what}"))
        elif name in lines:
            what = f"case '{name}' is also in line {lines[name]}; give every case its own name."
            problems.append(UserError("row-twice", f"{here}: {what}"))
        lines.setdefault(name, line)
        if not row["subject"]:
            what = "the subject is empty; name the person, or repeat the case if each has one scan."
            problems.append(UserError("row-subject", f"{here}: {what}"))
        if not row["image"]:
            what = f"the image is empty; name a file relative to {root} or remove the line."
            problems.append(UserError("row-image", f"{here}: {what}"))
        if split not in SPLITS:
            what = f"split '{split}' is not one of {', '.join(SPLITS)}; choose one."
            problems.append(UserError("row-split", f"{here}: {what}"))
        try:
            mask, image = _address(row["mask"], root) if row["mask"] else None, _address(row["image"], root)
            slices = Slices.read(row[SLICES_COLUMN], axis_of_slices(image)) if row[SLICES_COLUMN] else None
            if slices is not None and (mask is None or dims == 2):
                what = f"{SLICES_COLUMN} are of the mask of a volume, and there is none; empty the field."
                raise UserError("row-slices", what)
            cases.append(Case(name, row["subject"], image, mask, split, slices))
        except UserError as error:
            problems.append(UserError(error.code, f"{here}: {error}"))
    if problems:
        raise UserError.together(problems)
    if not cases:
        raise UserError("no-cases", f"{file}: there are no cases in it; add a line for each or run 'ucseg init' again.")
    return cases


def _address(path: str, root: Path) -> Address:
    try:
        address = Address.of(absolute(root / path))
        if any(len(os.fsencode(file.name)) > LONGEST_NAME for file in address.files):  # of several files one by one
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return address
    except OSError as error:  # a name that no system takes
        shown = path if len(path) < MOST_NAME else f"{path[:60]}..."
        raise UserError("row-path", f"{shown} is no path ({error.strerror}); name a file of {root}.") from None


def _relative(place: Address | Path, root: Path) -> str:
    path = place.path if isinstance(place, Address) else place
    return Address.of(absolute(path)).below(root)
