"""Puts the sections of a report together, as far as the folders have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ucseg import __version__
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.errors import UserError
from ucseg.pictures.drawing import colour_scale, legend
from ucseg.pictures.page import exact_uri, write_page
from ucseg.reporting.data import data_section
from ucseg.reporting.references import References
from ucseg.reporting.results import EACH, Pictures, case_scores, chosen, numbers_section, queue_section
from ucseg.reporting.run import plan_section, training_section
from ucseg.reporting.sources import Sources, named

Done = Callable[[str, int], None]


def write_report(out: Path, sources: Sources, done: Done | None = None) -> list[str]:
    """Write the page, whole or not at all.

    Args:
        done: called with (stage, number of its parts) after each part, for a progress bar.

    Returns:
        what is missing, in sentences; the page says it too.

    Raises:
        UserError: a file of a folder is damaged, or the page cannot be written.
    """
    missing = [
        f"{lost}: is not found, so its part of the report is missing; give it too, if it has moved."
        for lost in sources.lost
    ]
    if sources.trained_on is not None:
        missing.append(
            f"{sources.run}: was trained on another dataset, {sources.trained_on}; the data shown are those of the "
            "evaluation."
        )
    data: Dataset | None = None
    if sources.data is not None:
        try:
            data = load_dataset(sources.data)
        except UserError as error:
            missing.append(str(error))
    values: dict[str, Any] = {
        "version": __version__,
        "folders": named(sources),
        "missing": missing,
        "data": None,
        "plan": plan_section(sources.run, sources.trained_on or sources.data),
        "training": None if sources.run is None else training_section(sources.run),
        "numbers": None if sources.numbers is None else numbers_section(sources.numbers),
        "cases": [],
        "queue": None,
        "first": [],
        "worst": [],
        "classes": [] if data is None else legend(data.config.classes),
        "scale": exact_uri(colour_scale()),
    }
    if data is not None:
        training = len(data.training)
        values["data"] = data_section(
            data, None if done is None else lambda: done("measuring training scans", training)
        )
    if sources.masks is not None:
        references = References(sources, data)
        missing += references.missing
        pictures = Pictures(sources.masks, references)
        queue = queue_section(pictures.rows)
        values |= {"queue": queue, "first": pictures.draw(queue["first"])}
        if sources.numbers is not None:
            scores = case_scores(sources.numbers)
            notes = {case: f"{what}: Dice {scores[case]:.3f}" for case, what in chosen(scores)}
            values |= {"cases": pictures.draw(notes), "worst": [(case, scores[case]) for case in list(notes)[:EACH]]}
    write_page(out, "report.html.j2", values, __package__)
    return missing
