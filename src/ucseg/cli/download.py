"""`ucseg download`: a public data set from its address, if it has one under an open licence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import output, progress_bar, say
from ucseg.errors import UserError

if TYPE_CHECKING:
    from ucseg.catalogue.download import Report


def download(
    name: Annotated[
        str, typer.Argument(help="Name of the data set; `ucseg datasets NAME` shows whether it has an address.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the archives and what is in them.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Do not ask whether the licence is accepted.")
    ] = False,
) -> Path:
    """Download and unpack a public data set, after showing its licence. Then import it with the same name.

    Give the same command again to continue a download that stopped. Every file is verified by its published checksum.
    If none is published, that of the first download counts (checksums.txt).

    Returns:
        the folder.

    Raises:
        UserError: there is no public address, the licence was not accepted, or as in `catalogue.download.fetch`.
    """
    from ucseg.catalogue import DATASETS, named
    from ucseg.catalogue.download import fetch, unpack

    public = named(name)
    if not public.downloads:
        known = ", ".join(key for key, other in DATASETS.items() if other.downloads)
        raise UserError(
            "no-download",
            f"{name} has no public address under an open licence; get it from its makers and `ucseg import` it. "
            f"These can be downloaded: {known}.",
        )
    output.print(f"{name}: {public.title}\nlicence  {public.licence}\ncite     {public.citation}", soft_wrap=True)
    if not accept_licence:
        if not sys.stdin.isatty():
            raise UserError("licence-not-asked", f"{name} is under {public.licence}; accept it with --accept-licence.")
        if not typer.confirm("Do you accept the licence?"):
            raise UserError("licence-not-accepted", "The licence was not accepted; nothing was downloaded.")
    with progress_bar() as bar:

        def report(file: str) -> Report:
            task = bar.add_task(file, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total or None)

        for file in public.downloads:
            archive = fetch(file, out, report(file.file))
            unpack(archive, out)
            say("unpacked", f"{archive.name} is there, verified and unpacked.")
    say("next", f"Next: ucseg import {name} {out} --out DATASET")
    return out
