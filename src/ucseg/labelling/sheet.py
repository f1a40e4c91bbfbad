"""The contact sheet of a list: each case's picture with the model's mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ucseg import __version__
from ucseg.dataset.case import Case
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices
from ucseg.labelling.measures import slice_axis
from ucseg.labelling.shortlist import SHEET, as_class_indices
from ucseg.pictures.contact_sheet import Tile
from ucseg.pictures.drawing import View, legend, overlay
from ucseg.pictures.page import small_uri, write_page
from ucseg.pictures.planes import Planes
from ucseg.planning.plan import Plan
from ucseg.scans.reading import read_mask, read_scan

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
    planes = Planes.of(scan.geometry, mask.shape, case.image, None if number is None else slice_axis(scan, plan))
    view = View(planes, planes.fullest(mask) if number is None else planes.number(number))
    picture = view.lettered(overlay(view.canvas(scan.array), view.labels(mask), tint=_TINT))
    return Tile(f"{row['rank']}. {case.case}", str(row["start"]), view.where, small_uri(picture))
