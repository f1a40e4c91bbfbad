"""`ucseg report`: data, plan, learning curves, numbers and cases on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ucseg.cli.terminal import say, stages
from ucseg.errors import UserError


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A dataset, a run, predictions or an evaluation; or one of each.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="The page, report.html.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")] = False,
) -> Path:
    """Show a training on one page: its data, plan, learning curves, numbers and cases.

    The page is one HTML file with all pictures in it: it loads nothing, and can be sent or kept. Give the last folder
    that you have: an evaluation leads to its predictions, these to their run, and a run to its dataset. Sections
    appear as far as these folders are there.

    The data come with a contact sheet, the sizes, spacings and intensities of the training scans, and the amount of
    each label. Cases are drawn with reference, mask and uncertainty: the worst, the middle and the best of an
    evaluation, and those with the highest failure scores of the predictions.

    Returns:
        the page's path.

    Raises:
        UserError: a folder is none that ucseg writes, its files are damaged, or the page cannot be written.
    """
    from ucseg.machine.writing import require_place
    from ucseg.reporting.page import write_report
    from ucseg.reporting.sources import find_sources

    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError("report-name", f"--out {out}: a page ends in .html; choose such a name.")
    require_place(out, folder=False)
    if out.exists() and not overwrite:
        raise UserError("report-exists", f"{out}: is already there; choose another --out, or add --overwrite.")
    sources = find_sources(folders)
    with stages() as advance:
        missing = write_report(out, sources, advance)
    for line in missing:
        say("report-missing", line, "yellow")
    say("report", f"Wrote {out}; open it in a browser.")
    return out
