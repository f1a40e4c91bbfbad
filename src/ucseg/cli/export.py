"""`ucseg export`: a trained model as a folder that predicts without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.calls import typed
from ucseg.cli.terminal import say

if TYPE_CHECKING:
    from ucseg.inference.exported import ModelRecord


def export(
    run: Annotated[Path, typer.Argument(help="Folder that `ucseg train` wrote.")],
    *,
    out: Annotated[Path, typer.Option(help="New folder for the exported model.")],
    checkpoint: Annotated[str, typer.Option(help="Weights: last, best (on validation cases) or ema.")] = "last",
) -> ModelRecord:
    """Write a trained model as ONNX, for `ucseg predict` on a CPU, without torch.

    MODEL holds the networks (model.onnx), the plan, the codes of the classes, and model.json, which says what it is. It
    holds no program. The export is compared with torch before it is kept.

    Returns:
        What model.json says.

    Raises:
        UserError: the run's method cannot be exported, or a package is missing.
    """
    from ucseg.inference.export import export_run

    record = export_run(run, out, checkpoint)
    if not record.finished:
        say("not-final", f"{run}: training has not ended: the weights are not final.", "yellow")
    if not record.any_size:
        say("export-fixed-size", "Its networks take windows of the training patch only; prediction uses those.")
    say("exported", f"Exported to {out}. '{typed('predict', out, Path('SCANS'), out=Path('MASKS'))}' predicts with it.")
    return record
