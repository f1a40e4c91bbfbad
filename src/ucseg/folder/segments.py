"""Segments with names (.seg.nrrd, DICOM SEG): the name says which class a segment is, whatever its number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ucseg.dataset.masks import numbers_to_classes
from ucseg.folder.survey import MaskFacts
from ucseg.scans.address import Address


def classes_of(names: Iterable[Mapping[int, str]]) -> dict[int, str] | None:
    """Classes from the names of all masks, in the order of their numbers; None where a mask has none."""
    every = list(names)
    if not every or not all(every):
        return None
    ordered = sorted((number, name) for one in every for number, name in one.items())
    found = [name for name in dict.fromkeys(name for _, name in ordered) if name.lower() != "background"]
    return {0: "background", **dict(enumerate(found, start=1))} if all(found) else None


def with_classes(mask: Address, facts: MaskFacts, classes: Mapping[int, str]) -> MaskFacts:
    """What a mask holds in terms of the classes."""
    mapping = numbers_to_classes(mask, facts.names, classes) if facts.names else None
    if mapping is None or facts.counts is None or not facts.counts:
        return facts
    counts: dict[float, int] = {}
    for value, count in facts.counts.items():
        new = float(mapping.get(int(value), int(value)))
        counts[new] = counts.get(new, 0) + count
    return replace(facts, counts=dict(sorted(counts.items())), low=min(counts), high=max(counts))
