"""Files that list who is in which split, as public sets bring them: a name a line, or the first column of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ucseg.dataset.case import Case
from ucseg.errors import UserError, some
from ucseg.scans.address import without_ending

_MOST = 2**26


def by_lists(folder: Path, cases: Sequence[Case], lists: Mapping[str, Path | None]) -> list[Case]:
    """Cases with the splits that lists name; where a list is given, folders do not count.

    A line is a file's path or name, with or without its ending, the name of a case, or a subject. With a list of
    training cases, a case that no list names is left out; else it is for training.

    Raises:
        UserError: a list cannot be read, names nothing here, or two lists name one case.
    """
    given = {split: file for split, file in lists.items() if file is not None}
    if not given:
        return list(cases)
    known: dict[str, set[str]] = {}
    for case in cases:
        below = case.image.file.relative_to(folder) if case.image.file.is_relative_to(folder) else case.image.file
        for name in (case.subject, case.case, case.image.stem, below.name, without_ending(below.as_posix())):
            known.setdefault(name, set()).add(case.case)
    of: dict[str, str] = {}
    for split, file in given.items():
        names = _names(file)
        found = {name: known.get(name) or known.get(without_ending(PurePosixPath(name).name)) for name in names}
        if not found[names[0]]:
            del found[names[0]]  # the header of a table
        missing = [name for name, ones in found.items() if not ones]
        if missing or not found:
            raise UserError(
                "split-list-name",
                f"{file}: names {some(missing or names)}, which are no images of {folder}; correct the list.",
            )
        for case_name in sorted(set().union(*(ones for ones in found.values() if ones))):
            if of.setdefault(case_name, split) != split:
                raise UserError(
                    "split-list-twice", f"{file}: names {case_name}, as does {given[of[case_name]]}; name it once."
                )
    kept = [case for case in cases if case.case in of or "train" not in given]
    return [replace(case, split=of.get(case.case, "")) for case in kept]


def _names(file: Path) -> list[str]:
    try:
        if file.stat().st_size > _MOST or not file.is_file():
            raise UserError("split-list", f"{file}: this is no list of names; give a text file with a name a line.")
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "split-list", f"{file}: cannot be read ({error}); give a text file with a name a line."
        ) from None
    words = (line.replace(";", ",").replace("\t", ",").split(",")[0].strip().strip("\"'") for line in text.splitlines())
    names = list(dict.fromkeys(word for word in words if word and not word.startswith("#")))
    if not names:
        raise UserError("split-list", f"{file}: there is no name in it; give a text file with a name a line.")
    return names
