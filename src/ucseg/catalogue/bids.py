"""Images of a BIDS dataset and the masks among its derivatives."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.folder.listing import LeftOut
from ucseg.folder.pairing import Found
from ucseg.scans.address import Address, without_ending

_PERSON = re.compile(r"(sub|ses)-[A-Za-z0-9]+")


def find(folder: Path, scans: Sequence[Path], words: str) -> Found:
    """Pair the scans below `sub-*` with the masks below `derivatives`.

    A mask belongs to the image with whose name its own begins (sub-1_T2w and sub-1_T2w_label-lesion_mask), else to the
    only image of its subject and session (sub-1_dseg). Images of a kind that has no mask at all (T1w) are left out.

    Raises:
        UserError: an image has several masks, so which are meant is for the user to say; or no image has one.
    """
    folder = folder.absolute()
    images: dict[str, list[Path]] = defaultdict(list)
    masks = []
    for path in scans:
        if "derivatives" in path.relative_to(folder).parts:
            masks.append(path)
        elif path.name.startswith("sub-"):
            images[_person(path)].append(path)
    drawn: dict[Path, list[Path]] = defaultdict(list)
    for mask in masks:
        own = images.get(_person(mask), [])
        named = [image for image in own if f"{_stem(mask)}_".startswith(f"{_stem(image)}_")] or own
        if named and (len(named) == 1 or named is not own):
            drawn[max(named, key=lambda image: len(_stem(image)))].append(mask)
    if not drawn:
        raise UserError(
            "todo",
            f"{folder}: no mask in derivatives begins with the name of an image; "
            f"`ucseg init {folder} --masks GLOB` says which files are masks.",
        )
    _refuse_several(folder, drawn)
    kinds = {_kind(image) for image in drawn}
    cases, left_out = [], []
    for image in sorted(image for own in images.values() for image in own):
        if _kind(image) in kinds:
            own_mask = next(map(Address.of, drawn.get(image, [])), None)
            cases.append(Case(_stem(image), image.name.split("_")[0], Address.of(image), own_mask, ""))
        else:
            left_out.append(LeftOut(image, f"no {_kind(image)} image has a mask.", rightly=True))
    return Found(cases, left_out, "by 'sub-...' (BIDS)", [words])


def _refuse_several(folder: Path, drawn: dict[Path, list[Path]]) -> None:
    several = {image: masks for image, masks in drawn.items() if len(masks) > 1}
    if several:
        image, masks = next(iter(several.items()))
        kinds = sorted(_stem(mask).removeprefix(_stem(image)).strip("_") for mask in masks)
        raise UserError(
            "todo",
            f"{image}: has {len(masks)} masks among the derivatives ({', '.join(kinds)}); say which are meant, e.g. "
            f"ucseg init {folder} --images 'sub-*' --masks 'derivatives/*_{kinds[0]}.nii.gz'",
        )


def _person(path: Path) -> str:
    """Subject and session of a file."""
    return "_".join(part for part in path.name.split("_") if _PERSON.fullmatch(part))


def _kind(image: Path) -> str:
    """T1w, T2w, bold, ..."""
    return _stem(image).rpartition("_")[2]


def _stem(path: Path) -> str:
    return without_ending(path.name)
