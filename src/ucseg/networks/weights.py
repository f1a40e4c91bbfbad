"""Weights from a file, and which of them fit a network: by name and shape, whatever made them."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ucseg.errors import UserError
from ucseg.networks import Network

Weights = Mapping[str, Tensor]
WRAPPERS = ("network_weights", "state_dict", "model_state_dict", "model", "weights")
"""Under these names checkpoints of nnU-Net, nnssl, Lightning and others hold the weights, beside other things."""
ADDED = ("module.", "_orig_mod.")
"""What torch puts in front of every name of a network that several devices share, or that is compiled."""
HEADS = ".seg_layers."
"""nnU-Net's heads and nnssl's: they belong to other classes, or to the pretext task."""
IMAGE_CHANNELS = (1, 3)
"""Of the images that networks are pretrained on. No other layer has so few inputs, but for those of equal shape."""
ENOUGH = 0.25
"""Part of a network's kernels that has to fit: an encoder alone is about half, a name in common is chance."""
NORMS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True)
class Fit:
    """Which tensors a module gets, by its own names.

    Attributes:
        taken: name -> tensor, of the shape that the module has.
        missing: names that stay as they are.
    """

    taken: dict[str, Tensor]
    missing: list[str]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a file of torch.save that holds nothing but plain values and tensors.

    Raises:
        UserError: the file is missing, damaged, holds code, or no tensors.
    """
    if not path.is_file():
        raise UserError("init-missing", f"{path}: there is no such file; check the path.")
    try:
        values = _safetensors(path) if _is_safetensors(path) else torch.load(path, _stay, weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged file makes torch's reader fail in any way
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if "eights only" in reason[0] or isinstance(error, IndexError | KeyError):
            reason = ["it holds code, or is no file of weights"]
        raise UserError(
            "init-unreadable",
            f"{path}: cannot be read as weights ({reason[0][:120]}); "
            "give a safetensors file, or a .pth file that holds only tensors and plain values.",
        ) from None
    foreign = isinstance(values, Mapping) and "network_weights" in values
    tensors = {_plain(name): value for name, value in _tensors(values).items()}
    if foreign:
        tensors = {name: value for name, value in tensors.items() if HEADS not in f".{name}"}
    if not tensors:
        raise UserError("init-empty", f"{path}: holds no tensors; give a file with the weights of a network.")
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise UserError("init-not-finite", f"{path}: {bad[0]} has values that are not finite; give another file.")
    return tensors


def fit_by_names(module: nn.Module, weights: Weights) -> Fit:
    """What fits a module under its own full names; nothing if that is little enough to be chance.

    Memories and other state of a method start empty.
    """
    learned = {name for name, _ in module.named_parameters()}
    own = {name: value for name, value in module.state_dict().items() if name in learned or NORMS.search(name)}
    fit = _fit(own, weights, "")
    return fit if _enough(fit.taken, own) else Fit({}, list(own))


def fit_networks(module: nn.Module, weights: Weights) -> Fit:
    """What fits each network of a module, or its encoder, wherever in the file it lies.

    So one encoder goes to student and teacher, and to each of several networks.
    """
    own, taken = module.state_dict(), dict[str, Tensor]()
    for prefix, network in networks_of(module):
        best: dict[str, Tensor] = {}
        for inner in ("", *(f"{name}." for name, _ in network.named_children())):
            part = {k.removeprefix(inner): v for k, v in network.state_dict().items() if k.startswith(inner)}
            for start in _starts(part, weights):
                found = _fit(part, weights, start).taken
                if len(found) > len(best):
                    best = {f"{prefix}{inner}{name}": value for name, value in found.items()}
        if _enough(best, network.state_dict()):
            taken |= best
    return Fit(taken, [name for name in own if name not in taken])


def networks_of(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The networks in a method, each with its prefix in the method's state dict."""
    for name, child in module.named_children():
        if isinstance(child, Network):
            yield f"{prefix}{name}.", child
        else:
            yield from networks_of(child, f"{prefix}{name}.")


def load(module: nn.Module, fit: Fit) -> None:
    """Put the tensors of a fit into the module; the others stay as they are."""
    module.load_state_dict(fit.taken, strict=False)


def places(names: list[str], of: list[str]) -> list[str]:
    """The shortest prefixes that hold some `names`, and no other name `of` the same module."""
    missing, kept = set(names), set(of) - set(names)
    found: dict[str, None] = {}
    for name in of:
        if name in missing:
            parts = name.split(".")
            starts = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
            own = next(start for start in starts if not any(f"{one}.".startswith(f"{start}.") for one in kept))
            found[own] = None
    return list(found)


def _enough(taken: Weights, own: Weights) -> bool:
    """Whether enough kernels fit. Scales and shifts of norms fit networks of any rank."""
    fitting, there = (sum(value.ndim > 1 for value in tensors.values()) for tensors in (taken, own))
    return bool(taken) and fitting >= ENOUGH * there


def _stay(storage: Any, _device: str) -> Any:
    """Weights that were on a GPU come to where they are read."""
    return storage


def _is_safetensors(path: Path) -> bool:
    """By the ending, or because it is no file of torch.save: those are zip archives, or older pickles."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return not zipfile.is_zipfile(path) and start[8:9] == b"{"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _tensors(values: Any) -> dict[str, Tensor]:
    """The tensors of a mapping; if it has none, those of a mapping in it that is known to hold the weights."""
    if not isinstance(values, Mapping):
        return {}
    found = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    inner = next((values[name] for name in WRAPPERS if isinstance(values.get(name), Mapping)), None)
    return _tensors(inner) if inner is not None else found


def _plain(name: str) -> str:
    for start in ADDED:
        name = name.removeprefix(start)
    return name


def _starts(own: Weights, weights: Weights) -> list[str]:
    """Prefixes under which the file has names of a network, the shortest first."""
    found: dict[str, int] = defaultdict(int)
    for name in weights:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in own:
                found[".".join([*parts[:cut], ""]) if cut else ""] += 1
    return sorted(found, key=len)


def _fit(own: Weights, weights: Weights, start: str) -> Fit:
    taken = {}
    for name, value in own.items():
        given = weights.get(start + name)
        if given is not None and (fitting := shaped(given, value)) is not None:
            taken[name] = fitting
    return Fit(taken, [name for name in own if name not in taken])


def shaped(given: Tensor, own: Tensor) -> Tensor | None:
    """The given tensor if it has the shape; or a first layer of as many channels as the images have.

    The sum over the channels stays: an image with the same values in all of them gives the same map.
    """
    if given.shape == own.shape:
        return given
    first = given.ndim == own.ndim > 2 and given.shape[1] in IMAGE_CHANNELS
    if first and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:]):
        return given.sum(dim=1, keepdim=True).expand_as(own) / own.shape[1]
    return None
