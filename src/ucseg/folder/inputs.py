"""Which files to predict, and what to call their results."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ucseg.dataset.case import SPLITS
from ucseg.dataset.manifest import CONFIG_FILE, load_dataset
from ucseg.errors import UserError
from ucseg.folder.listing import Listed, list_scans, merge_channels
from ucseg.folder.roles import named_as_masks
from ucseg.scans.address import ENDINGS, Address, without_ending

_TOLD = ("not a readable DICOM file", "its series goes on")
"""Reasons to leave out a DICOM file of a folder that the user has to know of: a scan may be missing for it."""

HOW_TO_PREDICT_MASKS = "to predict such files nevertheless, name the files themselves in place of their folder"


@dataclass(frozen=True)
class Input:
    """A scan to predict: where it is, and the unique name of its results."""

    case: str
    address: Address


@dataclass
class FoundInputs:
    """What the given paths hold.

    Attributes:
        scans: to predict.
        problems: what is wrong with the paths that give none, and with files that may be a part of a scan.
        masks: files of folders that are left out since folder or name say that they are masks, as for `ucseg init`.
    """

    scans: list[Input] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    masks: list[Address] = field(default_factory=list)


def find_inputs(paths: Sequence[Path], out: Path, split: str = "test", channels: int = 1) -> FoundInputs:
    """Files, folders and datasets as a list of scans, and what of them is none.

    Args:
        paths: files; folders, of which every readable scan that is no mask is taken, sub-folders included; datasets
            (the folder that `ucseg init` wrote or its dataset.yaml), of which the images of `split` are taken under
            their case names.
        out: where results will go; never taken as an input.
        split: "train", "validation", "test" or "all".
        channels: of the model's images; so many files CASE_0000, CASE_0001, ... of one channel are one scan.

    Raises:
        UserError: no path gives a scan (it is not there, holds nothing readable, its split is empty); unknown split.
    """
    if split not in (*SPLITS, "all"):
        raise UserError("todo", f"--split {split} is not known; use one of {', '.join(SPLITS)}, all.")
    named: dict[Address, str] = {}
    result = FoundInputs()
    for path in map(_absolute, paths):
        try:
            found = _of_path(path, _absolute(out), split, channels, result)
        except UserError as error:
            result.problems.append(str(error))
            continue
        for address, name in found.items():
            named.setdefault(address, name)
    if not named:
        raise UserError("todo", "\n".join(result.problems))
    result.scans = [Input(case, address) for address, case in _unique(named).items()]
    result.masks = [mask for mask in dict.fromkeys(result.masks) if mask not in named]  # one may be named by itself
    return result


def _of_path(path: Path, out: Path, split: str, channels: int, result: FoundInputs) -> dict[Address, str]:
    if path.name == CONFIG_FILE or (path / CONFIG_FILE).is_file():
        return _of_dataset(path, split)
    if path.is_dir():
        return _of_folder(path, out, channels, result)
    address = Address.of(path)
    if address.exists():
        return {merge_channels([address], channels)[0]: address.stem}
    raise UserError("todo", f"{path}: there is no such file or folder.")


def _of_dataset(path: Path, split: str) -> dict[Address, str]:
    dataset = load_dataset(path)
    cases = [case for case in dataset.cases if split in (case.split, "all")]
    if not cases:
        raise UserError("todo", f"{path}: the dataset has no cases in its split '{split}'; choose another --split.")
    return {case.image: case.case for case in cases}


def _of_folder(folder: Path, out: Path, channels: int, result: FoundInputs) -> dict[Address, str]:
    listed, left_out = list_scans(folder, {out})
    # The label beside an image in one file is no scan. Other files may be anything: only DICOM that fails is told.
    scans = [one for one in listed if not one.is_mask]
    result.problems += [f"{one.file}: {one.reason}" for one in left_out if one.reason.startswith(_TOLD)]
    named = named_as_masks(folder, [one for one in scans if one.is_mask is None])
    masks = [one.address for one in scans if one.address in named]
    if masks and len(masks) == len(scans):
        raise UserError(
            "todo",
            f"{folder}: all {len(masks)} scans in this folder are masks by their folders or names (e.g. "
            f"{masks[0].below(folder)}); {HOW_TO_PREDICT_MASKS}.",
        )
    result.masks += masks
    taken = set(masks)
    scans = [one for one in scans if one.address not in taken]
    if not scans:
        raise UserError(
            "todo",
            f"{folder}: there is no scan in this folder; readable are DICOM series and {', '.join(sorted(ENDINGS))}.",
        )
    names = {one.address: _name(one) for one in scans}
    merged = merge_channels(list(names), channels)
    return {address: names.get(address) or address.stem for address in merged}


def _name(one: Listed) -> str:
    return without_ending(one.name) if one.place.is_file() else one.name


def _unique(named: dict[Address, str]) -> dict[Address, str]:
    """Names that differ, also where the file system does not tell upper from lower case.

    Files of the same name are told apart by as few parent folders as that takes (a_scan, b_scan); two formats in one
    folder also by their ending (scan_png, scan_jpg).
    """
    groups: dict[str, list[Address]] = {}
    for address, name in named.items():
        groups.setdefault(name.casefold(), []).append(address)
    names: dict[Address, str] = {}
    taken: set[str] = set()
    for group in groups.values():
        for address, name in zip(group, _distinct(group, named), strict=True):
            number = 1
            while (free := name if number == 1 else f"{name}_{number}").casefold() in taken:
                number += 1
            taken.add(free.casefold())
            names[address] = free
    return {address: names[address] for address in named}


def _distinct(group: list[Address], named: dict[Address, str]) -> list[str]:
    depths = range(max(len(one.path.parts) for one in group) - 1)
    # Names that differ by case only (scan_png, scan_PNG) come last, and get numbers too.
    folded: tuple[Callable[[str], str], ...] = (str.casefold, str)
    for fold, ending, depth in itertools.product(folded, (False, True), depths):
        names = []
        for one in group:
            parents = one.parent.parts[1:][-depth:] if depth else ()
            names.append("_".join([*parents, named[one], *([one.file.suffix[1:]] if ending else [])]))
        if len({fold(name) for name in names}) == len(group):
            return names
    return names


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
