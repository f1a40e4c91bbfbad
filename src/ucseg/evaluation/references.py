"""Which masks is a prediction compared with? Those of a dataset, or of a folder, each with its case and its subject."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ucseg.dataset.case import SPLITS
from ucseg.dataset.manifest import Dataset, reference_masks
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError
from ucseg.folder.listing import is_empty, is_ome_zarr
from ucseg.folder.predictions import made_in
from ucseg.folder.roles import MASK_WORDS, whole_of_part
from ucseg.folder.subjects import Subjects, find_subjects
from ucseg.scans import drawings
from ucseg.scans.address import ENDINGS, Address
from ucseg.scans.dicom import image as dicom
from ucseg.scans.dicom import segmentation as dicom_seg
from ucseg.scans.reading import is_dicom_volume, is_segmentation

MASK_ENDING = re.compile(rf"[ _.-]({MASK_WORDS}|rois?)$", re.IGNORECASE)
_IS_MASK = re.compile(rf"(^|[ _.-])({MASK_WORDS}|rois?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Reference:
    """A mask to compare with, the scan it belongs to where a dataset knows it, and other names of its prediction.

    `slices` are those that the mask annotates, where the dataset says so.
    """

    case: str
    subject: str
    mask: Address
    image: Address | None = None
    names: frozenset[str] = frozenset()
    slices: Slices | None = None


def of_dataset(dataset: Dataset, split: str) -> tuple[list[Reference], list[str]]:
    """The references of a split, and its cases without any mask."""
    if split not in (*SPLITS, "all"):
        raise UserError("split-unknown", f"--split {split} is not known; use one of {', '.join(SPLITS)}, all.")
    cases = [case for case in dataset.cases if split in (case.split, "all")]
    masks = reference_masks(dataset)
    known = [
        Reference(case.case, case.subject, mask, case.image, frozenset({mask.stem, case.image.stem}), case.slices)
        for case in cases
        if (mask := masks.get(case.case)) is not None
    ]
    if not known:
        raise UserError("split-no-mask", f"{dataset.folder}: split '{split}' has no case with a mask; choose another.")
    return known, [case.case for case in cases if case.case not in masks]


def of_folder(path: Path, subject: str | None, predictions: Path) -> tuple[list[Reference], Subjects]:
    """The references below a folder, and how their subjects were found; `predictions` is what they are for."""
    files = joined(masks_in(path, deep=True))
    stems = [file.stem for file in files]
    plain = {name for name in stems if MASK_ENDING.search(name) is None}
    marked = {MASK_ENDING.sub("", name) for name in stems if MASK_ENDING.search(name)}
    # Beside X_seg, a file X is the image.
    files = [file for file in files if file.stem not in plain & marked]
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems) and all(map(is_segmentation, files)):  # "seg.dcm" in the folder of each patient
        cases = ["_".join(file.path.relative_to(path).with_suffix("").parts) for file in files]
        return _named(path, files, cases, subject, predictions)
    if len(set(stems)) < len(stems) and (a_folder_each := _one_in_each_folder(path, files)):
        return _named(path, [*a_folder_each], [*a_folder_each.values()], subject, predictions)
    if repeated := [name for name, count in Counter(stems).items() if count > 1]:
        raise UserError(
            "references-same-name",
            f"{path}: several files are called '{min(repeated)}'; give a folder that holds the reference masks only. "
            "Of references with one file a class and their images, make a dataset ('ucseg init') and give that.",
        )
    reduced = Counter(MASK_ENDING.sub("", name) for name in stems)
    # X_seg is called X, unless X_mask is there too.
    cases = [short if reduced[short := MASK_ENDING.sub("", name)] == 1 else name for name in stems]
    return _named(path, files, cases, subject, predictions)


def _one_in_each_folder(root: Path, files: list[Address]) -> dict[Address, str]:
    """Masks called alike, one in the folder of each case (case_00000/segmentation.nii.gz) -> case; else nothing."""
    masks = [file for file in files if _IS_MASK.search(file.stem)]
    cases = ["_".join(file.parent.relative_to(root).parts) for file in masks]
    return dict(zip(masks, cases, strict=True)) if len(set(cases)) == len(cases) and "" not in cases else {}


def _names_of(file: Address, alike: bool) -> frozenset[str]:
    """What a prediction of the scan of this reference may be called, beside its case.

    `alike`: other references are called as it is. Then `ucseg predict` puts folders before the name of its scan.
    """
    own = {file.stem, MASK_ENDING.sub("", file.stem)}
    if not alike:
        return frozenset(own)
    beside = {Address.of(one).stem for one in file.parent.iterdir() if one.name != file.name}
    folders = ["_".join(file.parent.parts[-depth:]) for depth in range(1, len(file.parent.parts))]
    return frozenset([*folders, *(f"{folder}_{name}" for folder in folders for name in beside)])


def joined(files: list[Address], own: Collection[str] = ()) -> list[Address]:
    """X_mask_1 beside X_mask is a further part of it, not the mask of another case, unless it is among `own` names."""
    wholes = {(file.parent, file.stem): file for file in files if MASK_ENDING.search(file.stem)}
    parts: dict[Address, list[Path]] = defaultdict(list)
    for file in files:
        if file.stem in own:
            continue
        if whole := wholes.get((file.parent, whole_of_part(file.stem))):
            parts[whole].append(file.path)
    whole_of = {whole: address for whole, ones in parts.items() if (address := Address.of_parts([whole.path, *ones]))}
    gone = {path for whole in whole_of for path in parts[whole]}
    return [whole_of.get(file, file) for file in files if file.path not in gone]


def _named(
    folder: Path, files: list[Address], cases: list[str], subject: str | None, predictions: Path
) -> tuple[list[Reference], Subjects]:
    names = {}
    for case, file in zip(cases, files, strict=True):
        below = file.below(folder) if folder.is_dir() else file.name
        names[case] = (case, below, file.stem)  # a pattern that ends in $ also fits X_mask; the user sees X_mask too
    subjects = find_subjects(names, subject)
    count = Counter(file.stem for file in files)
    known = [
        Reference(case, subjects.of[case], file, names=_names_of(file, alike=count[file.stem] > 1))
        for case, file in zip(cases, files, strict=True)
    ]
    return _with_series(known, predictions), subjects


def _with_series(known: list[Reference], predictions: Path) -> list[Reference]:
    """The references, a DICOM SEG also with the name of the prediction made of the series that it refers to."""
    series = {one.case: dicom_seg.referred_series(one.mask.file) for one in known if is_segmentation(one.mask)}
    if not series:
        return known
    made_of = {
        dicom.series_uid(made.scan): Address.of(mask).stem
        for mask, made in made_in(predictions).items()
        if made.scan.exists() and is_dicom_volume(made.scan)
    }
    return [replace(one, names=one.names | {made_of.get(series.get(one.case) or "", one.case)}) for one in known]


def masks_in(path: Path, deep: bool) -> list[Address]:
    """What may be a mask in a folder (or one file); a UserError if there is none."""
    if path.is_file() or is_ome_zarr(path):
        return [Address.of(path)]
    if not path.is_dir():
        raise UserError("masks-missing", f"{path}: there is no such file or folder; check the path.")
    found = (Address.of(file) for file in _inside(path, deep) if not file.name.startswith("."))
    files = sorted(file for file in found if _may_be_mask(file))
    if not files:
        why = (
            "the folder is empty; name the folder that holds the masks"
            if is_empty(path)
            else f"there is no mask here; readable are {', '.join(sorted(ENDINGS))}"
        )
        raise UserError("no-masks", f"{path}: {why}.")
    return files


def _inside(folder: Path, deep: bool) -> Iterator[Path]:
    """Files, and folders that are one scan."""
    for path in folder.iterdir():
        if path.is_file() or is_ome_zarr(path):
            yield path
        elif deep and path.is_dir() and not path.is_symlink():
            yield from _inside(path, deep)


def _may_be_mask(file: Address) -> bool:
    """Of DICOM files, segmentations: their images may lie beside them."""
    return is_segmentation(file) if file.format == "dicom" else bool(file.format)


def drawn_in(path: Path) -> Path | None:
    """A file of an annotation program in a folder of references: only a dataset knows the pictures of its shapes."""
    for file in _inside(path, deep=True) if path.is_dir() else ():
        try:
            if file.suffix.lower() in drawings.ENDINGS and drawings.pictures_of(file):
                return file
        except UserError:
            continue  # damaged, or no library: not what is compared
    return None
