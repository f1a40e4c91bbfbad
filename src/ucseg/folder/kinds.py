"""Kinds of files in a folder, and which files of two kinds show one case: by the words of their paths.

A number, or a word that few files have, says which case a file belongs to. The other words say what it shows: lgemri
and laendo, leftMask/* and rightMask/*, *_C0, *_DE and *_gd.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath

from ucseg.folder.likely_masks import look_like_labels
from ucseg.folder.patterns import Pattern, in_common
from ucseg.folder.questions import Option, Question
from ucseg.folder.roles import ScanFile, own_split
from ucseg.scans.address import Address, common_start, ending_of, without_ending

_WORD = re.compile(r"[^\W_]+")
_APART = re.compile(r"[^\W\d_]+|\d+")
_BETWEEN = "-_./ *"
_NUMBERED, _FEW = 6, 50
"""A word with a digit says the case if at most one in so many files has it; a word without, one in FEW."""
_ENOUGH = 0.8
"""So many masks have to find one image, or none is paired."""
_MOSTLY = 0.7
"""What so many masks of a kind share with their images, all have to."""
_ROLE = 2
"""More letters at the end of folders say what is in them: train_lesion, test_lesion."""
_MOST = 1000
"""Files with one word that are compared; more of them share a number of something else."""


class Kinds:
    """The kinds of some files below a folder.

    Args:
        apart: letters and numbers of a word are two words: orig001 and seg001. Elsewhere, T1 and T2 are words.
        values: 7 and 007 are one number.
    """

    def __init__(self, files: Iterable[Address], folder: Path, *, apart: bool = False, values: bool = False) -> None:
        self.folder, self._word, self._values = folder, _APART if apart else _WORD, values
        self._paths = {one: Address.of(one.file).below(folder) for one in files}
        places = {one: self._words_of(PurePosixPath(path)) for one, path in self._paths.items()}
        self._words = {one: frozenset(word for word, _ in words) for one, words in places.items()}
        self._whole = {one: frozenset(_WORD.findall(PurePosixPath(path).name)) for one, path in self._paths.items()}
        self._counts = Counter(word for words in self._words.values() for word in words)
        there = Counter(word for words in places.values() for word in words)
        self._case = {
            one: {word for word, at in words if (at and word.isdigit()) or self._is_rare(word, there[word, at])}
            for one, words in places.items()
        }

        self._order = {
            one: [word for word in self._numbers_and_words(without_ending(PurePosixPath(path).name)) if word in case]
            for (one, path), case in zip(self._paths.items(), self._case.values(), strict=True)
        }

    def of(self, files: Iterable[Address]) -> dict[str, list[Address]]:
        """Files by kind: their path with a star for each number and each word that says the case."""
        found = defaultdict(list)
        for one in files:
            found[self._word.sub(partial(_star, self._case[one]), self._paths[one])].append(one)
        return found

    def fits(self, masks: Iterable[Address], images: Iterable[Address]) -> dict[Address, list[Address]]:
        """Mask -> images of its case that have the most words in common with it, and the rarest. Equal ones are all.

        What most masks of a kind have in common with their images, all have: a mask of a left knee whose image is not
        there does not find the right knee.
        """
        holders = defaultdict(list)
        for image in images:
            for word in self._case[image]:
                holders[word].append(image)
        found = {mask: self._nearest(mask, holders) for mask in masks}
        for same in self.of(mask for mask, ones in found.items() if ones).values():
            shared = [self._words[mask].intersection(*(self._words[image] for image in found[mask])) for mask in same]
            counts = Counter(word for words in shared for word in words)
            needed = {word for word, count in counts.items() if count >= _MOSTLY * len(same)}
            for mask in same:
                found[mask] = [image for image in found[mask] if needed <= self._words[image]]
        return found

    def _nearest(self, mask: Address, holders: Mapping[str, Sequence[Address]]) -> list[Address]:
        """By the rarest word that names an image of its case."""
        own, case = self._words[mask], self._case[mask]
        for word in sorted(case & holders.keys(), key=lambda word: (len(holders[word]), word)):
            weights = {
                image: math.fsum(math.log(len(self._words) / self._counts[one]) for one in own & self._words[image])
                for image in holders[word][:_MOST]
                if self._case[image] <= own or case <= self._words[image]
            }
            if weights:
                most = max(weights.values())
                found = [image for image, weight in weights.items() if weight == most]
                alike = {image: len(self._whole[image] & self._whole[mask]) for image in found}  # slice2_scan1
                found = [image for image in found if alike[image] == max(alike.values())]
                in_order = [image for image in found if self._order[image] == self._order[mask]]  # 3_12 is not 12_3
                return in_order or found
        return []

    def pattern(self, files: Collection[Address]) -> str:
        """What matches these files and no others, as --images and --masks take it; "" if nothing short does."""
        paths = [PurePosixPath(self._paths[one]) for one in files]
        names = {path.name for path in paths}
        end = common_start([name[::-1] for name in names])[::-1]
        above = {path.parent.name for path in paths}
        role = common_start([name[::-1] for name in above])[::-1].lstrip("0123456789")
        if len(names) > 1:
            end = end[min((at for at, sign in enumerate(end) if sign in "-_. "), default=len(end)) :]
        shared = [part for part in reversed(paths[0].parts[:-1]) if all(part in path.parts[:-1] for path in paths)]
        places = [f"{escape(str(paths[0].parent))}/"] if len({path.parent for path in paths}) == 1 else []
        places += [f"**/{escape(part)}/" for part in shared]
        places += [f"*{escape(role)}/"] if len(above) > 1 and sum(map(str.isalpha, role)) > _ROLE else []
        says = any(map(str.isalpha, without_ending(end)))
        end = escape(end) if len(names) == 1 else f"*{escape(end)}"
        ends = ([end] if len(names) > 1 else [f"**/{end}"]) if says else []
        begin, begins = common_start(sorted(names)).rstrip("0123456789"), []
        endings = {ending_of(name) for name in names}
        if len(endings) == 1 and any(map(str.isalpha, begin)):
            begins.append(f"**/{escape(begin)}*{endings.pop()}")
        for text in [*ends, *(f"{place}*" for place in places), *(place + end for place in places), *begins]:
            pattern = Pattern(self.folder, text, "--masks")
            if {one for one, path in self._paths.items() if pattern.match(Path(path))} == set(files):
                return text
        return ""

    def _words_of(self, path: PurePosixPath) -> set[tuple[str, int]]:
        """Its words, each with 1 where it is of the file's name, else 0: I_1 is a case, "1. Lesions" is not."""
        folders, name = path.parent.as_posix(), without_ending(path.name)
        return {(word, at) for at, text in enumerate((folders, name)) for word in self._numbers_and_words(text)}

    def _numbers_and_words(self, text: str) -> list[str]:
        words = self._word.findall(text)
        return [word.lstrip("0") or "0" if self._values and word.isdigit() else word for word in words]

    def _is_rare(self, word: str, count: int) -> bool:
        files = len(self._paths)
        return count <= files / _NUMBERED + 1 if any(map(str.isdigit, word)) else count < max(3, files / _FEW)


def _star(case: Collection[str], match: re.Match[str]) -> str:
    return "*" if match[0].isdigit() or match[0] in case else match[0]


def pair_by_shared_words(
    images: Sequence[ScanFile],
    masks: Sequence[ScanFile],
    pairs: dict[Address, Address],
    folder: Path,
    masks_glob: str | None,
) -> list[ScanFile]:
    """Pair masks with the images of their cases, where nearly all find one; else all masks still wait.

    Raises:
        Question: most masks find several images, which are of different kinds; or most images several masks.
    """
    for apart, values in ((False, False), (True, False), (True, True)):
        found = _paired(images, masks, folder, masks_glob, apart, values)
        if masks and len(found) >= _ENOUGH * len(masks):
            pairs |= found
            paired = set(found.values())
            return [mask for mask in masks if mask.address not in paired]
    return list(masks)


def _paired(
    images: Sequence[ScanFile],
    masks: Sequence[ScanFile],
    folder: Path,
    masks_glob: str | None,
    apart: bool,
    values: bool,
) -> dict[Address, Address]:
    """Image -> mask, where both find one another alone; a Question as `pair_by_shared_words`, if words are whole."""
    kinds = Kinds([one.address for one in (*images, *masks)], folder, apart=apart, values=values)
    labels = {file for of in kinds.of([one.address for one in images]).values() if look_like_labels(of) for file in of}
    fits = kinds.fits([mask.address for mask in masks], [one.address for one in images if one.address not in labels])
    masks_of: dict[Address, list[Address]] = defaultdict(list)
    for mask, found in fits.items():
        for image in found:
            masks_of[image].append(mask)
    if not apart and 2 * sum(len(found) > 1 for found in fits.values()) > len(masks):
        what = "masks fit several images of their case"
        every = {image.address: masks_of.get(image.address, []) for image in images if image.address not in labels}
        _ask("mask-fits-several", "images", what, "channels", masks_glob, kinds, every)
    elif not apart and 2 * sum(len(found) > 1 for found in masks_of.values()) > len(masks_of):
        _ask("image-fits-several", "masks", "images have several masks", "classes", None, kinds, fits)
    return {found[0]: mask for mask, found in fits.items() if len(found) == 1 and len(masks_of[found[0]]) == 1}


def _ask(
    code: str,
    option: Option,
    what: str,
    together: str,
    masks: str | None,
    kinds: Kinds,
    targets: Mapping[Address, list[Address]],
) -> None:
    """Raise a Question that names the kinds of which a case has several, if each has a pattern.

    Args:
        masks: pattern to give beside --images.
    """
    found = {kinds.pattern(files): files for files in sets_of(kinds, targets)}
    splits = {own_split(Path(file.below(kinds.folder))) for file, reached in targets.items() if reached}
    if len(found) < 2 or "" in found or len(splits) > 1 or any(file.several for file in targets):
        return
    listed = ", ".join(f"'{pattern}' ({len(files)})" for pattern, files in found.items())
    joined = in_braces(found, kinds.folder, option == "masks")
    also = f" --masks '{masks}'" if masks else ""
    several = f", or take several as {together} with --{option} '{joined}'{also}" if joined else ""
    one = next(iter(found))
    message = f"{kinds.folder}: {what}: {listed}; choose one with --{option} '{one}'{also}{several}."
    raise Question(code, message, option, joined, one, {"masks": masks} if masks else None)


def sets_of(kinds: Kinds, targets: Mapping[Address, Collection[Address]]) -> list[list[Address]]:
    """Files by kind, where kinds that have no target in common are one: folders of two hospitals, train and test.

    Args:
        targets: image -> its masks, or mask -> its images; files without any only count beside others of their kind.
    """
    found: list[tuple[list[Address], set[Address]]] = []
    for files in kinds.of(targets).values():
        reached = {target for file in files for target in targets[file]}
        if not reached:
            continue
        files_there, targets_there = next((one for one in found if one[1].isdisjoint(reached)), ([], set()))
        if not files_there:
            found.append((files_there, targets_there))
        files_there += files
        targets_there |= reached
    return [files for files, _ in found]


def in_braces(found: Mapping[str, Collection[Address]], folder: Path, classes: bool) -> str:
    """Patterns that differ in one word as one pattern, where it joins most of their files; else "".

    Args:
        found: pattern -> its files.
        classes: they are masks of one file a class, no channels.
    """
    patterns = list(found)
    begin, end = common_start(patterns), common_start([pattern[::-1] for pattern in patterns])[::-1]
    begin = begin[: max((at + 1 for at, sign in enumerate(begin) if sign in _BETWEEN), default=0)]
    end = end[min((at for at, sign in enumerate(end) if sign in _BETWEEN), default=len(end)) :]
    words = [pattern[len(begin) : len(pattern) - len(end)] for pattern in patterns]
    if len(words) < 2 or not all(words) or set("".join(words)) & set("*/,{}"):
        return ""
    text = f"{begin}{{{','.join(words)}}}{end}"
    pattern = Pattern(folder, text, "--masks")
    matches = [
        match for files in found.values() for file in files if (match := pattern.match(Path(file.below(folder))))
    ]
    cases = defaultdict(set)
    for match, case in zip(matches, in_common(matches, classes), strict=True):
        cases[match.word].add(case)
    if len(cases) < len(words):
        return ""
    return text if 2 * len(set.intersection(*cases.values())) >= max(map(len, cases.values())) else ""
