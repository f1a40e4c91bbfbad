"""One scan from its file to its results; what is wrong with it stays with it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ucseg.data import dicom_results
from ucseg.data.formats import read_scan
from ucseg.errors import UserError
from ucseg.inference.inputs import Input
from ucseg.inference.outputs import PredictionFolder
from ucseg.inference.predictor import Predictor


def predict_case(
    predictor: Predictor,
    item: Input,
    folder: PredictionFolder,
    *,
    probabilities: bool = False,
    members: bool = False,
    report: Callable[[float], None] | None = None,
) -> str | None:
    """Read, predict and write one scan.

    Args:
        probabilities, members: also write these (see `PredictionFolder`).
        report: called with the done fraction of the scan.

    Returns:
        None, or why the scan could not be predicted; the folder's table has it too.

    Raises:
        UserError: results cannot be written, which is wrong for every scan alike.
    """
    try:
        scan = read_scan(item.file)
        source = dicom_results.source_of(scan) if folder.dicom else None  # what is wrong there is said before the work
        prediction = predictor.predict_scan(scan, probabilities=probabilities, members=members, report=report)
        objects = folder.dicom_objects(source, prediction) if source else None
    except UserError as error:
        reason = str(error)
    except (MemoryError, torch.OutOfMemoryError):
        reason = f"{item.file}: there is not enough memory for this scan; try --device cpu or a machine with more."
    else:
        folder.write(item, scan, prediction, objects)
        return None
    folder.fail(item, reason)
    return reason
