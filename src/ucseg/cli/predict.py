"""`ucseg predict`: masks, uncertainty maps and a table, for any number of scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ucseg.cli.prediction_words import (
    say_doubts,
    say_how_it_counts,
    say_what_did_not_learn,
    say_what_is_left_out,
    say_which_are_empty,
    say_which_to_look_at,
)
from ucseg.cli.reading_options import MaxVoxels, Spacing
from ucseg.cli.terminal import progress_bar, say
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from ucseg.folder.inputs import Input
    from ucseg.inference.ensemble import AnyPredictor
    from ucseg.inference.outputs import DicomOutput, PredictionFolder, Row
    from ucseg.planning.plan import Plan
    from ucseg.scans.said import Said


def predict(
    run: Annotated[Path, typer.Argument(help="Folder that `ucseg train` or `ucseg export` wrote.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Scans, folders of scans, or datasets (see --split). More runs may stand before them."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write each class's probability.")
    ] = False,
    members: Annotated[bool, typer.Option("--members", help="Also write each network's own mask.")] = False,
    colour: Annotated[
        bool,
        typer.Option("--colour", help="PNG masks that a viewer shows in colours; the values in them stay 0, 1, ..."),
    ] = False,
    dicom_seg: Annotated[
        bool,
        typer.Option("--dicom-seg", help="Also write DICOM SEG and the uncertainty as a Parametric Map (DICOM input)."),
    ] = False,
    labelmap: Annotated[
        bool, typer.Option("--labelmap", help="With --dicom-seg: one label map instead of a binary mask a class.")
    ] = False,
    rtstruct: Annotated[
        bool, typer.Option("--rtstruct", help="Also write an RT Structure Set (DICOM input, volumes).")
    ] = False,
    images: Annotated[
        str | None,
        typer.Option(help="Which files of folders are images, e.g. '*_{t1,t2}.nii.gz'; default: as in training."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which cases of a dataset: train, validation, test or all.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Weights: last, best (on validation cases) or ema.")] = "last",
    components: Annotated[
        bool, typer.Option(help="Keep one component of the classes that the plan knows to have one.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    overlap: Annotated[float, typer.Option(help="Least overlap of neighbouring windows, a part of their edges.")] = 0.5,
    window_growth: Annotated[
        float, typer.Option(help="Windows may be so many times as long as the training patch; fewer are quicker.")
    ] = 1.05,
    mirror: Annotated[
        bool,
        typer.Option(help="Also predict mirrored along the axes that training flips, and take the mean."),
    ] = True,
    geometry: Annotated[
        str | None,
        typer.Option(help="NIfTI headers that say two things: qform, sform or pixdim; default: as in training."),
    ] = None,
    spacing: Spacing = None,
    max_voxels: MaxVoxels = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a stop: keep cases already done.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Share the scans between workers, by Ray: local (on this machine), auto or HOST:PORT (a cluster).",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="With --ray: how many; default: one for each GPU, or for 4 cores."),
    ] = None,
) -> PredictionFolder:
    """Segment scans with a trained model.

    Writes DIR/CASE (the mask, in the scan's own format and geometry), DIR/uncertainty/CASE and DIR/cases.csv: volume
    per class, and scores of how likely the mask has failed. The first is 1 - the Dice to expect by the probabilities.
    With a calibration in RUN it also has the predicted Dice with an interval. Empty masks are named. A scan that cannot
    be predicted is named there with the reason, and the others are done. The exit code is then 2, as it is where an
    input holds no scan at all.

    RUN1 RUN2 ... SCANS: of several runs, the mean of their probabilities. Leading folders that are runs are taken so.

    With --dicom-seg, each DICOM scan also gets DIR/dicom/CASE.dcm and, if it is a volume,
    DIR/dicom/uncertainty/CASE.dcm, in its frame of reference. With --rtstruct, volumes get
    DIR/dicom/rtstruct/CASE.dcm. RUN/codes.yaml says which codes the segments get. Other inputs are named and left out.

    Returns:
        The written folder; `.rows` are the lines of cases.csv.

    Raises:
        UserError: prediction could not start; or, at the end, some scans could not be predicted.
        Interrupted: stopped by the user; what is done is kept.
    """
    from ucseg.cli import opening
    from ucseg.folder.inputs import find_inputs
    from ucseg.folder.like_training import Wanted
    from ucseg.inference.cases import predict_cases, require_kind
    from ucseg.inference.exported import is_exported
    from ucseg.inference.outputs import CaseFiles, PredictionFolder
    from ucseg.training.allocator import kept_memory

    here, precision = _here(device, _first_precision(precision, out, resume), ray, workers, is_exported(run))
    opened = (opening.exported if is_exported(run) else opening.trained)(run, inputs, checkpoint)
    make = partial(opened.make, overlap=overlap, growth=window_growth, components=components, mirror=mirror)
    predictor = make(opened.runs, device=here, precision=precision)
    if ray is None:
        predictor.require_window()  # before the first scan
    say_how_it_counts(opened.runs, opened.unfinished, predictor)
    how = _read_how(opened.geometry(), geometry, spacing, max_voxels)
    wanted = Wanted(predictor.plan.channels, images or "", opened.images(), len(predictor.plan.spacing))
    found = find_inputs(opened.inputs, out, split, wanted, how)
    items, problems = found.scans, found.problems
    if dicom_seg or rtstruct:
        items = _dicom_series(items, problems, "--dicom-seg" if dicom_seg else "--rtstruct")
    say_what_is_left_out(found, wanted)
    require_kind(opened.runs, predictor, items)
    say_doubts(items)
    settings = {
        "run": str(run.absolute()),
        "runs": [str(one.absolute()) for one in opened.runs],
        "calibrated": predictor.calibration is not None,
        "checkpoint": checkpoint,
        "weights": predictor.weights,
        "components": components,
        "precision": predictor.precision,
        "overlap": overlap,
        "window_growth": window_growth,
        "mirror": mirror,
        "probabilities": probabilities,
        "members": members,
        "colour": colour,
        "dicom_seg": dicom_seg,
        "labelmap": labelmap,
        "rtstruct": rtstruct,
        "geometry": how.geometry,
        "spacing": list(how.spacing),
        "classes": {str(index): name for index, name in predictor.plan.classes.items()},
        **_coded(predictor.plan),
    }
    dicom = _dicom_output(run, predictor, dicom_seg, labelmap, rtstruct)
    files = CaseFiles(out if ray is None else out.absolute(), predictor.plan, probabilities, members, dicom, colour)
    # Before the folder is made: there may be no cluster.
    with nullcontext() if ray is None else _connected(ray, workers) as joined:
        folder = PredictionFolder(files, items, settings, resume=resume)
        todo = [item for item in items if not folder.keep_finished(item)]
        with _shown(folder, len(items)) as (done, report):
            if joined is None:
                with kept_memory(predictor.place == "cpu", shared=True):
                    predict_cases(predictor, todo, files, done, report)
            else:
                from ucseg.inference.on_ray import predict_on_ray

                again = partial(
                    make, [one.absolute() for one in opened.runs], device=device, precision=predictor.precision
                )
                warn = partial(say, style="yellow")
                predict_on_ray(
                    joined, again, predictor.weights, files, todo, done, warn, device=device, workers=workers
                )
    say_which_are_empty(folder)
    say_what_did_not_learn(folder, predictor.silent)
    say_which_to_look_at(folder, found.of_dataset)
    if folder.failed:
        others = "; the others are done." if len(folder.failed) < len(items) else "."
        raise UserError(
            "scans-failed",
            f"{len(folder.failed)} of {len(items)} scans could not be predicted (see {out / 'cases.csv'}){others}",
        )
    if problems:
        raise UserError(
            "inputs-left-out", f"Some inputs were left out (named above); the {len(items)} other scans are in {out}."
        )
    where = f" on {predictor.place}" if ray is None else ""
    cases = "case" if len(items) == 1 else "cases"
    say("predicted", f"{len(items)} {cases} predicted into {out}{where} in {predictor.precision}.")
    return folder


def _coded(plan: Plan) -> dict[str, Any]:
    """How the masks of training are coded, where not by class indices: `evaluate` reads such masks alike."""
    coded = {} if plan.made_of is None else plan.made_of.model_dump(mode="json", include={"values", "not_annotated"})
    return {key: value for key, value in coded.items() if value}


def _connected(address: str, workers: int | None) -> AbstractContextManager[Any]:
    from ucseg.inference.on_ray import cluster

    return cluster(address, workers)


def _dicom_output(
    run: Path, predictor: AnyPredictor, dicom_seg: bool, labelmap: bool, rtstruct: bool
) -> DicomOutput | None:
    from ucseg.inference.outputs import DicomOutput
    from ucseg.scans.dicom.codes import read_codes
    from ucseg.scans.dicom.results import Algorithm

    if labelmap and not dicom_seg:
        raise UserError("labelmap-without-seg", "--labelmap says how --dicom-seg is written; add --dicom-seg.")
    if not (dicom_seg or rtstruct):
        return None
    algorithm = Algorithm(predictor.method_name, predictor.weights)
    kind: Literal["BINARY", "LABELMAP"] = "LABELMAP" if labelmap else "BINARY"
    return DicomOutput(read_codes(run), algorithm, kind if dicom_seg else None, rtstruct)


def _first_precision(precision: str, out: Path, resume: bool) -> str:
    """That of the start for a resume: timed once more, "auto" may come out the other way."""
    from ucseg.folder.predictions import note_of

    earlier = note_of(out) if resume and precision == "auto" else None
    return earlier.precision or precision if earlier is not None else precision


def _read_how(trained: str | None, geometry: str | None, spacing: str | None, max_voxels: int | None) -> Said:
    """As the options say; where they say nothing, headers are read as in training."""
    from ucseg.scans.said import said

    return said(geometry or trained, spacing, max_voxels)


def _here(device: str, precision: str, ray: str | None, workers: int | None, exported: bool) -> tuple[str, str]:
    """Device of this process, which leaves GPUs to the workers of Ray, and the precision, one for all workers."""
    if ray is None:
        if workers is not None:
            raise UserError("workers-without-ray", "--workers needs --ray; --ray local uses this machine.")
        return device, precision
    if ":" in device:
        raise UserError("ray-device", f"--device {device}: with --ray each worker gets a GPU; use auto, cuda or cpu.")
    if exported:
        return device, precision
    from ucseg.training.device import choose_device, choose_precision

    return "cpu", choose_precision("auto", choose_device(device)) if precision == "auto" else precision


@contextmanager
def _shown(folder: PredictionFolder, total: int) -> Iterator[tuple[Callable[[Row], None], Callable[[float], None]]]:
    """A bar; and what to call with the line of each finished case, and with the done part of the running one.

    Raises:
        Interrupted: in place of KeyboardInterrupt.
    """
    try:
        with progress_bar() as bar:
            task = bar.add_task("predicting", total=total, completed=len(folder.rows))
            most = 0.0

            def report(part: float) -> None:
                nonlocal most  # a step back would count twice for the pace
                most = max(most, len(folder.rows) + part)
                bar.update(task, completed=most)

            def done(row: Row) -> None:
                folder.add(row)
                if row["status"] == "failed":
                    say("scan-failed", str(row["reason"]), "red")
                report(0)

            yield done, report
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; {len(folder.rows)} of {total} cases are done. Continue with the same command and --resume."
        ) from None
    finally:
        folder.save_table()


def _dicom_series(items: list[Input], problems: list[UserError], option: str) -> list[Input]:
    """The DICOM inputs; the others become one problem."""
    from ucseg.scans.reading import is_dicom_scan

    found = [item for item in items if is_dicom_scan(item.address)]
    others = [item.address for item in items if item not in found]
    if others:
        which = f"{others[0]}: is" if len(others) == 1 else f"{len(others)} inputs (e.g. {others[0]}) are"
        problems.append(
            UserError(
                "not-dicom",
                f"{which} not DICOM, and {option} works for DICOM only; "
                "leave it out to get masks in the format of the scan.",
            )
        )
    if not found:
        raise UserError.together(problems)
    return found
