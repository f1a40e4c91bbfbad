"""How are the facts of many scans measured? Several are read at a time, and again only where files have changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CACHE, Dataset
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.machine.writing import whole_file
from ucseg.planning.facts import ScanFacts, facts_of, round_trip
from ucseg.scans.orientation import canonical_axes, to_canonical
from ucseg.scans.reading import files_of, read_header

FILE = "fingerprint.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
"""Of validation and test scans: only duplicates are looked for among them, and the plan must not see them."""
ROUND_TRIPS_FILE = "round_trips.jsonl"
VERSION = 7
"""Raise it when facts change their meaning: those of older versions are then measured again."""
ROUND_TRIPS_VERSION = 4
Look = Callable[[Case, int | None, ScanFacts | None], ScanFacts | str]
"""Reads a scan and returns its facts; given the case, the slice axis, and the facts if they are known."""
VOLUMES_AT_ONCE = 4
"""Volumes in memory at a time, however many cores there are."""
RoundTrips = dict[str, dict[int, float]]
"""By shape of the network's grid ("64x64"): Dice by class of a mask that went there and back."""
Kept = TypeVar("Kept")
_FACTS = TypeAdapter(tuple[str, str, ScanFacts])
"""Case, state of its files, and facts."""
_ROUND_TRIPS = TypeAdapter(tuple[str, str, RoundTrips])


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
    reading = [VERSION, slice_axis, *_reading_masks(config)]
    known = _read(keep, reading, _FACTS)

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
        _write(keep, reading, facts, _FACTS)
    return [one for _, one in found]


def measure_round_trips(dataset: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[int, float]]:
    """Of labelled cases, by name: the Dice of each class of their masks after the way to the network's grid and back.

    Only masks are read, each once for every shape.

    Args:
        shapes: S of the network's grid by case, in canonical axes.

    Raises:
        UserError: a mask cannot be read any more.
    """
    keep = dataset.folder / CACHE / ROUND_TRIPS_FILE
    config = dataset.config
    reading = [ROUND_TRIPS_VERSION, *_reading_masks(config)]
    known = _read(keep, reading, _ROUND_TRIPS)
    cases = [case for case in dataset.labelled if case.case in shapes]

    def measure(case: Case) -> tuple[str, RoundTrips]:
        state, before, shape = _state(case), known.get(case.case), _named(shapes[case.case])
        kept = before[1] if before and before[0] == state else {}
        if shape in kept:
            return state, kept
        size, geometry, _ = read_header(case.image)
        assert case.mask is not None
        label = read_label(case.mask, size, config, geometry, case.slices)
        label = to_canonical(label[None], *canonical_axes(geometry, case.image.path))[0]
        return state, {**kept, shape: round_trip(label, shapes[case.case])}

    found = for_each(measure, cases, most=VOLUMES_AT_ONCE if config.dims == 3 else None)
    now = {case.case: one for case, one in zip(cases, found, strict=True)}
    if any(known.get(case) != one for case, one in now.items()):
        others = {case.case: known[case.case] for case in dataset.labelled if case.case in known.keys() - now.keys()}
        _write(keep, reading, others | now, _ROUND_TRIPS)
    return {case: trips[_named(shapes[case])] for case, (_, trips) in now.items()}


def _reading_masks(config: DatasetConfig) -> list[Any]:
    """What decides which classes a mask holds, and where."""
    names = list(config.classes.values())
    values = {str(value): index for value, index in config.values.items()}
    where = [config.geometry, list(config.spacing or ())]
    return [config.mask_threshold, config.fill_outlines, names, values, config.not_annotated, *where]


def _named(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


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
    if case.slices is not None:
        parts.append(f"slices {case.slices}")
    return "; ".join(parts)


def _read(path: Path, reading: list[Any], line: TypeAdapter[tuple[str, str, Kept]]) -> dict[str, tuple[str, Kept]]:
    """State and measured value by case, one line each: the text of thousands is never in memory at once."""
    try:
        with path.open("rb") as lines:
            if json.loads(next(lines)) != reading:
                return {}
            return {case: (state, kept) for case, state, kept in map(line.validate_json, lines)}
    except (OSError, ValueError, StopIteration):
        return {}  # no file, or only a part: everything is measured again


def _write(
    path: Path,
    reading: list[Any],
    measured: Mapping[str, tuple[str, Kept]],
    line: TypeAdapter[tuple[str, str, Kept]],
) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, ".jsonl") as temporary, temporary.open("wb") as lines:
            lines.write(json.dumps(reading).encode())
            lines.writelines(b"\n" + line.dump_json((case, *kept)) for case, kept in measured.items())
    except (OSError, UserError):
        return  # a folder that cannot be written to: measured again each time
