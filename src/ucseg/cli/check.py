"""`ucseg check`: all problems of a dataset in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import output, progress_bar, say

if TYPE_CHECKING:
    from ucseg.soundness.finding import Finding

SHOWN = 3
"""Files that a problem names."""


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote, or its dataset.yaml.")],
    every_file: Annotated[bool, typer.Option(help="Name every file of a problem that many share.")] = False,
) -> list[Finding]:
    """Is this dataset sound? Reports all problems at once, each with its file, what was found and how to fix it.

    Exit code 0 when nothing or only warnings were found, 2 when there are errors.

    Returns:
        the warnings, when there are no errors.

    Raises:
        UnsoundDatasetError: (a UserError) there are errors; its `findings` are all of them and the warnings.
    """
    from rich.table import Column, Table

    from ucseg.dataset.manifest import load_dataset
    from ucseg.soundness.check import UnsoundDatasetError, check_dataset

    loaded = load_dataset(dataset)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(loaded.cases))
        findings = check_dataset(loaded, lambda: bar.advance(task))
    if not findings:
        say("sound", f"{loaded.config.name}: {len(loaded.cases)} cases, nothing to fix.")
        return findings
    files: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        files.setdefault((one.severity, one.finding, one.fix), []).append(one.file)
    table = Table("", Column("file", overflow="fold"), "finding", "fix", show_lines=len(files) < 40)
    for (severity, finding, fix), names in files.items():
        more = 0 if every_file else len(names) - SHOWN
        named = "\n".join([*names[:SHOWN], f"and {more} more (--every-file)"] if more > 1 else names)
        table.add_row(severity, named, finding, fix)
    output.print(table)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    summary = f"{loaded.config.name}: {len(loaded.cases)} cases, {counts}"
    if errors:
        raise UnsoundDatasetError(f"{summary}; fix the errors before training.", findings)
    say("only-warnings", f"{summary}.")
    return findings
