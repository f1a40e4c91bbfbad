"""Where a run starts, if not from random weights: at a file, at an earlier run, or at a pretraining."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.errors import UserError, some
from ucseg.methods.base import Method
from ucseg.networks.weights import Fit, fit_by_names, fit_networks, load, read_weights
from ucseg.planning.plan import Plan, read_plan
from ucseg.training.checkpoint import find_weights
from ucseg.training.run_folder import RunFolder

OF_NETWORKS = ("network", "networks", "subnets", "upg", "gate", "fusion_widths", "attention_width")
"""Settings of methods that decide which tensors there are."""


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
            "init-no-run",
            f"--init {path}: this folder holds no run of 'ucseg train' or 'ucseg pretrain'; give one, "
            "no exported model or dataset.",
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


def earlier_networks(path: Path, method: str) -> dict[str, Any] | None:
    """Settings of the networks of a training run of this method; None of another one's, or of a pretraining's."""
    run = RunFolder(path)
    if not path.is_dir() or not run.started or run.verb != "train":
        return None
    name, config = run.method
    return {key: config[key] for key in OF_NETWORKS if key in config} if name == method else None


def plan_going_on(plan: Plan, init: Path, method: str, given: Container[str]) -> Plan:
    """The plan with the encoder of the training run of this method that goes on.

    Args:
        given: names of settings of the method and of the plan; with the encoder, or networks, among them the plan
            stays.
    """
    known = earlier_networks(init, method)
    if known is None or any(name in given for name in (*known, "preset", "encoder")):
        return plan
    return plan.model_copy(update={"encoder": read_plan(RunFolder(init).plan_file).encoder})


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
            f"Train with the network, encoder and width that the weights are for{_networks_of(start.path)}, "
            "e.g. --set method.networks=[resenc], or pretrain the networks of this method.",
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


def _networks_of(path: Path) -> str:
    """The networks of a run and the encoder of its plan, in brackets; "" of a file."""
    run = RunFolder(path)
    if not path.is_dir() or not run.started:
        return ""
    found = [run.method[1][key] for key in ("network", "networks", "subnets") if key in run.method[1]]
    texts = [one if isinstance(one, str) else ", ".join(one) for one in found]
    plan = read_plan(run.plan_file)
    if plan.dims == 2:
        texts.append(f"plan.encoder={plan.encoder or 'null'}")
    return f" ({', '.join(texts)})" if texts else ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
