"""A model that `ucseg export` wrote: what is in its folder, and prediction with it. Without torch.

- model.onnx: the networks, which give probabilities, uncertainty, and the probabilities of each member.
- model.json: what it is: method, members, digest of the weights, checksums of the other files.
- plan.yaml: how scans come to the networks.
- calibration.json: what the uncertainty and the scores mean, if the run has one.
- codes.yaml: what DICOM results call the classes. It may be edited.

Nothing in it is a program: a graph of known operators, and text.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ucseg.config import Strict, build
from ucseg.errors import UserError
from ucseg.inference.calibration import kept_for
from ucseg.inference.maps import Layout, mirrored_mean
from ucseg.inference.runtimes import open_session
from ucseg.inference.scan_predictor import ScanPredictor, require_precision
from ucseg.machine.memory import memory_for
from ucseg.machine.reading import read_json
from ucseg.planning.plan import read_plan
from ucseg.types import Array

GRAPH, ABOUT, PLAN = "model.onnx", "model.json", "plan.yaml"


class ModelRecord(Strict):
    """What model.json says."""

    format: Literal[1] = 1
    ucseg: str
    method: str
    networks: list[str] = Field(default_factory=list)
    classes: dict[int, str]
    channels: int
    members: list[str]
    any_size: bool
    """Whether windows may be larger than the training patch."""
    checkpoint: str
    weights: str
    finished: bool
    silent: list[str] = Field(default_factory=list)
    """Networks that have learned nothing."""
    geometry: str | None = None
    """How NIfTI headers that say two things were read in training."""
    images: str = ""
    """Pattern of the files that were images of training; "" if all were."""
    checksums: dict[str, str]


def is_exported(path: Path) -> bool:
    """Whether a folder is an exported model, and not a run."""
    return (path / ABOUT).is_file()


def read_record(folder: Path) -> ModelRecord:
    """What model.json says, after a look at the files.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    record = build(ModelRecord, read_json(folder / ABOUT), str(folder / ABOUT))
    for name in (GRAPH, PLAN):
        file = folder / name
        if not file.is_file() or checksum(file) != record.checksums.get(name):
            raise UserError("model-damaged", f"{file}: is not what was exported; export again, or restore a copy.")
    return record


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class ExportedPredictor(ScanPredictor):
    """Predicts scans with an exported model, on the CPU.

    Args:
        folder: what `ucseg export` wrote.
        device: "auto" or "cpu".
        precision: "auto" (the quicker one), "bf16" or "fp32".
        windows: as of the class above.

    Raises:
        UserError: the model is damaged, no runtime is installed, or the device is another one.
    """

    # A runtime prepares itself for each size of a batch, and an image of a larger batch takes no less time.
    joins_scans = False

    def __init__(self, folder: Path | str, device: str = "auto", *, precision: str = "auto", **windows: Any) -> None:
        folder = Path(folder)
        self._about = folder / ABOUT
        self.record = read_record(folder)
        require_precision(precision)
        if device not in ("auto", "cpu"):
            raise UserError(
                "model-device", f"--device {device}: exported models run on the CPU; take cpu, or predict with the run."
            )
        plan = read_plan(folder / PLAN)
        super().__init__(plan, **windows)
        if not self.record.any_size:
            self.growth = 1.0  # windows of the patch alone
        example = (1, plan.channels, *plan.patch)
        try:
            with memory_for(folder / GRAPH):
                self._session, self.precision = open_session(folder / GRAPH, precision, example)
        except UserError:
            raise
        except Exception as error:  # each runtime has its own errors; what they say is long and of their insides
            raise UserError(
                "model-not-loaded", f"{folder / GRAPH}: the runtime cannot load it; export the run again."
            ) from error
        self.silent = tuple(self.record.silent)
        self.calibration = kept_for(folder, self.record.weights, len(self.mirrors) > 1)
        self._layout = Layout(len(plan.classes), tuple(self.record.members), len(self.mirrors) > 1)

    @property
    def place(self) -> str:
        return "cpu"

    @property
    def weights(self) -> str:
        return self.record.weights

    @property
    def method_name(self) -> str:
        return self.record.method

    def answer(self, image: Array) -> tuple[Array, Layout]:
        classes = self._layout.classes
        maps = 1 + classes * (1 + len(self._layout.members))

        def once(images: Array) -> list[Array]:
            found = self._session(np.ascontiguousarray(images))
            if sum(part.shape[1] for part in found) != maps:
                raise UserError(
                    "model-members", f"{self._about}: it names other members than the graph has; export the run again."
                )
            return found

        values = mirrored_mean(
            np,
            once,
            image,
            self.mirrors,
            empty=partial(np.empty, dtype=np.float32),
            voxels=self.voxels_at_once,
            classes=classes,
        )
        return values, self._layout
