"""The facts of many scans: several read at a time, none kept in memory, and again only those whose files changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CACHE, Dataset
from ucseg.errors import UserError
from ucseg.machine.threads import for_each
from ucseg.machine.writing import whole_file
from ucseg.planning.facts import Header, ScanFacts, facts_of, header_of
from ucseg.scans.reading import files_of

FILE = "fingerprint.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
"""Of the scans to validate and test on, of which the plan must know nothing: only duplicates are looked for."""
VERSION = 2
"""Raise it when facts come to mean something else: those kept by older versions are then measured anew."""
Look = Callable[[Case, int | None, ScanFacts | None], ScanFacts | str]
"""Whoever has to read a scan anyway: of a case, the slice axis and the facts as far as they are known, its facts."""
VOLUMES_AT_ONCE = 4
"""Volumes in memory at a time, however many cores there are."""


def measure_headers(cases: Sequence[Case], dims: int) -> list[Header | str]:
    """Shape and spacing of each case, or why it cannot be used."""
    return for_each(lambda case: header_of(case, dims), cases)


def measure_scans(
    dataset: Dataset,
    cases: Sequence[Case],
    slice_axis: int | None,
    done: Callable[[], None] | None = None,
    file: str = FILE,
    look: Look | None = None,
) -> list[ScanFacts | str]:
    """The facts of each case, or why it cannot be used; those of unchanged files come from the dataset's cache.

    Args:
        slice_axis: the canonical axis across the slices of volumes.
        done: called after each case.
        file: in the cache, which keeps the facts of these cases and of no others.
        look: called for each case, unchanged or not.
    """
    keep = dataset.folder / CACHE / file
    config = dataset.config
    reading = [VERSION, slice_axis, config.mask_threshold, config.fill_outlines, list(config.classes.values())]
    known = _read(keep, reading)

    def measure(case: Case) -> tuple[str, ScanFacts | str]:
        state = _state(case)
        before = known.get(case.case)
        kept = before[1] if before and before[0] == state else None
        if look is None:
            return state, kept or facts_of(case, config, slice_axis)
        return state, look(case, slice_axis, kept)

    found = for_each(measure, cases, done, most=VOLUMES_AT_ONCE if config.dims == 3 else None)
    facts = {case.case: one for case, one in zip(cases, found, strict=True) if not isinstance(one[1], str)}
    if facts.keys() != known.keys() or any(known[case][1] is not one[1] for case, one in facts.items()):
        _write(keep, reading, facts)
    return [one for _, one in found]


def _state(case: Case) -> str:
    """Which files a case is read from, how large and how old they are."""
    parts = []
    for address in (case.image, case.mask):
        if address is None:
            continue
        try:
            files = [(file, file.stat()) for file in files_of(address)]
        except (OSError, UserError):
            return ""  # reading it will say why
        parts += [str(address), *(f"{file.name} {stat.st_size} {stat.st_mtime_ns}" for file, stat in files)]
    return "; ".join(parts)


def _read(path: Path, reading: list[Any]) -> dict[str, tuple[str, ScanFacts]]:
    """State and facts by case, a line each: the text of thousands is never in memory as a whole."""
    try:
        with path.open(encoding="utf-8") as lines:
            if json.loads(next(lines)) != reading:
                return {}
            kept = (json.loads(line) for line in lines)
            return {case: (state, ScanFacts.from_plain(facts)) for case, state, facts in kept}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return {}  # none there, or not whole: everything is measured again


def _write(path: Path, reading: list[Any], facts: Mapping[str, tuple[str, ScanFacts | str]]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, ".jsonl") as temporary, temporary.open("w", encoding="utf-8") as lines:
            lines.write(json.dumps(reading) + "\n")
            for case, (state, one) in facts.items():
                assert isinstance(one, ScanFacts)
                lines.write(json.dumps([case, state, one.plain()]) + "\n")
    except (OSError, UserError):
        return  # a dataset that cannot be written to is measured anew each time
