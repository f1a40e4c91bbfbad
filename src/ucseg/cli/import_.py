"""`ucseg import`: a public data set, as its makers or papers share it, becomes a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.init import keep_what_came_back, print_splits, print_understood
from ucseg.cli.reading_options import (
    Classes,
    Every,
    FillOutlines,
    Geometry,
    Ignore,
    Instances,
    MaskThreshold,
    MaxVoxels,
    Modality,
    Orientation,
    Spacing,
    Subject,
)
from ucseg.cli.terminal import output, stages

if TYPE_CHECKING:
    from ucseg.dataset.manifest import Dataset


def import_(
    name: Annotated[str, typer.Argument(help="Name of the data set; `ucseg datasets` lists them.")],
    folder: Annotated[Path, typer.Argument(help="Folder that holds it, lists of names included.")],
    out: Annotated[Path, typer.Option(help="Folder for dataset.yaml and cases.csv.")],
    split: Annotated[
        str | None, typer.Option(help="A split that papers report on, e.g. 8-of-80; default: the data set's own.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Validation cases, '10%' or '25'; default: the data set's own, or 10%.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Test cases, '20%' or '60'; default: the data set's own, or 20%.")
    ] = None,
    labelled: Annotated[
        str | None, typer.Option(help="Show training only so many masks ('10%' or '8') and hide the others.")
    ] = None,
    subject: Subject = None,
    classes: Classes = None,
    modality: Modality = None,
    mask_threshold: MaskThreshold = None,
    fill_outlines: FillOutlines = None,
    instances: Instances = None,
    ignore: Ignore = None,
    orientation: Orientation = None,
    geometry: Geometry = None,
    spacing: Spacing = None,
    max_voxels: MaxVoxels = None,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    every: Every = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is already there.")] = False,
) -> Dataset:
    """Make a dataset of a public data set: `ucseg init` with layout, classes and splits known beforehand.

    With --split the labelled cases are the first of the published list, as in the papers, and nothing is drawn. No scan
    is copied or changed. What is known of the set can be said otherwise, with the options of `ucseg init`.

    Returns:
        the dataset as training sees it.

    Raises:
        UserError: unknown name or split, a folder of another layout, a missing list or missing cases, or as in `init`.
    """
    from ucseg.catalogue import named
    from ucseg.catalogue.finding import find
    from ucseg.catalogue.splitting import chosen_split, divide, layouts_of
    from ucseg.dataset.manifest import Dataset, refuse_to_replace, root_for, save_dataset
    from ucseg.folder.understanding import ImportOptions, check_options, understand_cases
    from ucseg.scans.said import said

    check_options(modality, classes, mask_threshold, orientation)
    public = named(name)
    published = chosen_split(name, public, split)
    refuse_to_replace(out, overwrite)
    cases, layout = find(name, public, layouts_of(public, published), folder, [out], subject)
    options = ImportOptions(
        classes=classes or public.classes or None,
        modality=modality or public.modality or None,
        mask_threshold=layout.mask_threshold if mask_threshold is None else mask_threshold,
        fill_outlines=public.fill_outlines if fill_outlines is None else fill_outlines,
        instances=instances,
        ignore=ignore,
        orientation=orientation,
        said=said(geometry, spacing, max_voxels),
    )
    with stages() as advance:
        found = understand_cases(folder, cases, options, root_for(folder, out), done=advance)
    print_understood(folder, found, every)
    divided, hidden = divide(found.cases, published, validation, test, labelled, seed)
    title = f"{name} {split}" if split else name
    dataset = Dataset(out.absolute(), found.config.model_copy(update={"seed": seed, "name": title}), divided)
    keep_what_came_back(dataset, hidden, found)
    save_dataset(dataset, hidden, found.to_fix)
    output.print(f"cite      {public.citation}", soft_wrap=True)
    output.print(f"licence   {public.licence or 'not known; ask the makers'}", soft_wrap=True)
    print_splits(dataset, len(hidden), {case.split for case in found.cases})
    return dataset
