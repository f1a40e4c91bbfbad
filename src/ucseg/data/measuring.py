"""The facts of many scans: several read at a time, none kept in memory, and again only those whose files changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ucseg.data.atomic import whole_file
from ucseg.data.facts import Header, ScanFacts, facts_of, header_of
from ucseg.data.formats import files_of
from ucseg.data.manifest import Dataset
from ucseg.data.parallel import for_each
from ucseg.errors import UserError
from ucseg.types import Case

FILE = "fingerprint.json"
HELD_OUT_FILE = "held_out.json"
"""Of the scans to validate and test on, of which the plan must know nothing: only duplicates are looked for."""
VERSION = 2
"""Raise it when facts come to mean something else: those kept by older versions are then measured anew."""
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
) -> list[ScanFacts | str]:
    """The facts of each case, or why it cannot be used; those of unchanged files come from the dataset's cache.

    Args:
        slice_axis: the canonical axis across the slices of volumes.
        done: called after each case.
        file: in the cache, which keeps the facts of these cases and of no others.
    """
    keep = dataset.folder / "cache" / file
    config = dataset.config
    reading = [VERSION, slice_axis, config.mask_threshold, config.fill_outlines, list(config.classes.values())]
    known = _read(keep, reading)

    def measure(case: Case) -> tuple[ScanFacts | str, str]:
        state = _state(case)
        if known.get(case.case, {}).get("state") == state:
            return ScanFacts.from_plain(known[case.case]["facts"]), state
        return facts_of(case, config, slice_axis), state

    found = for_each(measure, cases, done, most=VOLUMES_AT_ONCE if config.dims == 3 else None)
    facts = {
        case.case: {"state": state, "facts": one.plain()}
        for case, (one, state) in zip(cases, found, strict=True)
        if not isinstance(one, str)
    }
    if facts != known:
        _write(keep, {"reading": reading, "scans": facts})
    return [one for one, _ in found]


def _state(case: Case) -> str:
    """Which files a case is read from, how large and how old they are."""
    parts = []
    for path in (case.image, case.mask):
        if path is None:
            continue
        try:
            files = [(file, file.stat()) for file in files_of(path)]
        except (OSError, UserError):
            return ""  # reading it will say why
        parts += [str(path), *(f"{file.name} {stat.st_size} {stat.st_mtime_ns}" for file, stat in files)]
    return "; ".join(parts)


def _read(path: Path, reading: list[Any]) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["scans"]) if kept["reading"] == reading else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none there, or not whole: everything is measured again


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, ".json") as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")
    except (OSError, UserError):
        return  # a dataset that cannot be written to is measured anew each time
