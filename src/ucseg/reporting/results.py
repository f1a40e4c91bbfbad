"""The sections of predictions and their numbers: means, box plots, cases as pictures, what to look at first."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field

from ucseg.config import Strict, build
from ucseg.errors import UserError
from ucseg.evaluation.metrics import METRICS
from ucseg.folder.predictions import FAILURE_SCORE, INTERVAL, PREDICTED_DICE, rows_of
from ucseg.inference.class_means import mean_of_class_means
from ucseg.machine.reading import read_json
from ucseg.pictures.gallery import GalleryCase, Picture, draw_row
from ucseg.pictures.page import small_uri
from ucseg.reporting import figures
from ucseg.reporting.references import References
from ucseg.reporting.sources import METRICS_FILE
from ucseg.scans.address import Address
from ucseg.scans.reading import read_mask, read_scan
from ucseg.scans.scan import Scan
from ucseg.scans.writing import map_ending
from ucseg.types import Array

EACH = 2
"""Of the best, the middle and the worst cases."""
QUEUE, QUEUE_PICTURES = 50, 6
PLOTS = ("reliability.png", "risk_coverage.png")
_MOST_PLOT = 4000
"""Pixels along an edge of a plot that is taken into the page."""


class _Figure(Strict):
    model_config = ConfigDict(extra="allow")

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class _Summary(Strict):
    model_config = ConfigDict(extra="allow")

    label: int | None = None
    name: str = ""
    metrics: dict[str, _Figure] = Field(default_factory=dict)
    evaluated: int = 0
    missed: int = 0
    false_positives: int = 0
    both_empty: int = 0


class _Uncertainty(Strict):
    model_config = ConfigDict(extra="allow")

    all: dict[str, float | None] = Field(default_factory=dict)
    scores: dict[str, dict[str, float | None]] = Field(default_factory=dict)


class _Metrics(Strict):
    """metrics.json, as far as a page shows it."""

    model_config = ConfigDict(extra="allow")

    unit: str = "px"
    cases: int = 0
    subjects: int = 0
    command: str = ""
    all: _Summary = _Summary()
    by_class: list[_Summary] = Field(default_factory=list, max_length=256)
    failed: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    uncertainty: _Uncertainty | None = None


def numbers_section(folder: Path) -> dict[str, Any]:
    """Means, intervals and box plots of an evaluation, and what its uncertainty is worth.

    Raises:
        UserError: a file of the evaluation is damaged.
    """
    file = folder / METRICS_FILE
    found = build(_Metrics, read_json(file), str(file))
    summaries = [*found.by_class, *([found.all] if len(found.by_class) > 1 else [])]
    rows = [
        (one.name, [_text(one.metrics.get(name), name) for name in METRICS], one.missed, one.false_positives)
        for one in summaries
    ]
    values = {name: _by_class(folder, name) for name in ("dice", "hd95")}
    plots = [
        figures.boxes(values["dice"], "Dice of each case", bounded=True),
        figures.boxes(values["hd95"], f"HD95 of each case ({found.unit})", bounded=False),
    ]
    tolerance = found.settings.get("tolerance")
    within = f" at {tolerance:g} {found.unit}" if isinstance(tolerance, int | float) else ""
    return {
        "dice": _text((summaries or [found.all])[-1].metrics.get("dice"), "dice"),
        "cases": found.cases,
        "subjects": found.subjects,
        "unit": found.unit,
        "command": found.command,
        "heads": ["Dice", "Jaccard", f"HD95 ({found.unit})", f"ASSD ({found.unit})", f"surface Dice{within}"],
        "rows": rows,
        "plots": plots if found.by_class else [],
        "classes": [(one.label, one.name) for one in found.by_class],
        "failed": found.failed,
        "uncertainty": found.uncertainty,
        "uncertainty_plots": [uri for name in PLOTS if (uri := _plot(folder / name))],
    }


def case_scores(folder: Path) -> dict[str, float]:
    """Case -> mean Dice of its defined classes; cases without one are left out."""
    found: dict[str, list[float]] = {}
    for row in rows_of(folder):
        if (value := _float(row.get("dice"))) is not None:
            found.setdefault(row["case"], []).append(value)
    return {case: mean_of_class_means(np.array([values])) for case, values in found.items()}


def chosen(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Case and what it is: the worst, those in the middle and the best; each case once."""
    ranked = sorted(scores, key=lambda case: (scores[case], case))
    each = min(EACH, len(ranked) // 2)  # a case is not among the worst and among the best
    middle = max(0, (len(ranked) - EACH) // 2)
    places = [(i, "among the worst") for i in range(each)]
    places += [(i, "among the best") for i in range(len(ranked) - each, len(ranked))]
    places += [(i, "in the middle") for i in range(middle, middle + EACH)]
    found: dict[str, str] = {}
    for place, what in places:
        if 0 <= place < len(ranked):
            found.setdefault(ranked[place], what)
    return [(case, found[case]) for case in ranked if case in found]


class Pictures:
    """Reads cases of a folder of predictions and draws them; what cannot be read costs its own picture.

    Args:
        masks: the folder.
        references: of its cases.
    """

    def __init__(self, masks: Path, references: References) -> None:
        self._masks, self._references = masks, references
        self._rows = {row["case"]: row for row in rows_of(masks) if row.get("case")}

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines of the table, one a case."""
        return list(self._rows.values())

    def draw(self, cases: Mapping[str, str]) -> list[tuple[str, str, list[Picture], str]]:
        """Case, note, pictures, and the reason where there are none.

        Args:
            cases: case -> what stands beside its name.
        """
        read: dict[str, GalleryCase | str] = {}
        for name in cases:
            try:
                read[name] = self._read(name)
            except UserError as error:
                read[name] = str(error)
        maps = [one.uncertainty for one in read.values() if not isinstance(one, str) and one.uncertainty is not None]
        highest = max((float(np.nan_to_num(one).max()) for one in maps), default=1.0)
        drawn = []
        for name, note in cases.items():
            one = read[name]
            try:
                pictures = [] if isinstance(one, str) else draw_row(one, highest, small_uri)
                drawn.append((name, note, pictures, one if isinstance(one, str) else ""))
            except UserError as error:
                drawn.append((name, note, [], str(error)))
        return drawn

    def _read(self, name: str) -> GalleryCase:
        row = self._rows.get(name)
        if row is None or not row.get("mask"):
            raise UserError("report-no-mask", f"{self._masks}: there is no mask of {name} here; predict it again.")
        case = self._references.case_of(name, row)
        source = case.image if case is not None else Address.of(row["file"])
        image = read_scan(source)
        uncertainty = self._masks / "uncertainty" / f"{name}{map_ending(Address.of(row['file']))}"
        heat = read_scan(Address.of(uncertainty)).array[0] if uncertainty.is_file() else None
        mask = read_mask(Address.of(self._masks / row["mask"]))
        self._require_same(image, [mask.array[0], *([heat] if heat is not None else [])], name)
        reference = self._references.label(name, case, image)
        masks = {"Prediction": mask.array[0]}
        return GalleryCase(name, image.array, image.geometry, source, reference, masks, {}, heat)

    def _require_same(self, image: Scan, others: list[Array], name: str) -> None:
        if any(one.shape != image.array.shape[1:] for one in others):
            raise UserError(
                "report-other-shape",
                f"{self._masks}: the mask of {name} has another shape than its scan; predict it again.",
            )


def queue_section(rows: list[dict[str, str]]) -> dict[str, Any]:
    """The cases to look at first: the highest failure scores, and those that could not be predicted."""
    done = [row for row in rows if row.get("status", "ok") == "ok"]
    by = next((name for name in (FAILURE_SCORE, "mean_uncertainty") if any(_float(row.get(name)) for row in done)), "")
    ranked = sorted(done, key=lambda row: (-(_float(row.get(by)) or 0.0), row["case"])) if by else []
    columns = [name for name in (FAILURE_SCORE, PREDICTED_DICE, "mean_uncertainty") if any(r.get(name) for r in done)]
    sizes = [name for name in (rows[0] if rows else {}) if name.endswith(("_ml", "_px"))]
    lines = []
    for row in ranked[:QUEUE]:
        cells = [_cell(row, name) for name in columns]
        lines.append((row["case"], cells, [row.get(name, "") for name in sizes]))
    return {
        "by": by.replace("_", " "),
        "heads": [name.replace("_", " ") for name in columns],
        "sizes": sizes,
        "lines": lines,
        "more": max(0, len(ranked) - QUEUE),
        "first": {row["case"]: f"{by.replace('_', ' ')} {_cell(row, by)}" for row in ranked[:QUEUE_PICTURES]},
        "failed": [(row["case"], row.get("reason", "")) for row in rows if row.get("status") == "failed"],
    }


def _cell(row: Mapping[str, str], name: str) -> str:
    value = _float(row.get(name))
    if value is None:
        return ""
    ends = [_float(row.get(end)) for end in INTERVAL] if name == PREDICTED_DICE else [None]
    known = [f"{end:.3f}" for end in ends if end is not None]
    return f"{value:.3f}" + (f" [{', '.join(known)}]" if len(known) == 2 else "")


def _by_class(folder: Path, metric: str) -> dict[int, Array]:
    """Class -> the values of its cases; NaN where undefined."""
    found: dict[int, list[float]] = {}
    for row in rows_of(folder):
        number = _float(row.get("class"))
        if number is not None and number.is_integer() and number > 0:
            value = _float(row.get(metric))
            found.setdefault(int(number), []).append(np.nan if value is None else value)
    return {number: np.array(values) for number, values in sorted(found.items())}


def _text(figure: _Figure | None, name: str) -> str:
    if figure is None or figure.mean is None:
        return ""
    digits = 2 if name in ("hd95", "assd") else 3
    ends = [f"{end:.{digits}f}" for end in (figure.low, figure.high) if end is not None]
    return f"{figure.mean:.{digits}f}" + (f" [{', '.join(ends)}]" if len(ends) == 2 else "")


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _plot(file: Path) -> str:
    """A plot that `ucseg evaluate` wrote, as a data URI; "" if there is none, or if it is no such picture."""
    if not file.is_file():
        return ""
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if max(picture.size) > _MOST_PLOT:
                return ""
            picture.verify()
        return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return ""
