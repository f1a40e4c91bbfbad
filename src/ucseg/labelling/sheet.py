"""The contact sheet of a list: each case's picture with the model's mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ucseg import __version__
from ucseg.dataset.case import Case
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices
from ucseg.labelling.measures import slice_axis
from ucseg.labelling.shortlist import SHEET, as_class_indices
from ucseg.pictures.contact_sheet import Tile
from ucseg.pictures.drawing import View, legend, overlay
from ucseg.pictures.page import small_uri, write_page
from ucseg.planning.plan import Plan
from ucseg.scans.reading import read_mask, read_scan
from ucseg.scans.scan import Scan
from ucseg.types import Array

_TINT = 0.12
"""Little: what is under the mask must be seen."""


def write_sheet(
    folder: Path, rows: Sequence[Mapping[str, Any]], cases: Mapping[str, Case], config: DatasetConfig, plan: Plan
) -> Path:
    """Write a page with a picture for each row of list.csv that has a mask to start from, in their order.

    Args:
        folder: that of the list; `start` of a row is relative to it.
    """
    tiles = [_tile(folder, row, cases[str(row["case"])], config, plan) for row in rows if row["start"]]
    values = {
        "name": config.name,
        "version": __version__,
        "strategy": rows[0]["strategy"],
        "classes": legend(config.classes),
        "groups": {"": tiles},
    }
    write_page(folder / SHEET, "sheet.html.j2", values, __package__)
    return folder / SHEET


def _tile(folder: Path, row: Mapping[str, Any], case: Case, config: DatasetConfig, plan: Plan) -> Tile:
    scan = read_scan(case.image)
    mask = as_class_indices(config, read_mask(folder / str(row["start"])).array[0])
    number = None if row["slice"] == "" else Slices.read(str(row["slice"])).numbers[0]
    view = _view(scan, mask, number, plan)
    picture = overlay(view.canvas(scan.array), view.labels(mask), tint=_TINT)
    return Tile(f"{row['rank']}. {case.case}", str(row["start"]), view.where, small_uri(picture))


def _view(scan: Scan, mask: Array, number: int | None, plan: Plan) -> View:
    """That of the slice `number` of the scan's own order, else of the slice with most of the mask."""
    view = View.of(scan.geometry, mask.shape, mask)
    if number is None:
        return view
    own = slice_axis(scan, plan)
    axis = view.order.index(own)
    edges = [scan.geometry.spacing[each] for each in view.order]
    right, up = (edge for each, edge in enumerate(edges) if each != axis)
    count = mask.shape[own]
    index = count - 1 - number if view.flips[axis] else number
    return replace(view, axis=axis, index=index, slices=count, stretch=float(np.divide(up, right)))
