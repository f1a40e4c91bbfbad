"""A folder a case: each folder holds the image and the masks of one case, called alike in all folders.

KiTS has case_00000/imaging.nii.gz beside segmentation.nii.gz. TotalSegmentator has s0000/ct.nii.gz and segmentations/
with a file an organ. autoPET has CT.nii.gz, SUV.nii.gz and SEG.nii.gz, BraTS a file a sequence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from glob import escape
from pathlib import Path

from ucseg.folder.questions import Option, Question
from ucseg.folder.roles import ScanFile
from ucseg.scans.address import Address

_SHOWN = 4
"""Names in braces that a message lists."""

Places = dict[tuple[str, ...], tuple[list[ScanFile], list[ScanFile]]]


def pair_in_case_folders(
    images: Sequence[ScanFile],
    waiting: Sequence[ScanFile],
    pairs: dict[Address, Address],
    folder: Path,
    masks_glob: str | None = None,
) -> list[ScanFile]:
    """Pair the only image of a folder with its only mask, where folders are called alike inside.

    Args:
        waiting: masks that names did not pair.
        pairs: image -> mask; those found here are added.
        masks_glob: what the user gave to --masks.

    Returns:
        the masks that still wait.

    Raises:
        Question: nothing pairs by names, and most folders hold several images for a mask, or several masks.
    """
    places: Places = defaultdict(lambda: ([], []))
    for mask in waiting:
        if mask.folders:
            places[mask.folders][1].append(mask)
    for image in images:
        if image.folders in places and image.address not in pairs:
            places[image.folders][0].append(image)
    if not pairs:
        _ask(places, folder, masks_glob)
    alike = [Counter(_rest(file) for place in places.values() for file in place[kind]) for kind in (0, 1)]
    done = set()
    for own, masks in places.values():
        if len(own) == len(masks) == 1:
            image, mask = own[0], masks[0]
            repeated = max(alike[0][_rest(image)], alike[1][_rest(mask)]) > 1
            if repeated or not mask.key:
                pairs[image.address] = mask.address
                done.add(mask.address)
    return [mask for mask in waiting if mask.address not in done]


def _ask(places: Places, folder: Path, masks: str | None) -> None:
    """Raise a Question that names the option where most folders hold several images for one mask, or several masks.

    `masks` is the pattern to give beside --images.
    """
    options: tuple[tuple[int, Option], ...] = ((0, "images"), (1, "masks"))
    for several, option in options:
        asked = [place for place in places.values() if len(place[several]) > 1 and len(place[1 - several]) == 1]
        if 2 * len(asked) <= len(places):
            continue
        files = [file for place in asked for file in place[several]]
        names = Counter(map(_rest, files))
        first = {_rest(file): file for file in reversed(files) if names[_rest(file)] > 1}
        known, example = [first[name] for name in sorted(first)], asked[0][several]
        here = f"{folder}: {len(asked)} folders hold several {option} of a case"
        if len(known) < 2:
            if several == 0:
                continue
            parts = f"*/{example[0].address.file.parent.name}/*{example[0].address.ending}"
            why = f"e.g. {example[0].address.below(folder)}; if they are parts of one mask, join them with"
            raise Question("case-several-masks", f"{here}, {why} --parts '{parts}'.", "parts", parts)
        patterns = [_pattern(file) for file in known]
        before, after = patterns[0][0], patterns[0][2]
        words = [word for _, word, _ in patterns]
        listed = ",".join(words)
        what = "channels" if several == 0 else "classes"
        beside = f" --masks '{masks}'" if several == 0 and masks else ""
        plain = not set("".join(words)) & set("[,{}") and len({(one[0], one[2]) for one in patterns}) == 1
        together = f", or take several as {what} with --{option} '{before}{{{listed}}}{after}'{beside}" if plain else ""
        raise Question(
            f"case-several-{option}",
            f"{here} ({', '.join(words[:_SHOWN])}{', ...' if len(words) > _SHOWN else ''}); choose one with --{option} "
            f"'{before}{words[0]}{after}'{beside}{together}.",
            option,
            f"{before}{{{','.join(words)}}}{after}" if plain else "",
            f"{before}{words[0]}{after}",
            {"masks": masks} if beside else None,
        )


def _rest(file: ScanFile) -> str:
    """Its name without that of its folder: BraTS_001/BraTS_001_flair is _flair."""
    name = file.name or file.key
    return name.replace(file.folders[-1], "", 1) if file.folders else name


def _pattern(file: ScanFile) -> tuple[str, str, str]:
    """What of a pattern comes before the word that says what the file is, that word, and what comes after."""
    path, rest = file.address.file, _rest(file)
    ending = file.address.ending
    if rest == file.name:
        parent = path.parent.name
        return ("*/" if parent == file.folders[-1] else f"*/{escape(parent)}/"), escape(rest), ending
    word = rest.lstrip("_.- ")
    if file.name.startswith(rest):  # the name of the folder is at the end: liver_c1
        word = rest.rstrip("_.- ")
        return "*/", escape(word), f"{escape(rest[len(word) :])}*{ending}"
    return f"*{escape(rest[: len(rest) - len(word)])}", escape(word), ending
