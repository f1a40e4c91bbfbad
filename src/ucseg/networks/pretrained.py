"""Weights of encoders that were trained on photographs: from a package or a file into a freshly built method."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from ucseg.errors import UserError, some
from ucseg.networks.effnet_lite0 import packaged_weights
from ucseg.networks.encoder_unet import RANDOM, EncoderUNet
from ucseg.networks.weights import read_weights, shaped
from ucseg.types import TIMM

ENOUGH = 0.5
"""Part of an encoder's tensors that has to fit; less is another encoder."""
COUNTER = "num_batches_tracked"
WRAPPED = ("network_", "model_", "backbone_", "encoder_")
"""What the names of an encoder that is part of something else begin with."""


def load_pretrained(module: nn.Module) -> list[str]:
    """Load the weights that each encoder of a method starts from; a teacher gets those of its student.

    To be called once, before training. A trained method has its encoder in its own weights, and needs no file.

    Returns:
        A line for each encoder: from where, and what did not fit.

    Raises:
        UserError: the weights are not there, cannot be read, or are those of another encoder.
    """
    found = [_load(one) for one in module.modules() if isinstance(one, EncoderUNet) and one.start != RANDOM]
    return list(dict.fromkeys(found))


def _load(network: EncoderUNet) -> str:
    if not network.start and network.name.startswith(TIMM):
        return f"{network.name} starts from random weights; give it a file: {network.name}:FILE."
    path = Path(network.start) if network.start else packaged_weights()
    given = {_key(name): (name, value) for name, value in read_weights(path).items() if COUNTER not in name}
    own = {name: value for name, value in network.backbone.state_dict().items() if COUNTER not in name}
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        _, tensor = given.get(_key(name), ("", None))
        if tensor is not None and (fitting := shaped(tensor, value)) is not None:
            taken[name] = fitting
            del given[_key(name)]
    missing = [name.removeprefix("network.") for name in own if name not in taken]
    if len(taken) < ENOUGH * len(own):
        raise UserError(
            "encoder-misfit",
            f"{path}: {len(taken)} of the {len(own)} tensors of {network.name} are in it with their name and shape, "
            f"{some(missing)} are not; give the weights of this encoder.",
        )
    network.backbone.load_state_dict(taken, strict=False)
    source = str(path) if network.start else f"ImageNet weights ({path.name})"
    said = f"{network.name} starts from {source}: {len(taken)} of its {len(own)} tensors"
    if missing:
        said += f"; random: {some(missing)}"
    if given and network.start:  # what the package's file has more is the head for photographs
        said += f"; in the file, but not in the encoder: {some([name for name, _ in given.values()])}"
    return f"{said}."


def _key(name: str) -> str:
    """Names without what differs between a network, its encoder alone, and other versions: dots and underscores."""
    key = re.sub(r"[._]+", "_", name).strip("_")
    while start := next((one for one in WRAPPED if key.startswith(one)), None):
        key = key.removeprefix(start)
    return key
