"""Where a run starts, if not from random weights: at a file, at an earlier run, or at a pretraining."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ucseg.errors import UserError, some
from ucseg.methods.base import Method
from ucseg.networks.weights import Fit, fit_by_names, fit_networks, load, read_weights
from ucseg.training.checkpoint import find_weights
from ucseg.training.run_folder import RunFolder


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        path: as the user gave it.
        file: the file that holds the tensors.
        by_names: an earlier run's, which fit by their full names if the method is the same.
        digest: of the file's content.
    """

    path: Path
    file: Path
    by_names: bool
    digest: str

    @property
    def record(self) -> dict[str, str]:
        """What config.json keeps: a resumed run, and the cells of a comparison, must mean the same weights."""
        return {"file": str(self.file), "digest": self.digest}


def find_start(path: Path) -> Start:
    """The weights of a file, the last ones of a run's folder, or those of a folder of `ucseg pretrain`.

    Raises:
        UserError: there are none.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError("init-not-there", f"--init {path}: there is no such file or folder; check the path.")
        return Start(path, path, False, _digest(path))
    run = RunFolder(path)
    if not run.started:
        raise UserError(
            "init-no-run", f"--init {path}: this folder holds no run of 'ucseg train' or 'ucseg pretrain'; give one."
        )
    if run.verb == "train":
        file = find_weights(run, "last")
        return Start(path, file, True, _digest(file))
    if not run.pretrained_file.exists():
        raise UserError(
            "init-unfinished",
            f"--init {path}: this pretraining has not ended; continue it with 'ucseg pretrain' and --resume.",
        )
    return Start(path, run.pretrained_file, False, _digest(run.pretrained_file))


def goes_on(path: Path, method: str) -> bool:
    """Whether the weights are those of a training run of this method, and not of another one or of a pretraining."""
    run = RunFolder(path)
    return path.is_dir() and run.started and run.verb == "train" and run.method[0] == method


def start_from(method: Method, start: Start) -> Fit:
    """Load what fits into a freshly built method.

    The tensors of a run go by their full names. Others, and those of a run of another method, go to every network of
    the method whose kind they are.

    Raises:
        UserError: the file cannot be read, or nothing fits.
    """
    weights = read_weights(start.file)
    named = fit_by_names(method, weights)
    fit = fit_networks(method, weights)
    if named.taken and (start.by_names or len(named.taken) >= len(fit.taken)):
        fit = named
    if not fit.taken:
        raise UserError(
            "init-nothing-fits",
            f"--init {start.path}: no tensor fits a network of this method by name and shape "
            f"(the file has {some(sorted(weights))}; the method has {some(sorted(method.state_dict()))}). "
            "Train with the network and the width that the weights are for, e.g. --set method.networks=[resenc], or "
            "pretrain the networks of this method.",
        )
    own = method.state_dict()
    if whole := [name for name, one in fit.taken.items() if one.is_floating_point() != own[name].is_floating_point()]:
        raise UserError(
            "init-numbers",
            f"--init {start.path}: {some(whole)} hold whole numbers where the network has fractions, or the other way "
            "round; give weights that were saved as they were trained.",
        )
    load(method, fit)
    return fit


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
