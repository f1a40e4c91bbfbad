"""The section of a dataset: who is in which split, what the scans are like, and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ucseg.dataset.case import SPLITS
from ucseg.dataset.manifest import Dataset
from ucseg.errors import UserError
from ucseg.pictures.contact_sheet import ContactSheet
from ucseg.pictures.drawing import legend
from ucseg.planning.fingerprint import Fingerprint, take_fingerprint
from ucseg.reporting import figures
from ucseg.types import Array

TILES = 24


def data_section(dataset: Dataset, done: Callable[[], None] | None = None) -> dict[str, Any]:
    """What the page shows of a dataset; where its training scans cannot be measured, the reason.

    Args:
        done: called after each training scan.
    """
    config = dataset.config
    splits = []
    for split in SPLITS:
        cases = [case for case in dataset.cases if case.split == split]
        labelled = sum(case.mask is not None for case in cases)
        splits.append((split, len(cases), labelled, len(cases) - labelled, len({case.subject for case in cases})))
    sheet = ContactSheet(dataset, TILES)
    sheet.fill()
    section: dict[str, Any] = {
        "facts": {
            "name": config.name,
            "images": f"{config.dims}D, {config.channels} channel{'s' * (config.channels > 1)}, {config.modality}",
            "classes": ", ".join(f"{number} {name}" for number, name in config.classes.items()),
        },
        "splits": splits,
        "groups": sheet.tiles(),
        "classes": legend(config.classes),
        "problem": "",
        "measured": None,
    }
    try:
        seen = take_fingerprint(dataset, done)
    except UserError as error:
        section["problem"] = str(error)
    else:
        section["measured"] = _measured(dataset, seen)
    return section


def _measured(dataset: Dataset, seen: Fingerprint) -> dict[str, Any]:
    sizes, unit = _sizes(seen)
    voxels = sum(float(np.prod(seen.headers[name].shape)) * seen.scans[name].annotated for name in seen.labelled)
    rows = []
    for number, name in dataset.config.classes.items():
        if number:
            held = seen.cases_with(number)
            inside = sum(
                found[number].voxels for one in seen.labelled if number in (found := seen.scans[one].classes or {})
            )
            rows.append((number, name, f"{held} of {len(seen.labelled)}", _spread(sizes[number]), inside / voxels))
    return {
        "scans": len(seen.scans),
        "labelled": len(seen.labelled),
        "unit": unit,
        "voxel_unit": seen.unit,
        "shapes": [_spread(column) for column in seen.shapes.T],
        "spacings": [] if seen.unit == "px" else [_spread(column) for column in seen.spacings.T],
        "intensities": figures.intensities(seen),
        "amounts": figures.amounts(sizes, unit),
        "rows": rows,
        "left_out": seen.left_out,
    }


def _sizes(seen: Fingerprint) -> tuple[dict[int, Array], str]:
    """Class -> its size in each mask that holds it, and the unit."""
    found = {}
    for number in range(1, seen.classes):
        own = []
        for name in seen.labelled:
            facts = (seen.scans[name].classes or {}).get(number)
            if facts is not None:
                own.append(facts.voxels * (1.0 if seen.unit == "px" else np.prod(seen.headers[name].spacing) / 1000))
        found[number] = np.array(own, float)
    flat = seen.unit != "px" and len(seen.median_spacing) == 2
    return found, "px" if seen.unit == "px" else "mm² / 1000" if flat else "ml"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _spread(values: Array) -> str:
    """Least, median and greatest, in words."""
    if not len(values):
        return ""
    low, middle, high = (_number(value) for value in (values.min(), np.median(values), values.max()))
    return low if low == high else f"{low} to {high}, median {middle}"
