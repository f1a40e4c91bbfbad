"""Scans from their files to their results; what is wrong with one stays with it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ucseg.batches.preprocess import grid_of
from ucseg.errors import UserError
from ucseg.folder.inputs import Input
from ucseg.inference.outputs import CaseFiles, Row, failed_row
from ucseg.inference.together import Lacking, at_once
from ucseg.machine.memory import memory_for
from ucseg.scans.content import content_of
from ucseg.scans.reading import is_dicom_scan, read_header, read_scan

if TYPE_CHECKING:  # an exported model predicts without torch
    from ucseg.inference.ensemble import AnyPredictor

_LACKING = (("scan-needs-memory",), ("no-room-on-disk",), ("memory-ran-out",))
"""Kinds of what may be enough for a scan that is alone."""


def require_kind(runs: Sequence[Path], predictor: AnyPredictor, items: Sequence[Input]) -> None:
    """Refuse scans that all have other axes or another unit than those of a run, at once, by their headers.

    One that fits is enough, and ends the look: each of the others is refused by itself.

    Raises:
        UserError: no scan is of the kind that a run predicts.
    """
    plans, kinds, readable = [one.plan for one in predictor.each], set[tuple[int, str]](), list[Input]()
    for item in items:
        try:
            geometry = read_header(item.address)[1]
        except Exception:  # predicting it says what is wrong
            continue
        kinds.add((geometry.dims, geometry.unit))
        readable.append(item)
        if all(plan.takes(geometry.dims, geometry.unit) for plan in plans):
            return
    for run, plan in zip(runs, plans, strict=True):
        if kinds and not any(plan.takes(*kind) for kind in kinds):
            which = f"the {len(readable)} scans (e.g. {readable[0].address}) are"
            which = which if len(readable) > 1 else f"{readable[0].address} is"
            found = " and ".join(f"{dims}D in {unit}" for dims, unit in sorted(kinds))
            fix = "give scans of that kind"
            if {dims for dims, _ in kinds} == {len(plan.spacing)}:  # another unit
                fix = "give their --spacing" if plan.unit == "mm" else f"{fix}, without --spacing"
            raise UserError(
                "scans-not-of-run",
                f"{run}: predicts {len(plan.spacing)}D scans in {plan.unit}, and {which} {found}; {fix}, or name a run "
                "that was trained on such scans.",
            )


def predict_case(
    predictor: AnyPredictor, item: Input, files: CaseFiles, report: Callable[[float], None] | None = None
) -> Row:
    """Read, predict and write one scan.

    Args:
        report: called with the done fraction of the scan.

    Returns:
        The case's line of the table, which says why if the scan could not be predicted.

    Raises:
        UserError: results cannot be written; no later scan could be written either.
    """
    found = _predict_case(predictor, item, files, report)
    return found.result if isinstance(found, Lacking) else found


def _predict_case(
    predictor: AnyPredictor, item: Input, files: CaseFiles, report: Callable[[float], None] | None
) -> Row | Lacking[Row]:
    """As `predict_case`, but it says where a failed line is one of memory."""
    try:
        with memory_for(item.address):
            scan = read_scan(item.address)
            content = content_of(item.address)
            source = files.dicom_source(scan)  # it may be refused: before the work
            prediction = predictor.predict_scan(
                scan, probabilities=files.probabilities, members=files.members, report=report
            )
            objects = files.dicom_objects(scan, source, prediction) if source else {}
    except UserError as error:
        row = failed_row(item, str(error))
        return Lacking(row) if error.codes in _LACKING else row
    except ModuleNotFoundError as error:  # where only what `ucseg-predict` needs is installed
        return failed_row(item, f"{item.address}: it needs the package {error.name}; pip install {error.name}.")
    except OSError as error:
        return failed_row(item, f"{item.address}: cannot be read ({error.strerror}); restore the file.")
    try:
        with memory_for(item.address):
            return files.write(item, scan, prediction, objects, content)
    except UserError as error:
        if error.codes not in _LACKING:
            raise
        return Lacking(failed_row(item, str(error)))


def predict_cases(
    predictor: AnyPredictor,
    items: Sequence[Input],
    files: CaseFiles,
    done: Callable[[Row], None],
    report: Callable[[float], None],
) -> None:
    """Read, predict and write scans, several at a time (`together.py`).

    Args:
        done: called with the line of each case, in the order in which they end.
        report: called with the done fractions of the scans at work, summed up.

    Raises:
        UserError: results cannot be written.
    """
    parts: dict[str, float] = defaultdict(float)

    def part_of(case: str, part: float) -> None:
        parts[case] = part
        report(sum(list(parts.values())))

    def ended(row: Row) -> None:
        parts.pop(str(row["case"]), None)
        done(row)

    def one(item: Input) -> Row | Lacking[Row]:
        return _predict_case(predictor, item, files, partial(part_of, item.case))

    at_once(predictor.each, one, items, ended, partial(_size, predictor, files))


def _size(predictor: AnyPredictor, files: CaseFiles, item: Input) -> float:
    """About how many bytes a scan takes, by its header: infinitely many where nothing says it, so that it is alone.

    A folder of DICOM is not asked: its headers take long to read.
    """
    if is_dicom_scan(item.address):
        return math.inf
    several = len(predictor.each) > 1  # whose probabilities are summed up
    try:
        shape, geometry, channels = read_header(item.address)
        found = [
            one.memory_of(grid_of(shape, geometry, one.plan, item.address.path), files.probabilities or several)
            for one in predictor.each
        ]
    except (UserError, OSError):
        return 0.0  # reading it will say what is wrong
    except Exception:  # as reading it will: a missing package, too little memory
        return math.inf
    own = 4.0 * math.prod(shape)
    return max(found) + own * channels + several * own * len(files.plan.classes)
