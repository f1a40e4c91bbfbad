"""Patterns by which a user says what files are: with stars, and with {a,b} for files that belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path, PurePosixPath

from ucseg.errors import UserError
from ucseg.scans.address import CLASSES, Address, without_ending

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


MISSING = "of its channels"
"""Begins the reason why a case is left out of which some files are not there."""


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
        self._case = re.IGNORECASE if loosely else re.NOFLAG
        braces = list(_BRACES.finditer(text))
        if braces:
            self.words = [word.strip() for word in braces[0][1].split(",")]
        if len(braces) > 1 or len(set(self.words)) < len(self.words) or "" in self.words:
            raise UserError(
                "pattern-braces",
                f"{option} '{text}' is not clear; give one pair of braces with different words, '*_{{t1,t2}}.nii'.",
            )
        for word in self.words or [""]:
            one = _BRACES.sub(word.replace("\\", r"\\"), text)
            name = PurePosixPath(one).name
            single = name.count("*") == 1 and not set(name) & set("?[")
            star = re.compile("(.*)".join(map(re.escape, name.split("*")))) if single else None
            self._single.append((word, re.compile(translate(one), self._case), star))

    def require(self, folder: Path, found: Collection[object]) -> None:
        """Raise a UserError if the pattern was given and nothing in the folder matches."""
        if self.given and not found:
            raise UserError(
                "pattern-no-file",
                f"{folder}: {self._said} matches no readable file; compare it with the names there.",
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
        for file, match in found.items():
            groups[match.around][match.word] = file
        joined: list[Together] = []
        missing: list[tuple[list[Address], str]] = []
        for (before, after), group in groups.items():
            there = {word: group[word] for word in self.words if word in group}
            absent = [word for word in self.words if word not in group]
            if absent and not classes:
                reason = f"{MISSING} {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there"
                missing.append((list(there.values()), reason))
                continue
            inside = ",".join(found[file].written for file in there.values()) + "," * (len(there) == 1)
            path = folder / f"{before}{{{inside}}}{after}{CLASSES if classes else ''}"
            joined.append(Together(Address.of(path), list(there.values()), before + after))
        return joined, missing

    def match(self, relative: Path) -> Match | None:
        """How a path fits; None where it does not."""
        path = relative.as_posix()
        for word, whole, star in self._single:
            # "**/x" also means x in the folder itself.
            if whole.fullmatch(path) or whole.fullmatch("./" + path):
                found = star.fullmatch(relative.name) if star else None
                if not word:
                    return Match(found[1] if found else "")
                at = (path.lower() if self._case else path).rfind(word.lower() if self._case else word)
                end = at + len(word)
                return Match(found[1] if found else "", word, path[at:end], (path[:at], path[end:]))
        return None
