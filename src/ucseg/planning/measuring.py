"""How are the facts of many scans measured? Several are read at a time, and again only where files have changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CACHE, Dataset
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.machine.writing import whole_file
from ucseg.planning.facts import ScanFacts, facts_of
from ucseg.scans.reading import files_of

FILE = "fingerprint.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
"""Of validation and test scans: only duplicates are looked for among them, and the plan must not see them."""
VERSION = 4
"""Raise it when facts change their meaning: those of older versions are then measured again."""
Look = Callable[[Case, int | None, ScanFacts | None], ScanFacts | str]
"""Reads a scan and returns its facts; given the case, the slice axis, and the facts if they are known."""
VOLUMES_AT_ONCE = 4
"""Volumes in memory at a time, however many cores there are."""
_LINE = TypeAdapter(tuple[str, str, ScanFacts])
"""Case, state of its files, and facts."""


def measure_scans(
    dataset: Dataset,
    cases: Sequence[Case],
    slice_axis: int | None,
    done: Callable[[], None] | None = None,
    file: str = FILE,
    look: Look | None = None,
) -> list[ScanFacts | str]:
    """The facts of each case, or the reason why it cannot be used; of unchanged files they come from the cache.

    Args:
        slice_axis: the canonical axis across the slices of volumes.
        file: in the cache; it keeps the facts of these cases only.
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
    facts = {
        case.case: (state, one) for case, (state, one) in zip(cases, found, strict=True) if isinstance(one, ScanFacts)
    }
    if facts.keys() != known.keys() or any(known[case][1] is not one[1] for case, one in facts.items()):
        _write(keep, reading, facts)
    return [one for _, one in found]


def _state(case: Case) -> str:
    """From which files a case is read, with their sizes and times."""
    parts = []
    for address in (case.image, case.mask):
        if address is None:
            continue
        try:
            files = [(file, file.stat()) for file in files_of(address)]
        except (OSError, UserError):
            return ""  # reading it will report the reason
        parts += [str(address), *(f"{file.name} {stat.st_size} {stat.st_mtime_ns}" for file, stat in files)]
    return "; ".join(parts)


def _read(path: Path, reading: list[Any]) -> dict[str, tuple[str, ScanFacts]]:
    """State and facts by case, one line each: the text of thousands is never in memory at once."""
    try:
        with path.open("rb") as lines:
            if json.loads(next(lines)) != reading:
                return {}
            return {case: (state, facts) for case, state, facts in map(_LINE.validate_json, lines)}
    except (OSError, ValueError, StopIteration):
        return {}  # no file, or only a part: everything is measured again


def _write(path: Path, reading: list[Any], facts: Mapping[str, tuple[str, ScanFacts]]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, ".jsonl") as temporary, temporary.open("wb") as lines:
            lines.write(json.dumps(reading).encode())
            lines.writelines(b"\n" + _LINE.dump_json((case, *known)) for case, known in facts.items())
    except (OSError, UserError):
        return  # a folder that cannot be written to: measured again each time
