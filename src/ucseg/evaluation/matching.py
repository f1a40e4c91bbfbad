"""Which prediction belongs to which reference, and whether the two lie on the same grid."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CONFIG_FILE, Dataset, load_dataset
from ucseg.errors import UserError
from ucseg.evaluation.references import MASK_ENDING, Reference, joined, masks_in, of_dataset, of_folder
from ucseg.folder.predictions import Made, made_in
from ucseg.folder.subjects import Subjects
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address, composed
from ucseg.scans.content import content_of
from ucseg.scans.said import Said


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference."""

    prediction: Address
    reference: Reference

    def as_said(self, said: Said, references: bool) -> Pair:
        """The same pair, its prediction and, if wanted, its reference read as the user says."""
        reference = self.reference
        if references:
            reference = replace(reference, mask=reference.mask.as_said(said))
        return Pair(self.prediction.as_said(said), reference)


@dataclass
class Matches:
    """What belongs together, sorted by case, and every file that belongs to nothing.

    Attributes:
        missing: references without a prediction.
        unmatched: predictions without a reference -> why.
        unreferenced: cases of the dataset's split that have no mask at all.
        subjects: of a folder of references: how their subjects were found.
        of_other_scans: case -> why the prediction of this name is of another scan than the dataset's.
    """

    pairs: list[Pair]
    missing: list[Reference]
    unmatched: dict[Address, str]
    unreferenced: list[str] = field(default_factory=list)
    dataset: Dataset | None = None
    of_other_scans: dict[str, UserError] = field(default_factory=dict)
    subjects: Subjects | None = None


def match(predictions: Path, references: Path, split: str = "test", subject: str | None = None) -> Matches:
    """Pair predictions with references by name.

    Args:
        predictions: a mask, or a folder of masks (sub-folders, where maps and single networks' masks lie, are not
            entered), named X as the case or its image, or X_mask, X_seg, X_segmentation, X_Annotation. X_mask_1 beside
            X_mask is a part of it.
        references: the same, sub-folders included; or a dataset, of which every known mask of the split is
            a reference, masks hidden from training included. A DICOM SEG may have any name if the series that it
            refers to is in the predictions' cases.csv.
        split: of a dataset: "train", "validation", "test" or "all".
        subject: regular expression that finds the subject in a reference's name or path, as `ucseg init` does; None:
            by its rules (not for datasets: they know).

    Raises:
        UserError: a place does not exist or holds nothing readable, or no prediction has a reference.
    """
    predicted = masks_in(predictions, deep=False)
    is_dataset = references.name == CONFIG_FILE or (references / CONFIG_FILE).is_file()
    dataset = load_dataset(references) if is_dataset else None
    unreferenced: list[str] = []
    subjects: Subjects | None = None
    if dataset is not None:
        if subject is not None:
            raise UserError("subject-of-dataset", "--subject is for folders of masks; a dataset has its cases.csv.")
        known, unreferenced = of_dataset(dataset, split)
    else:
        known, subjects = of_folder(references, subject, predictions)
    predicted = joined(predicted, {name for one in known for name in (one.case, *one.names)})
    made = made_in(predictions if predictions.is_dir() else predictions.parent)
    if references.is_file() and predictions.is_file() and dataset is None:
        return Matches([Pair(predicted[0], known[0])], [], {}, subjects=subjects)
    certain, strangers = _by_content(predicted, known, made) if dataset is not None else ({}, [])
    pairs, unmatched = _pair([file for file in predicted if file not in strangers], known, certain, made)
    paired = {pair.reference.case for pair in pairs}
    alike, unknown = _pair(strangers, [one for one in known if one.case not in paired], {}, made)
    elsewhere = _of_no_reference(list(unknown), dataset, made, split) if dataset is not None and unknown else {}
    unmatched |= elsewhere
    of_other_scans = {pair.reference.case: _of_other_scan(pair, made, references) for pair in alike}
    if not pairs and alike:
        raise UserError.together(list(of_other_scans.values()))
    if not pairs and dataset is not None:
        named = {name: case for case in dataset.cases for name in (case.case, case.image.stem)}
        by_name = {file: _why_not(named[file.stem], split) for file in predicted if file.stem in named}
        elsewhere = by_name | elsewhere  # what a scan holds says more than its name
    if not pairs and elsewhere:
        file, why = next(iter(elsewhere.items()))
        raise UserError(
            "no-pairs",
            f"{predictions}: holds no prediction for the masks of split '{split}' of {references} ({file.name} {why}); "
            "choose another --split, or predict the cases of that one.",
        )
    if not pairs:
        examples = f"e.g. {predicted[0].name} and {known[0].mask.name}" if known else "there is no mask"
        raise UserError(
            "no-pairs",
            f"{predictions}: no prediction there has the name of a reference in {references} ({examples}); "
            "name each prediction like its case or its image.",
        )
    done = paired | of_other_scans.keys()
    missing = [reference for reference in known if reference.case not in done]
    return Matches(pairs, missing, unmatched, unreferenced, dataset, of_other_scans, subjects)


def _by_content(
    predicted: list[Address], known: list[Reference], made: Mapping[str, Made]
) -> tuple[dict[Address, Reference], list[Address]]:
    """Predictions whose scan is one of a dataset by its content, wherever it lies; and those of other scans."""
    noted = [file for file in predicted if file.name in made and made[file.name].content]
    if not noted:
        return {}, []
    holding: dict[str, list[Reference]] = defaultdict(list)
    for reference, content in zip(known, for_each(_content, known), strict=True):
        holding[content].append(reference)
    found: dict[Address, Reference] = {}
    for file in noted:
        scan, same = made[file.name].scan, holding.get(made[file.name].content, [])
        same = [one for one in same if one.image == scan] or [one for one in same if one.case == file.stem] or same
        unreadable = [one for one in holding.get("", []) if file.stem in {one.case, *one.names}]
        if same or unreadable:  # comparing will report what cannot be read
            found[file] = (same or unreadable)[0]
    return found, [file for file in noted if file not in found]


def _of_no_reference(
    files: list[Address], dataset: Dataset, made: Mapping[str, Made], split: str
) -> dict[Address, str]:
    """Why predictions of other scans than those of the references are not compared: the dataset may still have them."""
    holding = dict(zip(for_each(_content_of, [case.image for case in dataset.cases]), dataset.cases, strict=True))
    at = {case.image: case for case in dataset.cases}
    reasons = {}
    for file in files:
        case = holding.get(made[file.name].content)
        if case is not None:
            reasons[file] = _why_not(case, split)
        elif (case := at.get(made[file.name].scan)) is not None:
            reasons[file] = f"is of case {case.case}, whose scan has changed since"
        else:
            reasons[file] = "is of a scan that the dataset does not have"
    return reasons


def _why_not(case: Case, split: str) -> str:
    """Why this case of the dataset is not among the references of a split."""
    in_it = split in (case.split, "all")
    return f"is of case {case.case}, " + ("which has no mask" if in_it else f"whose split is {case.split}")


def _content(reference: Reference) -> str:
    """Of its image; "" where that cannot be read."""
    return _content_of(reference.image) if reference.image is not None else ""


def _content_of(image: Address) -> str:
    try:
        return content_of(image)
    except (OSError, UserError):
        return ""


def _of_other_scan(pair: Pair, made: Mapping[str, Made], references: Path) -> UserError:
    file, case = pair.prediction, pair.reference.case
    return UserError(
        "prediction-of-other-scan",
        f"{file}: is not of case {case} of {references}: it was made of {made[file.name].scan}, which is another scan "
        "or has changed since; predict this dataset, and evaluate that.",
    )


def _pair(
    predicted: list[Address],
    known: list[Reference],
    certain: Mapping[Address, Reference],
    made: Mapping[str, Made],
) -> tuple[list[Pair], dict[Address, str]]:
    """Pairs by name, but for those that are certain."""
    by_name = {composed(reference.case): reference for reference in known}
    by_alias: dict[str, list[Reference]] = defaultdict(list)
    for reference in known:
        for name in {composed(name) for name in reference.names}:
            by_alias[name].append(reference)
    unmatched: dict[Address, str] = {}
    taken: dict[str, Pair] = {}
    masks = {composed(reference.mask.stem) for reference in known}
    names = {file: list(map(composed, ones)) for file, ones in _names_of(predicted, made).items()}

    def order(file: Address) -> tuple[object, ...]:
        """Names that agree as they are go first, so that X_seg does not take the place of X."""
        first = names[file][0]
        return file not in certain, first not in masks, first not in by_name, file.name

    for file in sorted(predicted, key=order):
        found = [certain[file]] if file in certain else []
        for name in names[file]:
            found = found or ([by_name[name]] if name in by_name else by_alias[name])
            # nnU-Net calls the image of a mask X "X_0000".
            for reduced in (MASK_ENDING.sub("", name), name.removesuffix("_0000")):
                found = found or by_alias[reduced] or [by_name[key] for key in (reduced,) if key in by_name]
        if not found:
            unmatched[file] = "has no reference"
        elif len(found) > 1:
            unmatched[file] = f"fits {len(found)} references: {', '.join(sorted(one.mask.name for one in found))}"
        elif found[0].case in taken:
            first = taken[found[0].case].prediction.name
            unmatched[file] = f"is a second prediction of {found[0].case}, beside {first}"
        else:
            taken[found[0].case] = Pair(file, found[0])
    return sorted(taken.values(), key=lambda pair: pair.reference.case), unmatched


def _names_of(predicted: list[Address], made: Mapping[str, Made]) -> dict[Address, list[str]]:
    """The names by which the reference of each prediction is looked for.

    A name that `ucseg predict` numbered (a_2, beside A) may be that of another case. So the scan's own name comes
    first, if no other scan has it.
    """
    scans = Counter(made[file.name].scan.stem for file in predicted if file.name in made)
    names = {}
    for file in predicted:
        scan = made[file.name].scan.stem if file.name in made else file.stem
        numbered = re.fullmatch(rf"{re.escape(scan.casefold())}_\d+", file.stem.casefold()) is not None
        own = [scan] if scans[scan] == 1 else []
        names[file] = own if own and numbered else [*own, file.stem]
    return names
