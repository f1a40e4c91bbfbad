"""Which scans are predicted, and what are their results called?"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.case import SPLITS
from ucseg.dataset.manifest import CONFIG_FILE, load_dataset
from ucseg.errors import UserError
from ucseg.folder.like_training import ANY, Wanted
from ucseg.folder.listing import Listed, is_empty, is_ome_zarr, list_scans, readable
from ucseg.folder.predictions import is_prediction
from ucseg.folder.roles import below_folder, named_as_masks
from ucseg.scans.address import ENDINGS, Address, absolute, without_ending
from ucseg.scans.reading import is_dicom_volume, read_header, slices_beside
from ucseg.scans.said import NOTHING, Said

HOW_TO_PREDICT_MASKS = "to predict them anyway, name the files themselves, not their folder"


@dataclass(frozen=True)
class Input:
    case: str
    address: Address


@dataclass
class FoundInputs:
    """Scans to predict, what is wrong with the rest, and masks of folders, which are left out by their names."""

    scans: list[Input] = field(default_factory=list)
    problems: list[UserError] = field(default_factory=list)
    masks: list[Address] = field(default_factory=list)
    others: list[Address] = field(default_factory=list)
    """Scans of folders that are not what the images of training were."""
    unlike: list[Path] = field(default_factory=list)
    """Folders in which no scan is called as those of training, so that all of them count."""
    of_dataset: bool = False
    """Some are cases of a dataset: to label those of its test would leak."""


def find_inputs(
    paths: Sequence[Path], out: Path, split: str = "test", wanted: Wanted = ANY, said: Said = NOTHING
) -> FoundInputs:
    """The scans in files, folders and datasets.

    Args:
        paths: files; folders (every readable scan at any depth that is no mask); datasets, named by their folder or
            their dataset.yaml (the images of `split`, under their case names).
        out: where results will go; never taken as an input.
        split: "train", "validation", "test" or "all".
        said: how scans are read; those of a dataset as the dataset says.
        wanted: which scans of a folder count.

    Raises:
        UserError: no path gives a scan (missing, nothing readable, no match, an empty split), or `split` is unknown.
    """
    if split not in (*SPLITS, "all"):
        raise UserError("input-split", f"--split {split} is not known; use one of {', '.join(SPLITS)}, all.")
    named: dict[Address, str] = {}
    result, wanted = FoundInputs(), replace(wanted, said=said)
    for path in map(absolute, paths):
        try:
            found = _of_path(path, absolute(out), split, wanted, result)
        except UserError as error:
            result.problems.append(error)
            continue
        for address, name in found.items():
            named.setdefault(address if address.said != NOTHING else address.as_said(said), name)
    if not named:
        raise UserError.together(result.problems)
    wanted.require_order(named)
    result.scans = [Input(case, address) for address, case in _unique(named).items()]
    result.masks = [mask for mask in dict.fromkeys(result.masks) if mask not in named]  # one may be named by itself
    return result


def _of_path(path: Path, out: Path, split: str, wanted: Wanted, result: FoundInputs) -> dict[Address, str]:
    if path.name == CONFIG_FILE or (path / CONFIG_FILE).is_file():
        result.of_dataset = True
        return _of_dataset(path, split)
    if path.is_dir() and not is_ome_zarr(path):
        if made := next((one for one in (path, *path.parents[:2]) if is_prediction(one)), None):
            raise UserError(
                "input-is-prediction",
                f"{path}: 'ucseg predict' wrote {made}, so these are results and no scans; name the scans, or single "
                "files.",
            )
        return _of_folder(path, out, wanted, result)
    address = Address.of(path)
    if readable(path) != path:
        raise UserError("input-name", f"{readable(path)}: its name is no UTF-8, which no table can hold; rename it.")
    if address.exists():
        _refuse_one_slice(address, wanted)
        return {_merge_channels([address], wanted)[0]: address.stem}
    raise UserError("input-missing", f"{path}: there is no such file or folder; check the path.")


def _refuse_one_slice(address: Address, wanted: Wanted) -> None:
    """A UserError where a model of volumes is given one file of a DICOM series."""
    if wanted.dims == 3 and address.path.is_file() and is_dicom_volume(address):
        count = slices_beside(address)
        if count > 1:
            raise UserError(
                "input-one-slice",
                f"{address}: this is one of {count} slices of a series; give their folder, {address.parent}.",
            )


def _of_dataset(path: Path, split: str) -> dict[Address, str]:
    dataset = load_dataset(path)
    cases = [case for case in dataset.cases if split in (case.split, "all")]
    if not cases:
        raise UserError(
            "split-empty", f"{path}: the dataset has no cases in its split '{split}'; choose another --split."
        )
    return {case.image: case.case for case in cases}


def _of_folder(folder: Path, out: Path, wanted: Wanted, result: FoundInputs) -> dict[Address, str]:
    listed, left_out = list_scans(folder, {out})
    # The label beside an image in one file is no scan. Other files may be anything: parts of a scan are reported.
    scans = [one for one in listed if not one.is_mask]
    result.problems += [UserError("input-left-out", f"{one.file}: {one.reason}") for one in left_out if one.of_scan]
    named = named_as_masks(folder, [one for one in scans if one.is_mask is None])
    masks = [one.address for one in scans if one.address in named]
    scans = [one for one in scans if one.address not in named]
    if (
        not scans
        and folder in (out, *out.parents)
        and not is_prediction(out)
        and out.is_dir()
        and list_scans(out, set())[0]
    ):
        raise UserError("out-among-scans", f"{out}: the scans lie where results go; choose another --out.")
    if masks and not scans:
        raise UserError(
            "only-masks",
            f"{folder}: all {len(masks)} scans in this folder are masks by their folders or names (e.g. "
            f"{masks[0].below(folder)}); {HOW_TO_PREDICT_MASKS}.",
        )
    if not scans:
        why = (
            "the folder is empty; name the folder that holds the scans"
            if is_empty(folder)
            else f"there is no scan in this folder; name one with DICOM files or {', '.join(sorted(ENDINGS))}"
        )
        raise UserError("no-scan", f"{folder}: {why}.")
    result.masks += masks
    names = {
        one.address: without_ending(one.name) if one.place.is_file() or is_ome_zarr(one.place) else one.name
        for one in scans
    }
    merged = _merge_channels(_matching(folder, scans, wanted, result), wanted)
    return {address: names.get(address) or address.stem for address in merged}


def _matching(folder: Path, scans: Sequence[Listed], wanted: Wanted, result: FoundInputs) -> list[Address]:
    """The scans that are like the images of training, those of several files as one; all where none is.

    A UserError if nothing matches the user's pattern.
    """
    pattern = wanted.pattern(folder)
    found = {one.address: match for one in scans if (match := pattern.match(below_folder(folder, one)))}
    if wanted.images:
        pattern.require(folder, list(found.values()))
    if not found:
        result.unlike += [folder] if pattern.given else []
        return [one.address for one in scans]
    result.others += [one.address for one in scans if one.address not in found]
    if not pattern.words:
        return list(found)
    together, missing = pattern.together(folder, found)
    result.problems += [
        UserError("input-channels", f"{files[0]}: {why}; restore it, or leave out the case.") for files, why in missing
    ]
    return [one.address for one in together]


def _merge_channels(files: Sequence[Address], wanted: Wanted) -> list[Address]:
    """Files CASE_0000, CASE_0001, ... as one scan, if each has one channel and there are as many as is wanted.

    Of a file whose last axis holds the channels, that is said. Other files stay as they are.
    """
    groups: dict[tuple[Path, str], list[Address]] = defaultdict(list)
    for file in files:
        match = re.fullmatch(r"(.+)_\d{4}(\.[^/]*)?", file.name)
        groups[file.parent, match[1] + (match[2] or "") if match else f"{file.name}/"].append(file)
    merged = []
    for group in groups.values():
        address = Address.of_channels([one.path for one in group]) if len(group) == wanted.channels > 1 else None
        try:
            single = address is not None and all(read_header(file)[2] == 1 for file in group)
        except UserError:
            single = True  # reading it will report what is wrong
        if single and address is not None:
            merged.append(address)
        else:
            merged += map(wanted.in_full, group)
    return merged


def _unique(named: dict[Address, str]) -> dict[Address, str]:
    """Names that differ, also where the file system takes upper and lower case for the same.

    Files of the same name get as few parent folders before it as make them differ (a_scan, b_scan).
    Two formats in one folder also get their ending (scan_png, scan_jpg).
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


def _folders_of(address: Address, name: str) -> tuple[str, ...]:
    """The folders above a scan, without braces, and without the one that gave it its name."""
    folders = tuple(part for part in address.parent.parts[1:] if "{" not in part)
    return folders[:-1] if address.several and folders[-1:] == (name,) else folders


def _distinct(group: list[Address], named: dict[Address, str]) -> list[str]:
    depths = range(max(len(one.path.parts) for one in group) - 1)
    # Names that differ by case only (scan_png, scan_PNG) come last, and get numbers too.
    folded: tuple[Callable[[str], str], ...] = (str.casefold, str)
    for fold, ending, depth in itertools.product(folded, (False, True), depths):
        names = []
        for one in group:
            parents = _folders_of(one, named[one])[-depth:] if depth else ()
            names.append("_".join([*parents, named[one], *([one.file.suffix[1:]] if ending else [])]))
        if len({fold(name) for name in names}) == len(group):
            return names
    return names
