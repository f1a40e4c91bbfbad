"""`ucseg plan`: look at the data, choose how the network will see them, and write it down to be read and changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import console, output

if TYPE_CHECKING:
    from ucseg.data.plan import Plan


def plan(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote.")],
    dims: Annotated[int | None, typer.Option(help="Rank of the network; 2 cuts volumes into slices.")] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="key=value: a value of the plan to use instead of the chosen one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="DATASET/plan.yaml")] = None,
) -> Plan:
    """Choose spacing, patch, batch, normalisation and augmentation from the training cases, and write plan.yaml.

    Whatever depends on a value that is --set is chosen to fit it: --set size=112 also changes patch and token.

    Returns:
        The plan that was written.

    Raises:
        UserError: the data give no plan, or a value cannot be.
    """
    from ucseg.config import parse_overrides
    from ucseg.data.fingerprint import take_fingerprint
    from ucseg.data.manifest import load_dataset
    from ucseg.data.plan import check_dims, make_plan, write_plan

    data = load_dataset(dataset)
    overrides = parse_overrides(set or [])
    rank = check_dims(overrides.pop("dims", dims), data.config.dims)
    seen = take_fingerprint(data, rank)
    chosen = make_plan(data, rank, overrides, seen)
    path = out or data.folder / "plan.yaml"
    write_plan(chosen, path)

    shape = " x ".join(f"{edge:g}" for edge in seen.median_shape)
    spacing = " x ".join(f"{edge:.4g}" for edge in seen.median_spacing)
    output.print(f"seen     {seen.labelled} labelled and {seen.unlabelled} unlabelled training cases, "
                 f"median {shape} at {spacing} {seen.unit}")  # fmt: skip
    keys = ("dims", "slice_axis", "spacing", "size", "patch", "token", "labelled_batch", "unlabelled_batch")
    for key in (*keys, "normalisation", "one_component"):
        value = getattr(chosen, key)
        if value not in (None, ()):
            between = ", " if key == "one_component" else " x "
            output.print(f"{key:<16} {between.join(map(str, value)) if isinstance(value, tuple) else value}")
    for case, reason in seen.left_out:
        console.print(f"left out {case}: {reason}", style="yellow")
    output.print(f"written  {path}")
    return chosen
