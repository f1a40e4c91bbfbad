"""`ucseg add-masks`: finished masks become part of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.calls import typed
from ucseg.cli.terminal import progress_bar, say

if TYPE_CHECKING:
    from ucseg.labelling.finished import Finished


def add_masks(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote.")],
    masks: Annotated[Path, typer.Argument(help="Folder of finished masks, named as their cases.")],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the masks that cases have already; their files stay.")
    ] = False,
) -> Finished:
    """Give cases of a dataset their masks: cases.csv then names the files, which stay where they are.

    A mask belongs to the case of its name: CASE.nii.gz, CASE.png, or CASE_mask, CASE_seg and the like. Each one is read
    and has to fit its image. If one does not, nothing is changed.

    Returns:
        Which cases got a mask.

    Raises:
        UserError: the folder holds no mask of a case, or masks that do not fit.
    """
    from ucseg.dataset.fitting import stretched_in_words
    from ucseg.dataset.manifest import load_dataset, save_cases
    from ucseg.errors import some
    from ucseg.labelling.finished import finished_masks
    from ucseg.labelling.shortlist import run_of_list
    from ucseg.scans.address import absolute

    data = load_dataset(dataset)
    with progress_bar() as bar:
        task = bar.add_task("reading masks", total=None, visible=False)  # until it is known that there are some
        found = finished_masks(
            data,
            masks,
            overwrite=overwrite,
            report=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
        )
    data.cases = found.cases
    save_cases(data)
    if found.strangers:
        say(
            "masks-of-no-case",
            f"Left out, as no case has the name: {_counted(found.strangers, 'file')} ({some(found.strangers)}).",
            "yellow",
        )
    if found.uncorrected:
        say(
            "masks-uncorrected",
            f"Not corrected, so as the model drew them: {len(found.uncorrected)} ({some(found.uncorrected)}). "
            "A wrong one teaches the model its own mistakes.",
            "yellow",
        )
    changed = [*found.added, *found.replaced]
    if found.stretched:
        say("masks-stretched", f"{stretched_in_words(found.stretched, len(changed))}. Is that right?", "yellow")
    if found.empty:
        say(
            "masks-empty",
            f"Nothing is drawn in {_counted(found.empty, 'mask')} ({some(found.empty)}), and something in all others. "
            "Is that right?",
            "yellow",
        )
    known = f"; already known: {len(found.kept)}" if found.kept else ""
    say(
        "masks-added",
        f"{_counted(changed, 'mask')} added to {data.folder}{known}. {len(data.labelled)} of {len(data.training)} "
        "training cases have a mask now.",
    )
    if changed:
        run = run_of_list(absolute(masks).parent) or "RUN"
        say("next", f"Next, train again: {typed('train', dataset, out='RUN2', init=run)}")
    return found


def _counted(names: list[str], what: str) -> str:
    return f"{len(names)} {what}" if len(names) == 1 else f"{len(names)} {what}s"
