"""`ucseg check`: all problems of a dataset in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.reading_options import Every
from ucseg.cli.terminal import output, progress_bar, say
from ucseg.errors import cause

if TYPE_CHECKING:
    from ucseg.dataset.manifest import Dataset
    from ucseg.soundness.finding import Finding

SHOWN = 3
"""Files that a problem names."""


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote, or its dataset.yaml.")],
    every: Every = False,
) -> list[Finding]:
    """Is this dataset sound? Reports all problems at once, each with its file, what was found and how to fix it.

    Exit code 0 when nothing or only warnings were found, 2 when there are errors.

    Returns:
        the warnings, when there are no errors.

    Raises:
        UnsoundDatasetError: (a UserError) there are errors; its `findings` are all of them and the warnings.
    """
    from rich.table import Column, Table

    from ucseg.cli.contact_sheet import show_contact_sheet
    from ucseg.dataset.manifest import load_dataset
    from ucseg.pictures.contact_sheet import ContactSheet
    from ucseg.soundness.check import UnsoundDatasetError, check_dataset

    loaded = load_dataset(dataset)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(loaded.cases))
        sheet = ContactSheet(loaded)
        findings = check_dataset(loaded, lambda: bar.advance(task), sheet.see)
    if not findings:
        say("sound", f"{loaded.config.name}: {len(loaded.cases)} cases, nothing to fix.")
        _say_what_comes_next(loaded)
        show_contact_sheet(sheet)
        return findings
    rows = folded(findings, every)
    table = Table("", Column("file", overflow="fold"), "finding", "fix", show_lines=len(rows) < 40)
    for row in rows:
        table.add_row(*row)
    output.print(table)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    summary = f"{loaded.config.name}: {len(loaded.cases)} cases, {counts}"
    if errors:
        show_contact_sheet(sheet)
        raise UnsoundDatasetError(f"{summary}; fix the errors before training.", findings)
    say("only-warnings", f"{summary}.")
    _say_what_comes_next(loaded)
    show_contact_sheet(sheet)
    return findings


def _say_what_comes_next(dataset: Dataset) -> None:
    say("next", f"Next: ucseg train {dataset.folder} --out RUN")


def folded(findings: list[Finding], every: bool) -> list[tuple[str, str, str, str]]:
    """Rows of the table: severity, files, finding, fix. Many findings of one cause are one row, unless `every`."""
    said: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        said.setdefault((one.severity, one.finding, one.fix), []).append(one)
    kinds: dict[tuple[str, str, str], list[list[Finding]]] = {}
    for same in said.values():
        first = same[0]
        # What init left out is of many causes.
        about = cause(first.finding) if first.kind == "left-out" else ""
        kinds.setdefault((first.severity, first.kind, about), []).append(same)
    rows: list[tuple[str, str, str, str]] = []
    for groups in kinds.values():
        folds = not every and len(groups) > SHOWN
        for group in [[one for same in groups for one in same]] if folds else groups:
            names = list(dict.fromkeys(one.file for one in group))
            more = 0 if every else len(names) - SHOWN
            named = "\n".join([*names[:SHOWN], f"and {more} more (--all)"] if more > 1 else names)
            others = f" ... and {len(group) - 1} more of this kind (--all)" if folds else ""
            rows.append((group[0].severity, named, f"{group[0].finding}{others}", group[0].fix))
    return rows
