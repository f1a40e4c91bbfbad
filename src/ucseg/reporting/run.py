"""The sections of a training run: its plan with the reasons, its settings, and its learning curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.config import flat
from ucseg.errors import UserError
from ucseg.machine.reading import read_json
from ucseg.planning.plan import Plan, read_plan, read_reasons
from ucseg.reporting import figures
from ucseg.training.run_folder import RunFolder
from ucseg.types import Array

_NOT_CURVES = ("step", "seconds", "validation")
_MOST_POINTS = 2000


def plan_section(run: Path | None, data: Path | None) -> dict[str, Any] | None:
    """The run's plan, or else the dataset's; the reasons stand in the dataset's. None: there is no plan."""
    files = [folder / "plan.yaml" for folder in (run, data) if folder is not None]
    files = [file for file in files if file.is_file()]
    if not files:
        return None
    try:
        plan = read_plan(files[0])
        known = [(read_plan(file), read_reasons(file)) for file in files]
    except UserError as error:
        return {"problem": str(error)}
    rows = []
    for key, value in plan.model_dump(mode="json").items():
        why = next(
            (reasons[key] for other, reasons in known if key in reasons and getattr(other, key) == getattr(plan, key)),
            "",
        )
        if key not in ("augmentation", "made_of"):
            rows.append((key, _shown(value), why, Plan.model_fields[key].description or ""))
    augmentation = {key: _shown(value) for key, value in plan.augmentation.model_dump(mode="json").items()}
    return {"problem": "", "file": str(files[0]), "rows": rows, "augmentation": augmentation}


def training_section(folder: Path) -> dict[str, Any]:
    """Settings and learning curves. Of a part that cannot be read, the reason stands in its place."""
    run = RunFolder(folder)
    config = run.config
    problem, lines, unfinished = "", [], ""
    try:
        lines, unfinished = run.metrics(), run.unfinished
    except UserError as error:
        problem = str(error)
    cases = config.get("cases", {})
    settings = {f"method.{key}": value for key, value in flat(config.get("method", {}).get("config") or {}).items()}
    settings |= {f"train.{key}": value for key, value in flat(config.get("train", {})).items()}
    time_file = folder / "time.json"
    time = read_json(time_file) if time_file.is_file() else {}
    return {
        "problem": problem,
        "unfinished": unfinished,
        "facts": {
            "method": str(config.get("method", {}).get("name", "")),
            "steps": str(lines[-1].get("step", "")) if lines else "none logged",
            "labelled cases": str(len(cases.get("labelled", []))),
            "unlabelled cases": str(len(cases.get("unlabelled", []))),
            "validation cases": str(len(cases.get("validation", []))),
            "what would help most": str(time.get("would_help_most", "")),
        },
        "settings": {key: _shown(value) for key, value in settings.items()},
        "curves": _curves(lines),
        "validation": _validation(lines),
    }


def _curves(lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Name, last value and plot of everything that was logged, the sum of the losses first."""
    names = dict.fromkeys(name for line in lines for name in line if name not in _NOT_CURVES)
    found = []
    for name in names:
        steps, values = _points(lines, name)
        if len(values):
            found.append((name, f"{values[-1]:.4g}", figures.curve(steps, values)))
    return found


def _points(lines: list[dict[str, Any]], name: str) -> tuple[Array, Array]:
    known = [(line["step"], line[name]) for line in lines if _number(line.get(name)) and _number(line.get("step"))]
    known = known[:: 1 + len(known) // _MOST_POINTS]
    steps, values = np.array(known, float).reshape(-1, 2).T
    return steps, values


def _validation(lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Dice on validation cases: the plot, and of each line its name, colour, last and best value."""
    inner = [
        {"step": line.get("step"), **line["validation"]} for line in lines if isinstance(line.get("validation"), dict)
    ]
    names = dict.fromkeys(name for line in inner for name in line if name != "step")
    curves = {name: points for name in names if len((points := _points(inner, name))[0])}
    if not curves:
        return None
    steps = np.array([line["step"] for line in inner if _number(line["step"])], float)
    every = []
    for own_steps, values in curves.values():
        on = np.full(len(steps), np.nan)
        on[np.searchsorted(steps, own_steps)] = values
        every.append(on)
    rows = [
        (name, figures.colour(place), f"{values[-1]:.3f}", f"{values.max():.3f}", f"{own[values.argmax()]:.0f}")
        for place, (name, (own, values)) in enumerate(curves.items())
    ]
    return {"plot": figures.validation(steps, every) if len(steps) > 1 else "", "rows": rows}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
