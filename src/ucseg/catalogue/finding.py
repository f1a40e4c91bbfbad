"""Find the cases of a public data set in a user's folder, by its layouts, or report what is missing."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path, PurePosixPath

from ucseg.catalogue import DATASETS, bids
from ucseg.catalogue.layout import Layout, Part, PublicSet
from ucseg.dataset.case import Case
from ucseg.errors import UserError, some
from ucseg.folder.listing import files_below
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.subjects import find_subjects
from ucseg.scans.address import Address, ending_of, without_ending

_SHOWN = 4
_WORD = re.compile(r"\{(\w+)\}")


def find(
    name: str,
    public: PublicSet,
    layouts: tuple[Layout, ...],
    folder: Path,
    skip: Iterable[Path] = (),
    subject: str | None = None,
) -> tuple[Found, Layout]:
    """The cases of a data set, those of a published list in its order, and the first layout that fits, which is read.

    Args:
        subject: regular expression for the subject, as `ucseg init` takes it; None: as the layout says, or by names.

    Raises:
        UserError: no layout fits (the message says what was expected, what was found, and which other data sets fit),
            a list is missing, or it names cases that are not there.
    """
    tree = _Tree(folder, {item.absolute() for item in skip})
    for layout in layouts:
        if tree.fits(layout) and not tree.missing_lists(layout):
            break
    else:
        raise _no_layout(name, layouts, tree)
    found = _read_as(name, public, layout, tree, skip)
    if subject is None:
        return found, layout
    subjects = find_subjects(_names(tree, {case.case: case for case in found.cases}), subject)
    cases = [replace(case, subject=subjects.of[case.case]) for case in found.cases]
    return replace(found, cases=cases, subject_rule=subjects.rule), layout


def _read_as(name: str, public: PublicSet, layout: Layout, tree: _Tree, skip: Iterable[Path]) -> Found:
    words = f"read as {name}: {layout.words}."
    if layout.convention == "nnunet":
        found = find_cases(tree.folder, skip=skip)
        return replace(found, notes=[words, *found.notes])
    if layout.convention == "bids":
        return bids.find(tree.folder, tree.scans, words)
    return _assembled(tree, layout, [words, *_counted(tree, layout, public)])


def _names(tree: _Tree, cases: Mapping[str, Case]) -> dict[str, tuple[str, str]]:
    return {name: (case.image.stem, case.image.below(tree.folder)) for name, case in cases.items()}


class _Tree:
    """All files below a folder, as paths that begin with the folder's own name, so that a pattern can hold it."""

    def __init__(self, folder: Path, skip: set[Path]) -> None:
        self.folder = folder.absolute()
        files = (path for path in files_below(self.folder, skip, []) if not path.name.startswith("."))
        self.files = {path.relative_to(self.folder.parent).as_posix(): path for path in files}

    @cached_property
    def scans(self) -> list[Address]:
        return [Address.of(path) for path in self.files.values() if ending_of(path.name)]

    def match(self, pattern: str, where: Mapping[str, str]) -> dict[tuple[tuple[str, str], ...], list[Path]]:
        """Words in braces, as pairs -> files."""
        expression = _expression(pattern.partition("#")[0], where)
        found = defaultdict(list)
        for text, path in self.files.items():
            if (hit := expression.fullmatch(text)) and ending_of(path.name):
                found[tuple(sorted(hit.groupdict().items()))].append(path)
        return found

    def fits(self, layout: Layout) -> bool:
        """Whether there is at least one case of each part that must be there."""
        if layout.convention:
            return all(any(_expression(marker, {}).fullmatch(text) for text in self.files) for marker in layout.markers)
        return all(self._has(part) for part in layout.parts if not part.optional)

    def _has(self, part: Part) -> bool:
        images = self.match(part.images, part.where)
        masks = images if part.masks is None else self.match(part.masks, part.where)
        return not images.keys().isdisjoint(masks)

    def missing_lists(self, layout: Layout) -> list[str]:
        names = [name.partition("#")[0] for part in layout.parts for name in part.names]
        return [name for name in dict.fromkeys(names) if not self._lists(name)]

    def _lists(self, name: str) -> list[Path]:
        return [path for text, path in self.files.items() if PurePosixPath(text).name == name]

    def names(self, name: str) -> list[str]:
        """The names in a list.

        Raises:
            UserError: there are several lists of this name that differ, or it is not a list of names.
        """
        file, _, key = name.partition("#")
        paths = self._lists(file)
        if len({path.read_bytes() for path in paths}) > 1:
            raise UserError("lists-differ", f"{paths[0]}: {paths[1]} is another list of the same name; remove one.")
        try:
            text = paths[0].read_text(encoding="utf-8-sig")
            entries = json.loads(text)[key] if key else text.splitlines()
            found = [str(entry).split(",")[0].strip() for entry in entries]
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            problem = f"this is not the published list of names ({error})"
            raise UserError("list-broken", f"{paths[0]}: {problem}; copy it again.") from None
        return [entry.removesuffix(".h5") for entry in found if entry]


def _expression(pattern: str, where: Mapping[str, str]) -> re.Pattern[str]:
    """Matches a whole path that ends with the pattern."""
    seen: set[str] = set()
    text = ""
    for piece in re.split(r"(\{\w+\}|\*\*|\*)", pattern):
        word = piece[1:-1] if _WORD.fullmatch(piece) else ""
        if word and word not in seen:
            text += f"(?P<{word}>{where.get(word, '[^/]+')})"
        elif word:
            text += f"(?P={word})"
        else:
            text += {"*": "[^/]*", "**": ".*"}.get(piece) or re.escape(piece)
        seen.add(word)
    return re.compile(f"(?:.*/)?{text}", re.IGNORECASE)


def _assembled(tree: _Tree, layout: Layout, notes: list[str]) -> Found:
    problems = list(_in_two_splits(tree, layout))
    taken: dict[str, Case] = {}
    for part in layout.parts:
        for case in _cases(tree, part, problems):
            choices = [case.case, f"{part.split}_{case.case}", f"{part.images.split('/')[0]}_{case.case}"]
            name = next((name for name in choices if name not in taken), "")
            if name:
                taken[name] = replace(case, case=name)
            else:
                problems.append(UserError("case-twice", f"{case.image}: a second case of this name; remove one."))
    if len(problems) > _SHOWN:
        more = len(problems) - _SHOWN
        problems[_SHOWN:] = [UserError("more-problems", f"There are {more} more problems like these.")]
    if problems:
        raise UserError.together(problems)
    if any(case.subject for case in taken.values()):
        return Found(list(taken.values()), [], "by the layout", notes)
    subjects = find_subjects(_names(tree, taken))
    cases = [replace(case, subject=subjects.of[name]) for name, case in taken.items()]
    return Found(cases, [], subjects.rule, [*notes, *subjects.notes])


def _in_two_splits(tree: _Tree, layout: Layout) -> Iterator[UserError]:
    """Lists of two splits that name the same files."""
    listed = [(part, dict.fromkeys(chain(*map(tree.names, part.names)))) for part in layout.parts]
    for (one, names), (other, others) in combinations(listed, 2):
        both = [name for name in names if name in others]
        if both and one.split != other.split and one.images == other.images:
            lists = f"{' and '.join(one.names)} ({one.split}) and {' and '.join(other.names)} ({other.split})"
            yield UserError(
                "case-in-two-splits",
                f"{tree.folder}: {some(both)} is in {lists}, but a case must be in one split only; remove it from one "
                "list, or copy the published lists again.",
            )


def _numbered(case: str, last_of: tuple[int, ...]) -> str:
    """The subject of a numbered case. A number beyond the last is another image and another subject."""
    if not last_of:
        return ""
    known = case.isdigit() and 0 < int(case) <= last_of[-1]
    return f"sequence{bisect_left(last_of, int(case)) + 1:02d}" if known else case


def _cases(tree: _Tree, part: Part, problems: list[UserError]) -> Iterator[Case]:
    """The cases of a part, in order; `subject` is "" where the layout gives none."""
    masks = {} if part.masks is None else tree.match(part.masks, part.where)
    found: dict[str, list[Case]] = defaultdict(list)
    for key, paths in sorted(tree.match(part.images, part.where).items()):
        words = dict(key)
        name = "_".join([*(text for word, text in key if word not in ("case", "subject")), words["case"]])
        if len(paths) > 1:
            problems.append(UserError("case-copied", f"{paths[0]}: {paths[1]} is the same case; remove one of them."))
            continue
        mask = _mask(masks.get(key, []), part, problems)
        subject = words.get("subject") or _numbered(name, part.last_of)
        found[name].append(Case(name, subject, _address(paths[0], part.images), mask, part.split))
    if not part.names:
        yield from chain.from_iterable(found.values())
        return
    lists = f"{tree.folder}: {' and '.join(part.names)}"
    listed = [name for file in part.names for name in tree.names(file)]
    numbered = {str(int(case)): case for case in found if case.isdigit()}
    missing = [name for name in listed if name not in found and name not in numbered]
    if missing:
        pattern = part.images.partition("#")[0]
        problems.append(
            UserError(
                "listed-case-missing",
                f"{lists} names {len(listed)} cases, but {pattern} is missing for {len(missing)} of them "
                f"({some(missing)}); add these files, the split needs all.",
            )
        )
    repeated = [name for name, count in Counter(listed).items() if count > 1]
    if repeated:
        problems.append(UserError("listed-twice", f"{lists} names {repeated[0]} twice; copy the list again."))
    for name in listed:
        yield from found.pop(name if name in found else numbered.get(name, ""), [])


def _mask(paths: list[Path], part: Part, problems: list[UserError]) -> Address | None:
    if not paths or part.masks is None:
        return None
    if len(paths) > 1 and (not part.several or len({path.parent for path in paths}) > 1):
        problems.append(UserError("mask-twice", f"{paths[0]}: {paths[-1]} is another mask of this case; remove one."))
    if len(paths) == 1 or not part.several:
        return _address(paths[0], part.masks)
    stems = sorted(without_ending(path.name) for path in paths)
    shortest = min(stems, key=len)  # x_mask, x_mask_1, x_mask_2 -> x_mask{,_1,_2}
    ends = ",".join(name.removeprefix(shortest) for name in stems)
    return Address.of(paths[0].with_name(f"{shortest}{{{ends}}}{ending_of(paths[0].name)}"))


def _address(path: Path, pattern: str) -> Address:
    part = pattern.partition("#")[2]
    return Address.of(f"{path}#{part}" if part else path)


def _counted(tree: _Tree, layout: Layout, public: PublicSet) -> Iterator[str]:
    """A note for each part that has another number of cases than the published one."""
    for split, published in {**public.counts, **layout.counts}.items():
        parts = [part for part in layout.parts if part.split == split]
        listed = sum(len(tree.names(name)) for part in parts for name in part.names)
        here = listed or sum(len(tree.match(part.images, part.where)) for part in parts)
        if parts and here and here != published:
            yield f"{here} {split or 'cases'}{' cases' if split else ''} here, {published} as published."


def _no_layout(name: str, layouts: tuple[Layout, ...], tree: _Tree) -> UserError:
    near = next((layout for layout in layouts if tree.fits(layout)), None)
    if near is not None:
        lists = " and ".join(tree.missing_lists(near))
        return UserError(
            "lists-missing",
            f"{tree.folder}: these published lists of {name} are missing: {lists}; copy them from the papers' public "
            "code.",
        )
    expected = " or ".join(layout.words for layout in layouts)
    kinds = Counter(_kind(text) for text in tree.files)
    shown = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_SHOWN)) or "no file"
    others = [
        other
        for other, public in DATASETS.items()
        if other != name and any(tree.fits(one) and not tree.missing_lists(one) for one in public.layouts)
    ]
    if others:
        fix = f"It looks like {' or '.join(others[:_SHOWN])}: `ucseg import {others[0]} {tree.folder}`."
    else:
        fix = f"No other data set fits either; `ucseg init {tree.folder}` guesses."
    return UserError(
        "layout-unknown",
        f"{tree.folder}: the folder has no layout of {name}. Expected: {expected}. Found: {shown}. {fix}",
    )


def _kind(text: str) -> str:
    """What files of all cases have in common: folders with stars for numbers, and the ending."""
    path = PurePosixPath(text)
    parents = [re.sub(r"\d+", "*", part) for part in path.parts[1:-1]]
    return "/".join([*parents, f"*{''.join(path.suffixes[-2:])}"])
