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
from ucseg.scans.address import Address

_PERSON = re.compile(r"(sub|ses)-[A-Za-z0-9]+")


def find(folder: Path, scans: Sequence[Address], words: str) -> Found:
    """Pair the scans below `sub-*` with the masks below `derivatives`.

    A mask belongs to the image whose name its own begins with (sub-1_T2w and sub-1_T2w_label-lesion_mask).
    Otherwise it belongs to the only image of its subject and session (sub-1_dseg). Images of a kind without any mask
    (T1w) are left out.

    Raises:
        UserError: no image has a mask, or an image has several: then the user must choose.
    """
    images: dict[str, list[Address]] = defaultdict(list)
    masks = []
    for scan in scans:
        if "derivatives" in scan.path.relative_to(folder).parts:
            masks.append(scan)
        elif scan.name.startswith("sub-"):
            images[_person(scan)].append(scan)
    drawn: dict[Address, list[Address]] = defaultdict(list)
    for mask in masks:
        own = images.get(_person(mask), [])
        named = [image for image in own if f"{mask.stem}_".startswith(f"{image.stem}_")] or own
        if named and (len(named) == 1 or named is not own):
            drawn[max(named, key=lambda image: len(image.stem))].append(mask)
    if not drawn:
        raise UserError(
            "bids-no-mask",
            f"{folder}: no mask in derivatives begins with the name of an image; say which files are masks with "
            f"`ucseg init {folder} --masks GLOB`.",
        )
    for image, several in drawn.items():
        if len(several) > 1:
            kinds = sorted(mask.stem.removeprefix(image.stem).strip("_") for mask in several)
            raise UserError(
                "bids-several-masks",
                f"{image}: has {len(several)} masks among the derivatives ({', '.join(kinds)}); choose one kind, e.g. "
                f"`ucseg init {folder} --images 'sub-*' --masks 'derivatives/*_{kinds[0]}.nii.gz'`.",
            )
    kinds_with_mask = {_kind(image) for image in drawn}
    cases, left_out = [], []
    for image in sorted(image for own in images.values() for image in own):
        if _kind(image) in kinds_with_mask:
            cases.append(Case(image.stem, image.name.split("_")[0], image, next(iter(drawn[image]), None), ""))
        else:
            left_out.append(LeftOut(image.path, f"no {_kind(image)} image has a mask.", rightly=True))
    return Found(cases, left_out, "by 'sub-...' (BIDS)", [words])


def _person(scan: Address) -> str:
    """Subject and session of a file."""
    return "_".join(part for part in scan.name.split("_") if _PERSON.fullmatch(part))


def _kind(image: Address) -> str:
    """T1w, T2w, bold, ..."""
    return image.stem.rpartition("_")[2]
