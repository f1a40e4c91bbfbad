"""A run becomes a folder that predicts without torch: its networks as ONNX, and what they need (`exported.py`).

torch's exporter by tracing is used. The one by `torch.export` needs another package, takes many times as long, and
fails at networks that take images of any size.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ucseg import __version__
from ucseg.errors import UserError
from ucseg.inference.calibration import FILE as CALIBRATION
from ucseg.inference.exported import ABOUT, GRAPH, PLAN, ModelRecord, checksum
from ucseg.inference.predictor import Predictor, stacked
from ucseg.inference.runtimes import open_session
from ucseg.inference.scan_predictor import GROWTH
from ucseg.machine.writing import make_folder, whole_file, write_json
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan, write_plan
from ucseg.scans.dicom.codes import read_codes, save_codes
from ucseg.training.run_folder import RunFolder
from ucseg.types import Array

OPSET = 18
CLOSE = 1e-3
"""How far an answer of the exported networks may be from torch's."""


class _Answers(nn.Module):
    """A method as a plain function of images: probabilities, uncertainty, members."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.method.predict(image)
        return (prediction.probabilities, prediction.uncertainty, *prediction.members.values())


def export_run(run: Path, out: Path, checkpoint: str = "last") -> ModelRecord:
    """Write an exported model, whole or not at all.

    Args:
        run: a folder that `ucseg train` wrote.
        out: a new folder.
        checkpoint: last, best or ema.

    Raises:
        UserError: there is no such run, its method cannot be exported, a package is missing, or `out` is taken.
    """
    if out.exists():
        raise UserError("export-out-exists", f"{out}: is there already; choose another --out.")
    _require_onnx()
    predictor = Predictor.from_run(run, checkpoint, "cpu", precision="fp32")
    folder, plan = RunFolder(run), predictor.plan
    make_folder(out.absolute().parent, "--out")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as made:
        part = Path(made) / "model"
        part.mkdir()
        with whole_file(part / GRAPH, ".onnx") as file:
            members, any_size = write_graph(predictor.method, plan, file, f"{run}: method {predictor.method_name}")
        write_plan(plan, part / PLAN)
        save_codes(read_codes(run), plan.classes, part)
        if (run / CALIBRATION).exists():
            shutil.copy(run / CALIBRATION, part)
        settings = predictor.method.config.model_dump()
        networks = [settings.get(key) for key in ("network", "networks", "subnets", "decoders") if settings.get(key)]
        record = ModelRecord(
            ucseg=__version__,
            method=predictor.method_name,
            networks=[name for one in networks for name in ([one] if isinstance(one, str) else one)],
            classes=plan.classes,
            channels=plan.channels,
            members=members,
            any_size=any_size,
            checkpoint=checkpoint,
            weights=predictor.weights,
            finished=not folder.unfinished,
            silent=list(predictor.silent),
            geometry=folder.config.get("data", {}).get("geometry"),
            images=folder.config.get("images", ""),
            checksums={name: checksum(part / name) for name in (GRAPH, PLAN)},
        )
        write_json(part / ABOUT, record.model_dump(mode="json"))
        shutil.move(part, out)
    return record


def _require_onnx() -> None:
    try:
        importlib.import_module("onnx")
    except ImportError:
        raise UserError(
            "export-needs-onnx", "export needs the package onnx; install it: pip install 'ucseg[openvino]'."
        ) from None


def write_graph(method: Method, plan: Plan, file: Path, what: str) -> tuple[list[str], bool]:
    """Write the ONNX graph of a method in evaluation mode, and compare it with torch.

    Returns:
        Names of the members, and whether windows may be larger than the patch: some networks become another graph then.

    Raises:
        UserError: it has a part that cannot be exported, or answers otherwise.
    """
    # Largest windows of `predict`, one voxel apart where there is room, so that no two axes are alike.
    larger = tuple(max(edge + 1, math.floor(edge * GROWTH) - axis) for axis, edge in enumerate(plan.patch))
    wrong = ""
    for any_size in (True, False):
        members = _trace(method, plan, file, any_size, what)
        sizes = [(1, plan.patch), (2, plan.patch), *([(1, larger)] if any_size else [])]
        if not (wrong := _difference(method, plan, file, sizes)):
            return members, any_size
    raise UserError("export-differs", f"{what} answers otherwise once exported ({wrong}); predict with the run.")


def _trace(method: Method, plan: Plan, file: Path, any_size: bool, what: str) -> list[str]:
    # Sizes that no level divides: else the trace has no padding.
    size = tuple(edge + 1 + edge % 2 for edge in plan.patch) if any_size else plan.patch
    image = torch.zeros(2, plan.channels, *size)
    free = {2 + axis: f"size_{axis}" for axis in range(plan.dims)} if any_size else {}
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            members = list(method.predict(image[:1]).members)
            warnings.simplefilter("ignore")  # of sizes that become constants: the comparison finds the wrong ones
            torch.onnx.export(
                _Answers(method).eval(),
                (image,),
                str(file),
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["probabilities", "uncertainty", *(f"member_{name}" for name in members)],
                dynamic_axes={"image": {0: "images", **free}},
            )
    except Exception as error:  # torch's exporter has no common kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            "export-not-possible",
            f"{what} has networks that cannot be exported ({type(error).__name__}: {reason}); predict with the run.",
        ) from error
    return members


def _difference(method: Method, plan: Plan, file: Path, sizes: Sequence[tuple[int, tuple[int, ...]]]) -> str:
    """What is wrong with a graph for so many images of a size each; "" if it answers as torch does."""
    session, _ = open_session(file, "fp32", (1, plan.channels, *plan.patch))
    rng = np.random.default_rng(0)
    for count, size in sizes:
        image = rng.normal(size=(count, plan.channels, *size)).astype(np.float32)
        with torch.no_grad():
            expected = stacked(method.predict(torch.from_numpy(image))).numpy()
        try:
            found: Array = np.concatenate(session(image), axis=1)
        except Exception as error:  # of either runtime
            return type(error).__name__
        if found.shape != expected.shape:
            return "another shape"
        if (far := float(np.abs(found - expected).max())) > CLOSE:
            return f"by {far:.2g}"
    return ""
