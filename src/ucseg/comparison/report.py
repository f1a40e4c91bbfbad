"""The files of a comparison: cases.csv, table.csv, summary.json and index.html, written again after every cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ucseg import __version__
from ucseg.comparison import words
from ucseg.comparison.cell import WEIGHTS
from ucseg.comparison.doubts import RANKINGS
from ucseg.comparison.figures import boxes, colours, differences, label_efficiency
from ucseg.comparison.grid import ALL, Cell
from ucseg.comparison.summary import Comparison, Row, Summary, case_table, summarise
from ucseg.evaluation.metrics import METRICS
from ucseg.evaluation.uncertainty_maps import VOXEL_COLUMNS
from ucseg.machine.writing import write_json, write_text
from ucseg.pictures.page import write_page

PAGE, TABLE, CASES, SUMMARY = "index.html", "table.csv", "cases.csv", "summary.json"
CASE_COLUMNS = ["test", "case", "subject", "class", "variant", "labelled", "seed", "weights", "status"]
CASE_COLUMNS += [*METRICS, "unit"]
SHOWN_DOUBTS = ("auroc", "aupr", "ece", "ece_near", "brier_near", "excess_aurc", "spearman", "failure_auroc")


@dataclass(frozen=True)
class Study:
    """What is compared, for people and for the files.

    Attributes:
        cells: the whole grid, in order.
        amounts: labelled amount -> number of labelled cases, in order; the last is "all".
        tests: key of a test set -> its title.
        facts: name and value of what stands at the page's top.
    """

    out: Path
    cells: list[Cell]
    amounts: dict[str, int]
    tests: dict[str, str]
    reference: str
    facts: dict[str, str]
    settings: dict[str, Any]
    command: str
    notes: list[str] = field(default_factory=list)


def write_report(study: Study, done: Mapping[Cell, dict[str, Any]], failed: Mapping[Cell, str]) -> Summary:
    """Write the four files, each whole or not at all; `done` may hold cells measured on some of the test sets only."""
    ordered = {cell: done[cell] for cell in study.cells if cell in done}
    table = case_table(ordered)
    table = table[table["test"].isin(list(study.tests))]
    summary = summarise(table, ordered, study.reference)
    titled = table.assign(test=table["test"].map(study.tests))
    for name, shown in ((CASES, titled[CASE_COLUMNS]), (TABLE, pd.DataFrame(flat_rows(study, summary)))):
        write_text(study.out / name, shown.to_csv(index=False, float_format="%.6g"))
    write_json(study.out / SUMMARY, _everything(study, ordered, failed, summary))
    write_page(study.out / PAGE, "compare_page.html.j2", _page(study, table, ordered, failed, summary), __package__)
    return summary


def finished(study: Study, results: Mapping[Cell, dict[str, Any]]) -> dict[Cell, dict[str, Any]]:
    """The cells that have been measured on every test set."""
    return {cell: result for cell, result in results.items() if set(study.tests) <= set(result["tests"])}


def flat_rows(study: Study, summary: Summary) -> list[dict[str, Any]]:
    """A line a row of the summary, its comparison with the reference beside it."""
    lines = []
    for row in in_order(study, summary.rows):
        line: dict[str, Any] = {
            "test": study.tests[row.test],
            "labelled": row.labelled,
            "labelled_cases": study.amounts[row.labelled],
            "weights": row.weights,
            "variant": row.variant,
            "seeds": len(row.seeds),
            "subjects": row.subjects,
            "cases": row.cases,
        }
        for metric, figure in row.metrics.items():
            line[metric] = figure.mean
            line |= {f"{metric}_{key}": getattr(figure, key) for key in ("spread", "low", "high")}
        line |= {f"uncertainty_{name}": row.doubts.get(name, math.nan) for name in (*VOXEL_COLUMNS, *RANKINGS)}
        line |= {f"dice {name}": value for name, value in row.dice_by_class.items()}
        one = summary.comparison_of(row)
        line |= {
            "gap_closed": row.gap_closed,
            "difference": one.difference if one else math.nan,
            "p": one.p if one else math.nan,
            "p_holm": one.p_holm if one else math.nan,
            "verdict": _verdict(study, row, one),
            "steps": row.steps,
            "training_seconds": row.seconds,
            "work_seconds": row.work,
            "peak_gib": row.peak_bytes / 2**30,
            "parameters": row.parameters,
        }
        lines.append(line)
    return lines


def in_order(study: Study, rows: Sequence[Row]) -> list[Row]:
    """Rows by test set, labelled amount and weights, each in the grid's order."""
    tests, amounts = list(study.tests), list(study.amounts)
    return sorted(
        rows, key=lambda row: (tests.index(row.test), amounts.index(row.labelled), WEIGHTS.index(row.weights))
    )


def sections_of(study: Study, summary: Summary) -> Iterator[tuple[str, str, list[Row]]]:
    """Test set, kind of weights and their rows, in order; only those that have rows."""
    rows = in_order(study, summary.rows)
    for test in study.tests:
        for weights in WEIGHTS:
            if own := [row for row in rows if (row.test, row.weights) == (test, weights)]:
                yield test, weights, own


def code_versions(done: Mapping[Cell, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Version and commit -> cells that were made with it: more than one is worth knowing."""
    found: dict[str, list[str]] = {}
    for cell, result in done.items():
        found.setdefault(code_version(result["ucseg"], result["environment"]), []).append(cell.name)
    return found


def code_version(version: str, environment: Mapping[str, Any]) -> str:
    """Version, and the commit where it is known."""
    commit = environment.get("commit")
    return version + (f" ({commit})" if commit else "")


def _everything(
    study: Study, done: Mapping[Cell, dict[str, Any]], failed: Mapping[Cell, str], summary: Summary
) -> dict[str, Any]:
    return {
        "ucseg": __version__,
        "command": study.command,
        "settings": study.settings,
        "labelled_cases": study.amounts,
        "tests": study.tests,
        "reference": study.reference,
        "facts": study.facts,
        "notes": [*study.notes, *words.of_silent_terms(done)],
        "rules": list(words.RULES),
        "finished": len(finished(study, done)),
        "cells": len(study.cells),
        "failed": {cell.name: reason for cell, reason in failed.items()},
        "code": code_versions(done),
        "machines": list({str(one): one for one in (result["environment"] for result in done.values())}.values()),
        "rows": [asdict(row) for row in in_order(study, summary.rows)],
        "comparisons": [asdict(one) for one in summary.comparisons],
        "gap_undefined": [[*place, reason] for place, reason in summary.gaps.items()],
        "training": {cell.name: result["training"] for cell, result in done.items()},
        "left_out": {
            cell.name: lost for cell, result in done.items()
            if (lost := {study.tests[key]: one["left_out"] for key, one in result["tests"].items()
                         if key in study.tests and one["left_out"]})
        },
    }  # fmt: skip


def _page(
    study: Study, table: pd.DataFrame, done: Mapping[Cell, dict[str, Any]], failed: Mapping[Cell, str], summary: Summary
) -> dict[str, Any]:
    shade = colours(in_order(study, summary.rows))
    fractions = {amount: count / study.amounts[ALL] for amount, count in study.amounts.items()}
    sections = []
    for test, weights, own in sections_of(study, summary):
        part = table[(table["test"] == test) & (table["weights"] == weights)]
        places = [(amount, (test, amount, weights)) for amount in study.amounts]
        sections.append(
            {
                "title": study.tests[test],
                "weights": weights,
                "subjects": max(row.subjects for row in own),
                "cases": max(row.cases for row in own),
                "unit": part["unit"].iloc[0],
                "rows": [row_texts(study, row, summary.comparison_of(row)) for row in own],
                "classes": sorted({name for row in own for name in row.dice_by_class}),
                "words": [(amount, said) for amount, place in places if (said := words.verdicts(summary, place))],
                "doubts": any(row.doubts for row in own),
                "boxes": boxes(part, list(study.amounts), shade),
                "curves": label_efficiency(own, fractions, shade),
                "differences": differences(part, study.reference, list(study.amounts), shade),
            }
        )
    return {
        "version": __version__,
        "study": study,
        "finished": len(finished(study, done)),
        "silent": words.of_silent_terms(done),
        "failed": [(str(cell), reason) for cell, reason in failed.items()],
        "sections": sections,
        "rules": words.RULES,
        "doubts": SHOWN_DOUBTS,
        "versions": (versions := code_versions(done)),
        "several_versions": words.of_several_versions(versions),
    }


def row_texts(study: Study, row: Row, one: Comparison | None) -> dict[str, str]:
    """The figures of a row and of its comparison with the reference, as text."""
    return {
        "labelled": f"{row.labelled} ({study.amounts[row.labelled]})",
        "variant": row.variant,
        "seeds": str(len(row.seeds)),
        "dice": row.metrics["dice"].text(3),
        "spread": words.number(row.metrics["dice"].spread, ".3f"),
        "hd95": row.metrics["hd95"].text(1),
        "assd": row.metrics["assd"].text(2),
        "gap": words.number(row.gap_closed, ".0%"),
        "difference": words.signed(one.difference) if one else "",
        "p": words.p_text(one.p_holm) if one else "",
        "verdict": _verdict(study, row, one),
        "steps": words.number(row.steps, ".0f", ""),
        "seconds": words.number(row.seconds, ".0f", ""),
        "work": words.number(row.work, ".0f", ""),
        "parameters": words.number(row.parameters / 1e6, ".2f", ""),
        **{f"doubt {name}": words.number(row.doubts.get(name, math.nan), ".3f", "") for name in SHOWN_DOUBTS},
        "memory": words.number(row.peak_bytes / 2**30, ".2f", ""),
    } | {f"dice {name}": words.number(value, ".3f") for name, value in row.dice_by_class.items()}


def _verdict(study: Study, row: Row, one: Comparison | None) -> str:
    return one.verdict if one else "reference" if row.variant == study.reference else ""
