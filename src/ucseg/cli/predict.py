"""`ucseg predict`: masks, uncertainty maps and a table, for any number of scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ucseg.cli.terminal import console, progress_bar
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from ucseg.inference.outputs import PredictionFolder


def predict(
    run: Annotated[Path, typer.Argument(help="Folder that `ucseg train` wrote.")],
    inputs: Annotated[list[Path], typer.Argument(help="Scans, folders of scans, or datasets (see --split).")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write each class's probability.")
    ] = False,
    members: Annotated[bool, typer.Option("--members", help="Also write each network's own mask.")] = False,
    split: Annotated[str, typer.Option(help="Of datasets: train, validation, test or all.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Weights: last, best (on validation cases) or ema.")] = "last",
    components: Annotated[
        bool, typer.Option(help="Keep one component of the classes that the plan knows to have one.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a stop: keep cases already done.")] = False,
) -> PredictionFolder:
    """Segment scans with a trained model.

    Writes DIR/CASE (the mask, in the scan's own format and geometry), DIR/uncertainty/CASE and DIR/cases.csv (volume
    per class, mean uncertainty, and a failure score: 1 - Dice between the networks' masks). A scan that cannot be
    predicted is named there with the reason, the others are done, and the exit code is 2; so it is where one of
    several inputs gives no scan at all.

    Returns:
        The written folder; `.rows` are the lines of cases.csv.

    Raises:
        UserError: nothing could be begun; or, at the end, some scans could not be predicted.
        Interrupted: stopped by the user; what is done is kept.
    """
    from ucseg.inference.cases import predict_case
    from ucseg.inference.inputs import find_inputs
    from ucseg.inference.outputs import PredictionFolder, weights_digest
    from ucseg.inference.predictor import Predictor

    predictor = Predictor.from_run(run, checkpoint, device, precision=precision, components=components)
    items, problems = find_inputs(inputs, out, split, predictor.plan.channels)
    for problem in problems:
        console.print(problem, style="red")
    settings = {
        "run": str(run.absolute()),
        "checkpoint": checkpoint,
        "weights": weights_digest(predictor.method),
        "components": components,
        "precision": predictor.precision,
        "probabilities": probabilities,
        "members": members,
    }
    folder = PredictionFolder(out, predictor.plan, items, settings, resume=resume)
    try:
        with progress_bar() as bar:
            task = bar.add_task("predicting", total=len(items))
            for i, item in enumerate(items):
                if not folder.keep_finished(item):

                    def report(done: float, before: int = i) -> None:
                        bar.update(task, completed=before + done)

                    reason = predict_case(
                        predictor, item, folder, probabilities=probabilities, members=members, report=report
                    )
                    if reason:
                        console.print(reason, style="red")
                bar.update(task, completed=i + 1)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; {len(folder.rows)} of {len(items)} cases are done. Go on with the same command and --resume."
        ) from None
    finally:
        folder.save_table()
    if folder.failed:
        others = "; the others are done." if len(folder.failed) < len(items) else "."
        raise UserError(
            f"{len(folder.failed)} of {len(items)} scans could not be predicted (see {out / 'cases.csv'}){others}"
        )
    if problems:
        raise UserError(
            f"{len(problems)} of the inputs gave no scan (named above); the {len(items)} of the others are in {out}."
        )
    console.print(f"{len(items)} {'case' if len(items) == 1 else 'cases'} predicted into {out}.")
    return folder
