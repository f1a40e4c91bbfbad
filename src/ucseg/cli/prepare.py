"""`ucseg prepare`: resample and normalise every case once, so that training only has to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import output, say
from ucseg.cli.training_words import say_what_was_lost
from ucseg.errors import Interrupted

if TYPE_CHECKING:
    from ucseg.batches.prepare import Prepared


def prepare(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote.")],
    plan: Annotated[
        Path | None,
        typer.Option(help="Plan to follow; made and written if there is none.", show_default="DATASET/plan.yaml"),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the arrays.", show_default="DATASET/cache")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Most cases at a time.", show_default="one a core")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> Prepared:
    """Prepare the training and validation cases of a dataset; cases that are there and unchanged are kept.

    A case that cannot be prepared is named with its reason and left out; the others are done. Classes that are too
    small for the network's grid are named with their cases.

    Returns:
        The prepared cases, and those left out.

    Raises:
        UserError: a file of the dataset or the plan cannot be read, no labelled case could be prepared, or the cache
            cannot be written to.
        Interrupted: stopped by the user.
    """
    from ucseg.batches.prepare import prepare as prepare_dataset
    from ucseg.dataset.manifest import load_dataset
    from ucseg.planning.choosing import make_plan
    from ucseg.planning.origin import cases_changed, require_fit
    from ucseg.planning.plan import read_plan, write_plan

    data = load_dataset(dataset)
    path = plan or data.folder / "plan.yaml"
    if plan is None and not path.exists():
        write_plan(make_plan(data), path)
        say("plan-written", f"no plan yet: made one from the data, {path}")
    chosen = read_plan(path)
    require_fit(chosen, data, path)
    if plan is None and (changed := cases_changed(chosen, data)):
        say("plan-of-other-cases", f"{path}: {changed}. 'ucseg plan {data.folder}' makes it again.", "yellow")
    try:
        prepared = prepare_dataset(data, chosen, cache, workers, progress)
    except KeyboardInterrupt:
        raise Interrupted("stopped; prepared cases are kept, and the same command continues.") from None

    counts = f"{len(prepared.labelled)} labelled, {len(prepared.unlabelled)} unlabelled, {len(prepared.validation)}"
    output.print(f"prepared {counts} validation cases; {prepared.made} made now")
    for case, reason in prepared.left_out:
        say("case-left-out", f"left out: {case}: {reason}", "yellow")
    if prepared.left_out:
        number = len(prepared.left_out)
        say("cases-left-out", f"{number} case{'s' * (number != 1)} left out; training works without.", "yellow")
    say_what_was_lost(prepared)
    return prepared
