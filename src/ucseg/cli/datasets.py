"""`ucseg datasets`: the public data sets that `ucseg import` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import output

if TYPE_CHECKING:
    from ucseg.catalogue.layout import PublicSet


def datasets(
    name: Annotated[str | None, typer.Argument(help="Show all about this one.", show_default=False)] = None,
) -> dict[str, PublicSet]:
    """List the data sets that can be imported by name; with NAME, its layouts, classes, splits, licence and citation.

    Returns:
        Name -> what is known of the data set.

    Raises:
        UserError: there is no data set of this name.
    """
    from rich.table import Table

    from ucseg.catalogue import DATASETS, named

    if name is not None:
        public = named(name)
        facts = Table(box=None, show_header=False, pad_edge=False)
        for key, values in public.facts().items():
            for index, value in enumerate(values):
                facts.add_row(key if index == 0 else "", value)
        output.print(f"{name}: {public.title}", soft_wrap=True)
        output.print(facts)
        return {name: public}
    table = Table("name", "what", "splits", "licence")
    for key, public in DATASETS.items():
        table.add_row(key, public.title, ", ".join(public.splits), public.licence or "not known")
    output.print(table)
    output.print("More of one: ucseg datasets NAME. Import it: ucseg import NAME FOLDER --out DATASET")
    return dict(DATASETS)
