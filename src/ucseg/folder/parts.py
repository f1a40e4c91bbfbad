"""A mask in several files, its parts: X_mask and X_mask_1, or one file an object (cells, lesions)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ucseg.folder.listing import LeftOut
from ucseg.folder.roles import ScanFile, whole_of_part
from ucseg.scans.address import Address


def join_second_parts(waiting: Sequence[ScanFile], pairs: dict[Address, Address], notes: list[str]) -> list[ScanFile]:
    """Join X_mask_1, X_mask_2, ... with the mask X_mask of an image, beside which they lie; the rest still waits."""
    image_of = {(mask.parent, mask.stem): image for image, mask in pairs.items() if not mask.several}
    parts: dict[Address, list[ScanFile]] = defaultdict(list)
    others = []
    for mask in waiting:
        parent, whole = mask.address.parent, whole_of_part(mask.name)
        numbered = {whole_of_part(stem): image for (at, stem), image in image_of.items() if at == parent}
        image = image_of.get((parent, whole)) or (numbered.get(mask.name) if mask.name else None)
        if image is None or mask.address.several:
            others.append(mask)
        else:
            parts[image].append(mask)
    joined = 0
    for image, ones in parts.items():
        address = Address.of_parts([pairs[image].path, *(one.address.path for one in ones)])
        if address is None:
            others += ones
            continue
        pairs[image] = address
        joined += 1
    if joined:
        example = next(pairs[image].name for image in parts if pairs[image].several)
        notes.append(f"{joined} masks have further parts, numbered after their name, which are joined ({example}).")
    return others


def join_parts(
    parts: Sequence[ScanFile], images: Sequence[ScanFile], pairs: dict[Address, Address], left_out: list[LeftOut]
) -> None:
    """Join the parts that --parts names, with the mask that an image has already: all parts of an image are one mask.

    A part belongs to the image of its name (before a number, or the longest that its name begins with), else to the
    only image of its folder.
    """
    by_place: dict[tuple[str, ...], list[ScanFile]] = defaultdict(list)
    for image in images:
        by_place[image.folders].append(image)
    found: dict[Address, list[Path]] = defaultdict(list)
    for part in parts:
        owner = _owner(part, by_place[part.folders]) or _owner(part, images)
        if owner is None:
            reason = "a part of a mask without an image; say which files are images with --images"
            left_out.append(LeftOut(part.address.path, reason))
        else:
            found[owner.address].append(part.address.path)
    for owned, files in found.items():
        address = Address.of_parts([*(pairs[owned].files if owned in pairs else ()), *files])
        if address is None:
            reason = "its name holds signs that join files (a comma, braces); rename it"
            left_out += [LeftOut(file, reason) for file in files]
        else:
            pairs[owned] = address


def _owner(part: ScanFile, images: Sequence[ScanFile]) -> ScanFile | None:
    """The image of a part: by its name, else the only one."""
    wanted = {part.key, part.name, whole_of_part(part.name), whole_of_part(part.key)} - {""}
    named = [image for image in images if image.key in wanted or image.name in wanted]
    if not named:
        first = [image for image in images if image.key and _begins(part.name, image.key)]
        longest = max((len(image.key) for image in first), default=0)
        named = [image for image in first if len(image.key) == longest]
    if len(named) == 1:
        return named[0]
    return images[0] if len(images) == 1 and not named else None


def _begins(name: str, key: str) -> bool:
    return name.startswith(key) and not name[len(key) : len(key) + 1].isalnum()
