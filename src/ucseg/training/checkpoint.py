"""Weights on disk: the state a run resumes from, and the weights one predicts with. Safetensors only, never pickles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ucseg.config import build
from ucseg.errors import UserError, some
from ucseg.machine.reading import read_json
from ucseg.machine.writing import whole_file, write_json
from ucseg.training.read_back import StateHeader, networks_not_learned
from ucseg.training.run_folder import RunFolder
from ucseg.types import Problem

if TYPE_CHECKING:
    from ucseg.methods.base import Method
    from ucseg.planning.plan import Plan

WEIGHTS = ("last", "best", "ema")
RESTORE = "restore it from a copy or train again"


@dataclass
class State:
    """Everything needed to go on with a run. It is one file, so it is never half old and half new.

    Attributes:
        weights: the method's state dict, memories included.
        average: averaged weights, empty when none are kept.
        notes: what fits in JSON: best validation so far, seconds spent, precision.
    """

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        parts = {"weights": self.weights, "optimizer": self.optimizer, "average": self.average}
        tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        save_tensors(path, tensors, {"step": self.step, "notes": self.notes})

    @classmethod
    def load(cls, path: Path) -> State:
        """Read a state; a UserError when the file is damaged."""
        tensors, header = load_tensors(path)
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "average": {}}
        try:
            for key, value in tensors.items():
                part, _, name = key.partition("/")
                parts[part][name] = value
            known = build(StateHeader, header, str(path))
            return cls(step=known.step, notes=dict(header["notes"]), **parts)
        except (KeyError, UserError):
            raise UserError("state-damaged", f"{path}: this is no saved state of a training run; {RESTORE}.") from None


def load_state(run: RunFolder) -> State | None:
    """The state that a run goes on from; None before its first save.

    Raises:
        UserError: it is another run's, it is damaged, or it is gone from a run that has ended.
    """
    if not run.state_file.exists():
        if run.weights_file("last").exists() and not run.unfinished:
            raise UserError(
                "state-missing",
                f"{run.state_file}: is not there, though the run has ended, and nothing goes on without it; start "
                f"another run with --init {run.path}.",
            )
        return None
    state = State.load(run.state_file)
    run.require_unchanged(state.notes.setdefault("run", run.digest), run.state_file)
    return state


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """A safetensors file, whole or not at all. Tensors that share storage are each written out."""
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    notes = {"ucseg": json.dumps(dict(header))}
    with whole_file(path, durable=True) as temporary:
        save_file(plain, temporary, metadata=notes)
        temporary.chmod(0o666 & ~_umask())  # safetensors gives its files to their owner alone


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of `save_tensors`, on the CPU.

    Raises:
        UserError: the file is missing, truncated or no safetensors file of ours.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            notes = (file.metadata() or {}).get("ucseg")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError("weights-missing", f"{path}: there is no such file; has the run saved anything yet?") from None
    except (SafetensorError, OSError) as error:
        raise UserError("weights-damaged", f"{path}: the weights cannot be read ({error}); {RESTORE}.") from None
    if notes is None:
        raise UserError("weights-foreign", f"{path}: ucseg did not write these weights; give a run of 'ucseg train'.")
    try:
        return tensors, dict(json.loads(notes))
    except (ValueError, TypeError, RecursionError):
        raise UserError("weights-header", f"{path}: what is noted in it cannot be read; {RESTORE}.") from None


def save_weights(run: RunFolder, which: str, weights: Mapping[str, Tensor], known: Mapping[str, Any]) -> None:
    """Weights to predict with, and beside them what is known of them (step, validation) as JSON."""
    path = run.weights_file(which)
    save_tensors(path, weights, {**known, "run": run.digest})
    write_json(path.with_suffix(".json"), known)


def restore_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict strictly; the module keeps its memory layout.

    Raises:
        UserError: names, shapes or kinds of numbers are not the module's.
    """
    own, given = (
        {name: (value.shape, value.is_floating_point()) for name, value in one.items()}
        for one in (module.state_dict(), tensors)
    )
    if wrong := [name for name in sorted(own | given) if own.get(name) != given.get(name)]:
        differs = f"does not fit the method of config.json (differs in {some(wrong)})"
        raise UserError("weights-misfit", f"{path}: {differs}; {RESTORE}.")
    module.load_state_dict(dict(tensors))


def load_method(run: Path | str, which: str = "last") -> tuple[Method, Plan, dict[str, Any]]:
    """A trained method, in evaluation mode on the CPU.

    Args:
        run: the run's folder.
        which: "last", "best" (on validation cases) or "ema" (averaged weights).

    Returns:
        The method, the plan its data were prepared with, and the run's complete configuration.

    Raises:
        UserError: the run or the weights are missing or damaged.
    """
    from ucseg.methods import build_method

    folder = RunFolder(Path(run))
    if not folder.started:
        if (folder.path / "model.onnx").is_file():
            raise UserError(
                "run-is-exported", f"{run}: this is an exported model, which only predicts; give the run it is made of."
            )
        raise UserError(
            "run-missing", f"{run}: no training run is there; make one with 'ucseg train DATASET --out {run}'."
        )
    config = folder.config
    if folder.verb != "train":
        raise UserError(
            "run-of-pretraining",
            f"{run}: these are pretrained weights, and no trained model; "
            f"train one with 'ucseg train DATASET --out RUN --init {run}'.",
        )
    name, settings = folder.method
    path = find_weights(folder, which)
    tensors, header = load_tensors(path)
    folder.require_unchanged(header.get("run"), path)
    plan = _plan_of(folder, config)
    try:
        problem = TypeAdapter(Problem).validate_python(config["problem"])
    except (KeyError, ValidationError):
        problem = None
    if problem != plan.problem:
        raise UserError(
            "run-problem-changed",
            f"{folder.config_file}: its problem is not that of {folder.plan_file.name}; {RESTORE}.",
        )
    try:
        method = build_method(name, settings, plan.problem)
    except UserError as error:  # the code may have no such setting or method any more
        raise UserError("run-config-outdated", f"{folder.config_file}: {error}") from None
    try:
        restore_weights(method, tensors, path)
    except UserError:
        if newer := sorted(method.config.model_dump().keys() - settings.keys()):
            raise UserError(
                "run-older",
                f"{folder.path}: an earlier version made this run, without settings such as {newer[0]}; train again, "
                f"from its weights with --init {folder.path}.",
            ) from None
        raise
    return method.eval(), plan, config


def _plan_of(run: RunFolder, config: Mapping[str, Any]) -> Plan:
    """The plan that the run was trained with; a UserError if plan.yaml was edited since."""
    from ucseg.planning.plan import plan_from, read_plan

    plan = read_plan(run.plan_file)
    if "plan" not in config:
        return plan
    trained = plan_from(config["plan"], str(run.config_file)).model_dump(exclude={"made_of"})
    now = plan.model_dump()
    differ = [key for key, value in trained.items() if now[key] != value]
    if differ:
        raise UserError(
            "run-plan-changed",
            f"{run.plan_file}: {some(differ)} changed after the training, and the weights fit what was there; set them "
            f"back as in {run.config_file.name}, or train again with the new plan.",
        )
    return plan


def find_weights(run: RunFolder, which: str) -> Path:
    """The file of the weights called `which`; a UserError says what there is instead."""
    if which not in WEIGHTS:
        raise UserError("checkpoint-name", f"checkpoint '{which}' is not known; use one of {', '.join(WEIGHTS)}.")
    path = run.weights_file(which)
    if path.exists():
        return path
    present = [name for name in WEIGHTS if run.weights_file(name).exists()]
    advice = f"choose from: {', '.join(present)}" if present else "train longer: nothing was saved yet"
    why = {"best": " (it needs validation cases)", "ema": " (it needs --set ema=0.99 or the like in training)"}
    raise UserError("checkpoint-missing", f"{path}: there are no weights '{which}'{why.get(which, '')}; {advice}.")


def silent_networks(run: Path, checkpoint: str) -> tuple[str, ...]:
    """`networks_not_learned` of the validation of weights "last", "best" or "ema"."""
    file = RunFolder(run).weights_file(checkpoint).with_suffix(".json")
    return networks_not_learned(read_json(file) if file.exists() else {})


def weights_digest(method: Method) -> str:
    """A short name for exactly these weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(method.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
