"""`ucseg plan`: choose from the data how the network will see them, and write that to plan.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import output, progress_bar, say
from ucseg.cli.training_words import MEASURING
from ucseg.errors import UserError

if TYPE_CHECKING:
    from ucseg.planning.choosing import Planned
    from ucseg.planning.plan import Plan

LISTED = ("one_component", "always_present")
SHOWN = (
    "dims",
    "slice_axis",
    "spacing",
    "size",
    "patch",
    "strides",
    "width",
    "norm",
    "encoder",
    "token",
    "labelled_batch",
    "unlabelled_batch",
)


def plan(
    dataset: Annotated[Path, typer.Argument(help="Folder that `ucseg init` wrote.")],
    dims: Annotated[int | None, typer.Option(help="Rank of the network; 2 cuts volumes into slices.")] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="key=value: a value of the plan to use instead of the chosen one.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Time for training: batch and steps follow from a step measured here.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure a step here, so that batch and patch fit the device's memory.")
    ] = False,
    method: Annotated[str, typer.Option(help="Method whose steps are measured.")] = "uc_seg",
    device: Annotated[str, typer.Option(help="Where to measure: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say why each value of the new plan was chosen.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="DATASET/plan.yaml")] = None,
) -> Plan:
    """Choose spacing, patch, levels, batch, normalisation and augmentation from the training cases; write plan.yaml.

    Values that depend on one given by --set are chosen to fit it: --set size=112 also changes patch and token. Each
    call starts from the data and replaces the plan: values of an earlier --set are not kept. Values that change
    although this call did not --set them are reported.

    Returns:
        The plan that was written.

    Raises:
        UserError: no plan fits the data, or a value is not possible.
    """
    from ucseg.config import build, parse_overrides
    from ucseg.dataset.manifest import load_dataset
    from ucseg.machine.writing import require_place
    from ucseg.planning.budget import few_steps
    from ucseg.planning.choosing import plan_with_reasons
    from ucseg.planning.fingerprint import take_fingerprint
    from ucseg.planning.given import check_overrides
    from ucseg.planning.plan import write_plan

    data = load_dataset(dataset)
    path = out or data.folder / "plan.yaml"
    require_place(path, folder=False)
    before = _earlier(path)
    if out is not None and out.exists() and not before:
        raise UserError("plan-out-taken", f"{out}: this file is there and is no plan; choose another --out.")
    overrides = check_overrides(data, dims, parse_overrides(set or []))  # before minutes of reading
    machine = None
    if hours is not None or measure:
        from ucseg.inference.step_cost import ThisMachine
        from ucseg.methods import settings_of
        from ucseg.training.settings import TrainConfig

        settings_of(method, {})
        config = build(TrainConfig, {"device": device, "hours": hours}, "plan")
        machine = ThisMachine(method, {}, config, len(data.validation))
    with progress_bar() as bar:
        task = bar.add_task("looking at the scans", total=len(data.training))
        seen = take_fingerprint(data, lambda: bar.advance(task))
    if machine is not None:
        say("measuring", MEASURING)
    planned = plan_with_reasons(data, None, overrides, seen, machine, hours)
    write_plan(planned.plan, path, planned.reasons)
    _show(planned, explain)
    output.print(f"written  {path}")
    steps = planned.plan.steps
    if hours is not None and steps and (few := few_steps(steps, hours, planned.plan, for_this_time=True)):
        say("few-steps", f"{few}.", "yellow")
    replaced = [key for key, value in before.items() if value != getattr(planned.plan, key) and key not in overrides]
    if replaced:
        was = "; ".join(f"{key} was {_text(key, before[key], planned.plan.classes)}" for key in replaced)
        say(
            "plan-changed",
            f"The old plan had other values: {was}. To keep one, --set it again: each new plan starts from the data.",
            style="yellow",
        )
    return planned.plan


def _earlier(path: Path) -> dict[str, object]:
    """The values of the old plan; empty if there is none, or none that can be read."""
    from ucseg.planning.plan import read_plan

    try:
        found = dict(read_plan(path)) if path.is_file() else {}
    except UserError:
        return {}
    return {key: value for key, value in found.items() if key != "made_of"}


def _show(planned: Planned, explain: bool) -> None:
    seen, chosen = planned.seen, planned.plan
    shape = " x ".join(f"{edge:g}" for edge in seen.median_shape)
    spacing = " x ".join(f"{edge:.4g}" for edge in seen.median_spacing)
    output.print(f"seen     {len(seen.labelled)} labelled and {len(seen.unlabelled)} unlabelled training cases, "
                 f"median {shape} at {spacing} {seen.unit}")  # fmt: skip
    for key in (*SHOWN, "normalisation", *LISTED, "steps", *(["augmentation"] if explain else [])):
        value = getattr(chosen, key)
        if value in (None, ()) and not (explain and key in planned.reasons):
            continue
        output.print(f"{key:<16} {_text(key, value, chosen.classes)}", soft_wrap=True)
        if explain and key in planned.reasons:
            output.print(f"{'':<16} {planned.reasons[key]}", style="dim", soft_wrap=True)
    if not planned.ceilings.enough:
        say(
            "ceiling-low",
            f"Labelled masks that go to this grid and back have Dice {planned.ceilings.words(chosen.classes)} with "
            "themselves, and hardly more can be learned on it. A plan without --set and --hours may be finer.",
            style="yellow",
        )
    for case, reason in seen.left_out:
        say("left-out", f"left out {case}: {reason}", style="yellow")


def _text(key: str, value: object, classes: dict[int, str]) -> str:
    if key in LISTED and isinstance(value, tuple):
        return ", ".join(f"{number} {classes.get(number, '')}".strip() for number in value) or "none"
    if key == "augmentation":
        return ", ".join(f"{name} {vars(value)[name]:g}" for name in CHANCES if vars(value)[name])
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ", ".join("x".join(map(str, step)) for step in value)
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return str(value) if value is not None else "not set"


CHANCES = (
    *("foreground", "flip", "rotate90", "affine", "distortion"),
    *("dropout", "contrast", "gamma", "inverted_gamma", "low_resolution", "noise", "blur"),
)
"""The probabilities among the augmentation's settings that a plan switches on."""
