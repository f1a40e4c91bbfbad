"""Patterns by which a user says what files are: with stars, and with {a,b} for files that belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ucseg.errors import UserError
from ucseg.scans.address import CLASSES, Address, without_ending

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_SIGNS = re.compile(r"(\*|\?|\[!?\]?[^\]]*\])")


@dataclass(frozen=True)
class Match:
    """How a path fits a pattern.

    Attributes:
        star: what the star in the pattern's name stands for; "" without a single star.
        word: which of the words in braces it holds; "" without braces.
        written: that word, as the path has it.
        around: the path before and after that word: what files that belong together have in common.
    """

    star: str = ""
    word: str = ""
    written: str = ""
    around: tuple[str, str] = ("", "")

    def without(self, own: Collection[int]) -> tuple[str, str]:
        """`around` without these folders, counted from the top."""
        folders = self.around[0].split("/")
        return "/".join(name for at, name in enumerate(folders) if at not in own), self.around[1]


@dataclass(frozen=True)
class Together:
    """Files that are one, in the order of the words in braces.

    Attributes:
        shared: their path without that word.
    """

    address: Address
    files: list[Address]
    shared: str


class Pattern:
    """A pattern of paths below `folder`; "*" also crosses folders.

    Args:
        option: that the user gave it to; None as `text`: the option was not given, and nothing fits.
        loosely: upper and lower case, and the ending of files, do not count.

    Raises:
        UserError: there are two pairs of braces, or two words in them are one.
    """

    def __init__(self, folder: Path, text: str | None, option: str, loosely: bool = False) -> None:
        self.given = text is not None
        self._said = f"{option} '{text}'"
        self.words: list[str] = []
        self._single: list[tuple[str, re.Pattern[str], re.Pattern[str] | None]] = []
        if text is None:
            return
        text = text.removeprefix(folder.absolute().as_posix() + "/").removeprefix("./").replace("**/", "*/")
        if loosely and (name := without_ending(text)) != text:
            text = f"{name}.*"
        braces = _BRACES.search(text)
        if braces:
            self.words = [word.strip() for word in braces[1].split(",")]
        if len(_BRACES.findall(text)) > 1 or len(set(self.words)) < len(self.words) or "" in self.words:
            raise UserError(
                "pattern-braces",
                f"{option} '{text}' is not clear; give one pair of braces with different words, '*_{{t1,t2}}.nii'.",
            )
        before, after = (text[: braces.start()], text[braces.end() :]) if braces else (text, "")
        for word in self.words or [""]:
            name = PurePosixPath(before + word + after).name
            single = name.count("*") == 1 and not set(name) & set("?[")
            star = re.compile("(.*)".join(map(re.escape, name.split("*")))) if single else None
            # "**/x" also means x in the folder itself.
            whole = rf"(?:\./)?{_regex(before)}(?P<word>{_regex(word)}){_regex(after)}"
            self._single.append((word, re.compile(whole, re.DOTALL | re.IGNORECASE * loosely), star))

    def require(self, folder: Path, found: Sequence[Match | None]) -> None:
        """Raise a UserError if the pattern was given and nothing in the folder matches, or not each of its words."""
        if not self.given:
            return
        missing = [word for word in self.words if word not in {match.word for match in found if match}]
        if not found or missing:
            which = f" with '{missing[0]}' in the braces" if found else ""
            raise UserError(
                "pattern-no-file",
                f"{folder}: {self._said} matches no readable file{which}; compare it with the names there.",
            )

    def together(
        self, folder: Path, found: Mapping[Address, Match], classes: bool = False
    ) -> tuple[list[Together], list[tuple[list[Address], str]]]:
        """Files that differ in the words in braces alone, as one.

        Args:
            folder: that the matches are below.
            found: files, and how they match.
            classes: they are masks of one file a class, of which some may be missing.

        Returns:
            those that are complete; and the files of each other, with what is missing.
        """
        groups: dict[tuple[str, str], dict[str, Address]] = defaultdict(dict)
        own = _own_folders(found.values(), classes)
        for file, match in found.items():
            groups[match.without(own)][match.word] = file
        joined: list[Together] = []
        missing: list[tuple[list[Address], str]] = []
        for shared, group in groups.items():
            there = {word: group[word] for word in self.words if word in group}
            absent = [word for word in self.words if word not in group]
            if absent and not classes:
                reason = f"of its channels {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there"
                missing.append((list(there.values()), reason))
                continue
            path = _in_braces([found[file] for file in there.values()], own)
            address = Address.of(folder / f"{path}{CLASSES if classes else ''}")
            joined.append(Together(address, list(there.values()), "".join(shared)))
        return joined, missing

    def match(self, relative: Path) -> Match | None:
        """How a path fits; None where it does not."""
        path = f"./{relative.as_posix()}"
        for word, whole, star in self._single:
            if found := whole.fullmatch(path):
                named = star.fullmatch(relative.name) if star else None
                begin, end = found.span("word")
                around = (path[2:begin], path[end:]) if word else ("", "")
                return Match(named[1] if named else "", word, found["word"], around)
        return None


def in_common(matches: Sequence[Match], classes: bool) -> list[tuple[str, str]]:
    """Of each match what it has in common with the others of its case; see `Pattern.together`."""
    own = _own_folders(matches, classes)
    return [match.without(own) for match in matches]


def _own_folders(matches: Collection[Match], classes: bool) -> list[int]:
    """Which folders, counted from the top, each word has for itself: T1/a_T1.nii and T2/a_T2.nii.

    Classes may have folders of any name (Haemorrhages/a_HE.png). Other words must be in the names of theirs: folders
    of two hospitals are none.
    """
    folders = [(match.word, match.around[0].split("/")[:-1]) for match in matches]
    depths, words = {len(names) for _, names in folders}, {word for word, _ in folders}
    if len(depths) != 1 or len(words) < 2:
        return []
    own = []
    for at in range(depths.pop()):
        pairs = {(word, names[at]) for word, names in folders}
        for_itself = len(pairs) == len(words) == len({name for _, name in pairs})
        if for_itself and all(
            (classes or word.lower() in name.lower()) and not set(name) & set(",{}") for word, name in pairs
        ):
            own.append(at)
    return own


def _in_braces(matches: Sequence[Match], own: Collection[int]) -> str:
    """The paths of files that belong together as one, with what differs in braces."""

    def all_of(words: Sequence[str]) -> str:
        return f"{{{','.join(words)}{',' * (len(words) == 1)}}}"

    folders = [match.around[0].split("/") for match in matches]
    above = [all_of([names[at] for names in folders]) if at in own else name for at, name in enumerate(folders[0])]
    return "/".join(above) + all_of([match.written for match in matches]) + matches[0].around[1]


def _regex(glob: str) -> str:
    """A regular expression of what fnmatch says. Its own cannot be joined: they do not go back to an earlier star."""
    return "".join(
        {"*": ".*", "?": "."}.get(part) or (_set(part) if part[:1] == "[" and part[-1:] == "]" else re.escape(part))
        for part in _SIGNS.split(glob)
    )


def _set(signs: str) -> str:
    inside = signs[1:-1].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
    found = f"[^{inside[1:]}]" if inside[:1] == "!" else f"[{inside}]"
    try:
        re.compile(found)
    except re.error:  # [z-a]
        return re.escape(signs)
    return found
