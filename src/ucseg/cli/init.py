"""`ucseg init`: from a folder of scans to a dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    Palette,
    Spacing,
    Subject,
)
from ucseg.cli.terminal import output, say, stages
from ucseg.errors import UserError, cause

if TYPE_CHECKING:
    from ucseg.dataset.manifest import Dataset
    from ucseg.folder.understanding import Understood
    from ucseg.scans.address import Address
    from ucseg.scans.said import Said

FEW = 3
"""Fewer validation or test cases are reported."""
SHOWN = 3
"""Lines for files that are left out for one reason."""


def init(
    folder: Annotated[Path, typer.Argument(help="Folder with images and masks, searched to any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for dataset.yaml and cases.csv.")],
    images: Annotated[
        str | None, typer.Option(help="Which files are images, e.g. 'scans/*.nii.gz' (in quotes).")
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="Which files are masks, e.g. '*_lesion.nii.gz' (in quotes).")
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(help="Which files are parts of masks (lesions, cells), e.g. '*/masks/*.png'; they are joined."),
    ] = None,
    subject: Subject = None,
    classes: Classes = None,
    palette: Palette = None,
    modality: Modality = None,
    mask_threshold: MaskThreshold = None,
    fill_outlines: FillOutlines = None,
    instances: Instances = None,
    ignore: Ignore = None,
    orientation: Orientation = None,
    geometry: Geometry = None,
    spacing: Spacing = None,
    max_voxels: MaxVoxels = None,
    validation: Annotated[
        str | None, typer.Option(help="Validation cases, '10%' or '25'; default: the folder's own, or 10%.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Test cases, '20%' or '60'; default: the folder's own, or 20%.")
    ] = None,
    train_list: Annotated[
        Path | None, typer.Option(help="File that lists the training cases, a name a line; others are left out.")
    ] = None,
    test_list: Annotated[Path | None, typer.Option(help="File that lists the test cases, a name a line.")] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Show training only so many masks ('10%' or '8') and hide the others; default: show all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of --labelled.")] = 0,
    every: Every = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is already there.")] = False,
) -> Dataset:
    """Pair the images and masks of a folder, split them by subject, and write a dataset.

    Images pair with masks by folder (images/labels, image/mask, imagesTr/labelsTr, ...) and by name (X_mask, X_seg,
    X_label, X_Annotation, X_roi, mask_X, ..., same name). An image without a mask is unlabelled. No scan is copied or
    changed.

    For one seed, validation and test cases do not depend on --labelled, and the labelled set of 5% lies inside
    that of 10%.

    A dataset that takes the place of another keeps the masks that `add-masks` or `serve` noted there, and
    labelled_slices, for cases of the same name and image. What cannot be kept is named, and the old table is copied.

    Args:
        images, masks: patterns relative to the folder; "*" also crosses folders. '*_{t1,t2}.nii.gz' takes several
            files as the channels of an image, or as a mask of one file a class.
        parts: pattern of files that are parts of masks; all that belong to one image are one mask.
        subject: by default BIDS `sub-`, `patientNNN`, `X_slice_N`, `X_visit_N`, shared leading digits.
        classes: a list that does not begin with "background" is numbered from 1. A class called "ignore" (or
            "unknown", "not annotated") is none: its voxels are trained as those of unlabelled images.
        ignore: such a value that has no name among the classes.

    Returns:
        the dataset as training sees it.

    Raises:
        UserError: nothing usable in the folder, an option that cannot be met, or a dataset already in `out`; or one
            that may be replaced, but whose masks of experts no longer fit.
    """
    from ucseg.dataset.manifest import Dataset, refuse_to_replace, root_for, save_dataset
    from ucseg.dataset.splits import check_amounts, split_cases
    from ucseg.folder.understanding import ImportOptions, understand
    from ucseg.scans.said import said

    check_amounts(validation=validation, test=test, labelled=labelled)
    refuse_to_replace(out, overwrite)
    how = said(geometry, spacing, max_voxels)
    if palette is not None:
        classes, how = _in_colours(palette, classes, how)
    options = ImportOptions(
        images, masks, subject, classes, modality, mask_threshold, fill_outlines, instances, orientation, how, parts,
        train_list, test_list, ignore,
    )  # fmt: skip
    with stages() as advance:
        found = understand(folder, options, root_for(folder, out), skip=[out], done=advance)
    # Before the split, which may fail: what was left out is often the reason.
    print_understood(folder, found, every)
    cases, hidden = split_cases(found.cases, validation, test, labelled, seed)
    dataset = Dataset(out.absolute(), found.config.model_copy(update={"seed": seed}), cases)
    keep_what_came_back(dataset, hidden, found)
    save_dataset(dataset, hidden, found.to_fix)
    print_splits(dataset, len(hidden), {case.split for case in found.cases})
    return dataset


def _in_colours(palette: str, classes: str | None, how: Said) -> tuple[str, Said]:
    """The classes of a palette as --classes takes them, and how masks are read."""
    from ucseg.scans.palette import numbered, palette_of

    if classes is not None:
        raise UserError("palette-and-classes", "--palette names the classes too; leave out --classes.")
    colours = palette_of(palette)
    return numbered(colours), replace(how, palette=tuple(colours.values()))


def print_understood(folder: Path, found: Understood, every: bool = False) -> None:
    """What was found in a folder; `every`: each file that is left out."""
    from rich.table import Table

    config = found.config
    names = ", ".join(f"{index} {name}" for index, name in config.classes.items())
    masked = sum(case.mask is not None for case in found.cases)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("folder", str(folder))
    facts.add_row(
        "cases", f"{len(found.cases)}: {masked} with a mask, {len(found.cases) - masked} without (unlabelled)"
    )
    facts.add_row("subjects", f"{len({case.subject for case in found.cases})}: {found.subject_rule}")
    facts.add_row(
        "images", f"{config.dims}D, {config.channels} channel{'s' if config.channels > 1 else ''}, {config.modality}"
    )
    facts.add_row("shapes", found.shapes)
    facts.add_row("spacing", found.spacing)
    facts.add_row("classes", names)
    if config.values:
        facts.add_row("values", ", ".join(f"{value} is class {index}" for value, index in config.values.items()))
    if config.not_annotated:
        facts.add_row("not annotated", ", ".join(map(str, config.not_annotated)))
    if config.palette:
        meant = {value: f"class {config.values.get(value, value)}" for value in range(len(config.palette))}
        meant |= dict.fromkeys(config.not_annotated, "not annotated")
        facts.add_row("colours", ", ".join(f"{colour} is {meant[at]}" for at, colour in enumerate(config.palette)))
    if config.mask_threshold is not None:
        facts.add_row("masks", f"foreground is above {config.mask_threshold:g}")
    if config.fill_outlines:
        facts.add_row("outlines", "their inside is filled")
    output.print(facts)
    for note in found.notes:
        output.print(f"note: {note}", soft_wrap=True)
    if found.left_out:
        output.print(f"left out ({len(found.left_out)}):")
        causes: dict[str, list[str]] = {}
        for item in found.left_out:
            file = str(item.file.absolute().relative_to(folder.absolute()))
            causes.setdefault(cause(item.reason), []).append(f"  {file}: {item.reason}")
        for lines in causes.values():
            more = 0 if every else len(lines) - SHOWN
            folded = [*lines[:SHOWN], f"  and {more} more for the same reason (--all)"] if more > 1 else lines
            for line in folded:
                output.print(line, soft_wrap=True)


def keep_what_came_back(dataset: Dataset, hidden: Mapping[str, Address], found: Understood) -> None:
    """Of a dataset that is replaced, masks that `add-masks` and `serve` noted, and labelled_slices; it says which.

    The old table is copied if something of it is lost. A UserError, before anything is written, if a mask does not fit.
    """
    from ucseg.dataset.manifest import CASES_FILE, CONFIG_FILE, read_dataset
    from ucseg.errors import some
    from ucseg.labelling.kept import kept_of
    from ucseg.machine.writing import whole_file

    table = dataset.folder / CASES_FILE
    if not (table.is_file() and (dataset.folder / CONFIG_FILE).is_file()):
        return
    try:
        old = read_dataset(dataset.folder, without_root=True)
    except UserError as error:
        lost = [f"all of it, since it cannot be read ({error})"]
    else:
        kept = kept_of(old, dataset, hidden, {item.file.absolute() for item in found.left_out})
        dataset.cases = kept.cases
        amounts = (("masks", kept.masks), ("labelled_slices", kept.slices))
        if said := [f"{name} of {len(cases)} cases ({some(cases)})" for name, cases in amounts if cases]:
            say("masks-kept", f"Kept from the dataset before: {', '.join(said)}.")
        lost = [f"{len(cases)} {why} ({some(cases)})" for why, cases in kept.lost.items()]
    if not lost:
        return
    copy = next(one for n in count(1) if not (one := table.with_name(f"cases.before.{n}.csv")).exists())
    with whole_file(copy, ".csv") as part:
        part.write_bytes(table.read_bytes())
    say("masks-not-kept", f"Not kept from the dataset before, whose table is now {copy}: {'; '.join(lost)}.", "yellow")


def print_splits(dataset: Dataset, hidden: int, brought: Collection[str]) -> None:
    """How many cases went where, what to do next, and where the contact sheet is.

    Args:
        hidden: how many training masks are.
        brought: splits that the data came in, of which no option draws more.
    """
    from rich.table import Table

    from ucseg.cli.contact_sheet import show_contact_sheet
    from ucseg.pictures.contact_sheet import ContactSheet, few

    splits = Table("split", "cases", "labelled", "unlabelled", "subjects")
    for split, cases in (("train", dataset.training), ("validation", dataset.validation), ("test", dataset.test)):
        labelled = sum(case.mask is not None for case in cases)
        row = (len(cases), labelled, len(cases) - labelled, len({case.subject for case in cases}))
        splits.add_row(split, *map(str, row))
    output.print(splits)
    if hidden:
        output.print(
            f"{hidden} training masks are hidden: listed in hidden.csv, "
            "which only evaluate, compare, demo and report read."
        )
    subjects = {case.subject for case in dataset.cases}
    if len(subjects) == 1 < len(dataset.cases) and not (dataset.validation or dataset.test):
        said = f"All {len(dataset.cases)} cases are of one subject, so validation and test have none"
        say("one-subject", f"{said}; if that is wrong, give --subject.", "yellow")
    found = {"validation": len(dataset.validation), "test": len(dataset.test)}
    if scarce := {split: number for split, number in found.items() if 0 < number < FEW}:
        few_cases = " and ".join(f"{number} {split} case{'s' * (number != 1)}" for split, number in scarce.items())
        options = ", ".join(f"--{split} N" for split in scarce if split not in brought)
        more = f"; with more masks, give more: {options}" if options else ""
        elsewhere = " With a test folder elsewhere, --test 0 keeps these masks for training."
        say("few-held-out", f"{few_cases} can show little{more}.{elsewhere if '--test' in options else ''}")
    _say_if_plan_is_outdated(dataset)
    say("written", f"Wrote {dataset.folder}. Next: ucseg check {dataset.folder}")
    show_contact_sheet(ContactSheet(dataset, few(dataset)))


def _say_if_plan_is_outdated(dataset: Dataset) -> None:
    """A plan.yaml of the dataset that was here before stays, and training would refuse it."""
    from ucseg.planning.origin import cases_changed, differences_from
    from ucseg.planning.plan import read_plan

    file = dataset.folder / "plan.yaml"
    try:
        plan = read_plan(file) if file.is_file() else None
    except UserError as error:
        say("plan-outdated", str(error), "yellow")
        return
    if plan is not None and (found := ", ".join(differences_from(plan, dataset)) or cases_changed(plan, dataset)):
        say("plan-outdated", f"{file}: {found}. 'ucseg plan {dataset.folder}' makes it again.", "yellow")
