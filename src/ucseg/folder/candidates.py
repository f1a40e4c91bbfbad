"""Files that look like labels but are not named so: never images unasked, and two candidates are a question.

Beside Imgs/ and GT/ there may be Edge/ and Prior/, beside images/ and mask/ (the field of view) 1st_manual/.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.folder.kinds import Kinds, in_braces, sets_of
from ucseg.folder.likely_masks import are_frames, likely_masks, look_like_labels
from ucseg.folder.listing import LeftOut
from ucseg.folder.observers import are_observers
from ucseg.folder.patterns import Pattern
from ucseg.folder.questions import Question
from ucseg.folder.roles import ScanFile
from ucseg.scans.address import Address

_SINGLE = 0.75
"""Of files that look like masks; with fewer images, these have several each."""
_FIRST_WORD = re.compile(r"[^_\-. ]+")


@dataclass(frozen=True)
class Candidates:
    """Files of one kind that look like the labels of images: label -> image, and their pattern, as --masks takes it."""

    pattern: str
    image_of: dict[Address, Address]


def beside_an_image(images: Sequence[ScanFile], pairs: Mapping[Address, Address]) -> list[Candidates]:
    """Files that look like labels and whose names hold that of an image in their folder."""
    cases = [Case(one.key, one.key, one.address, pairs.get(one.address), "") for one in images]
    found: dict[str, dict[Address, Address]] = defaultdict(dict)
    for one in likely_masks(cases):
        found[one.pattern][one.file] = one.image
    return [Candidates(pattern, of) for pattern, of in found.items()]


def of_kinds(images: Sequence[ScanFile], folder: Path) -> list[Candidates]:
    """Kinds of files that look like labels, and the images that they fit by words of their path; a sample is opened."""
    files = [one.address for one in images if not one.address.several]
    return _of_kinds(files, Kinds(files, folder)) or _of_kinds(files, Kinds(files, folder, apart=True))


def _of_kinds(files: Sequence[Address], kinds: Kinds) -> list[Candidates]:
    labels = {file for of in kinds.of(files).values() if look_like_labels(of) for file in of}
    fits = kinds.fits(sorted(labels), [file for file in files if file not in labels])
    found = []
    sets = sets_of(kinds, fits)
    for one in (of for all_of in sets for of in ([all_of] if kinds.pattern(all_of) else kinds.of(all_of).values())):
        image_of = {label: fits[label][0] for label in one if fits[label]}
        rest = dict.fromkeys(one, next(iter(image_of.values()), one[0]))
        found.append((len(set(image_of.values())), Candidates(kinds.pattern(one), rest | image_of)))
    return [one for count, one in found if count > 1]


def settle(
    folder: Path,
    found: Sequence[Candidates],
    pairs: Mapping[Address, Address],
    chosen: bool,
    files: Sequence[ScanFile],
    left_out: list[LeftOut],
) -> tuple[str, str] | None:
    """Leave the candidates out, choose one of them, or ask.

    Args:
        pairs: image -> mask, of masks that are named so.
        chosen: the user has said which files are masks.
        files: all scans of the folder.

    Returns:
        the pattern of the files to take as masks, and a note that says so; None: those of `pairs`.

    Raises:
        UserError: images have two candidates for their label.
    """
    others = [(one.pattern, one.image_of) for one in found if one.pattern]
    if not chosen:
        twice = {image for _, image_of in others for image in image_of.values() if image in pairs}
        listed = [f"'{pattern}' ({len(of)})" for pattern, of in others]
        named = pattern_of_masks({image: pairs[image] for image in twice}, folder) if len(twice) > 1 else ""
        if not pairs or (named and are_frames(pairs)):
            why = "no file is called a mask"
            if pairs:
                why = f"masks '{named}' are nearly the same in all images, so they are no labels"
            exact = bool(others) and len(others) == len(found) and _is_exact(folder, *others[0], files)
            if exact and are_observers(others):
                why += "; files that look like labels are of several observers"
                return others[0][0], f"{why}; those of the first are taken: --masks '{others[0][0]}'."
            if exact and len(others) == 1:
                pattern, image_of = others[0]
                if (images := len(set(image_of.values()))) > _SINGLE * len(image_of):
                    return pattern, f"{why}; those that look like labels are taken: --masks '{pattern}'."
                raise Question(
                    "label-pieces",
                    f"{folder}: {images} images have several files that look like masks, '{pattern}'; if they are "
                    f"parts of one mask, join them with --parts '{pattern}'.",
                    "parts",
                    pattern,
                )
        if named:
            raise UserError(
                "label-candidates",
                f"{folder}: images have several files that may be their label: '{named}' ({len(twice)}), "
                f"{', '.join(listed)}; choose with --masks '{named}' or --masks '{others[0][0]}'.",
            )
        if not pairs and others:
            choice = " or ".join(f"--masks '{pattern}'" for pattern, _ in others)
            together = in_braces(dict(others), folder, classes=True)
            classes = f" or, if they are different classes, --masks '{together}'" if together else ""
            raise Question(
                "label-candidates",
                f"{folder}: no file is called a mask, but some look like masks: {', '.join(listed)}; choose with "
                f"{choice}{classes}, or say with --images which files are images.",
                "masks",
                together,
                others[0][0],
            )
    for one in found:
        which = f"--masks '{one.pattern}'" if one.pattern else "--masks"
        reason = f"it looks like a mask, so it is no image; if it is the mask, say so with {which}, else use --images"
        left_out += [LeftOut(file.path, reason, rightly=chosen) for file in one.image_of]
    return None


def _is_exact(folder: Path, pattern: str, labels: Mapping[Address, Address], files: Sequence[ScanFile]) -> bool:
    """Whether a pattern matches these files and no others."""
    one = Pattern(folder, pattern, "--masks")
    return {file.address for file in files if one.match(Path(file.address.below(folder)))} == set(labels)


def ask_of_two_sets(folder: Path, second: Mapping[Address, Address], pairs: Mapping[Address, Address]) -> None:
    """Raise a Question where half of the images have two masks, both named so. `second`: second mask -> image."""
    if len(second) < 2 or 2 * len(set(second.values())) < len(pairs):
        return
    firsts, others = {image: pairs[image] for image in second.values()}, {image: one for one, image in second.items()}
    first, other = pattern_of_masks(firsts, folder), pattern_of_masks(others, folder)
    together = in_braces({first: list(firsts.values()), other: list(others.values())}, folder, classes=True)
    classes = f", take both as classes with --masks '{together}'" if together else ""
    raise Question(
        "label-candidates",
        f"{folder}: {len(firsts)} images have two masks, '{first}' and '{other}'; choose with --masks '{first}' or "
        f"--masks '{other}'{classes}, or join all as parts of one mask with --parts.",
        "masks",
        together,
        first,
    )


def pair_by_first_word(
    images: Sequence[ScanFile], masks: Sequence[ScanFile], pairs: dict[Address, Address]
) -> list[ScanFile]:
    """Pair 21_manual1 with 21_training, where every mask finds one image so; else all masks still wait."""
    own, theirs = [_first_word(mask) for mask in masks], [_first_word(image) for image in images]
    if not masks or len(set(own)) < len(own) or len(set(theirs)) < len(theirs) or not set(own) <= set(theirs):
        return list(masks)
    image_of = dict(zip(theirs, images, strict=True))
    pairs |= {image_of[word].address: mask.address for word, mask in zip(own, masks, strict=True)}
    return []


def pattern_of_masks(masks: Mapping[Address, Address], folder: Path) -> str:
    """A pattern for masks by image: what follows the image's name, where that is the same, else their folder."""
    rests = {mask.name.removeprefix(image.stem) for image, mask in masks.items() if mask.parent == image.parent}
    beside = all(mask.parent == image.parent for image, mask in masks.items())
    if beside and len(rests) == 1 and rests.isdisjoint({mask.name for mask in masks.values()}):
        return f"*{escape(rests.pop())}"
    names = {mask.name for mask in masks.values()}
    if len(names) == 1 < len(masks):
        return f"**/{escape(names.pop())}"
    return _pattern_of({mask.parent for mask in masks.values()}, folder)


def _pattern_of(parents: set[Path], folder: Path) -> str:
    first = min(parents)
    if first == folder:
        return "*"
    below = first.relative_to(folder).as_posix() if first.is_relative_to(folder) else first.name
    return f"{escape(below)}/*" if len(parents) == 1 else f"**/{escape(first.name)}/*"


def _first_word(one: ScanFile) -> str:
    match = _FIRST_WORD.match(one.name)
    return match[0] if match else one.name
