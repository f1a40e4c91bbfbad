"""Networks. Each returns (logits, encoder maps), so that any two can be a pair of subnets.

The maps have `widths` channels, finest first. A network that does not show its encoder has no widths and no maps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ucseg.errors import UserError
from ucseg.networks.coarse_unet import CoarseUNet
from ucseg.networks.encoder_unet import EncoderUNet
from ucseg.networks.monai_networks import PREFIX, MonaiNetwork
from ucseg.networks.resenc import ResEnc
from ucseg.networks.strided_unet import StridedUNet
from ucseg.networks.swin_unet import SwinUNet
from ucseg.networks.unet import ThinUNet, UNet
from ucseg.networks.vnet import NormedVNet, VNet
from ucseg.types import EFFNET, TIMM, Problem, is_encoder

Network = UNet | CoarseUNet | StridedUNet | VNet | SwinUNet | ResEnc | MonaiNetwork | EncoderUNet
NETWORKS: dict[str, type[UNet | CoarseUNet | StridedUNet | VNet | SwinUNet | ResEnc]] = {
    "unet": UNet,
    "unet_coarse": CoarseUNet,
    "unet_thin": ThinUNet,
    "unet_strided": StridedUNet,
    "vnet": VNet,
    "vnet_norm": NormedVNet,
    "swin_unet": SwinUNet,
    "resenc": ResEnc,
}


ON_ENCODER = ("unet", "unet_strided")
LIGHT = "unet_light"
OF_LITTLE_WORK = {2: "unet_thin", 3: "unet_coarse"}
"""What LIGHT is. In 3D half of the channels is two fifths of the work on a CPU, and a coarser volume a sixth."""


def build_network(name: str, problem: Problem) -> Network:
    """The network called `name` for this problem, with random weights. An unknown name is a UserError.

    `monai:NAME` is one of MONAI's. `effnet_lite0` and `timm:NAME` get their weights from `load_pretrained`; so does the
    encoder of the problem, on which the U-Nets of whole width are built.
    """
    if name == LIGHT:
        name = OF_LITTLE_WORK[problem.dims]
    if problem.encoder is not None and name in ON_ENCODER:
        return EncoderUNet(problem.encoder, problem)
    if name.startswith(PREFIX):
        return MonaiNetwork(name.removeprefix(PREFIX), problem)
    if is_encoder(name):
        return EncoderUNet(name, problem)
    if name not in NETWORKS:
        known = f"known networks: {', '.join(NETWORKS)}, {LIGHT}, {EFFNET}, {TIMM}NAME, {PREFIX}NAME."
        raise UserError("network-unknown", f"there is no network '{name}'; {known}")
    return NETWORKS[name](problem)


def member_names(names: Sequence[str]) -> list[str]:
    """A different name for each network of a method: ("unet", "unet") -> ["unet", "unet_2"].

    They are names of folders and of modules too. So colons and dots become underscores.
    A file of weights is left out.
    """
    names = [re.sub(r"\W", "_", _without_file(name)) for name in names]
    return [name if name not in names[:k] else f"{name}_{k + 1}" for k, name in enumerate(names)]


def _without_file(name: str) -> str:
    return ":".join(name.split(":")[: 2 if name.startswith((TIMM, PREFIX)) else 1])


def build_networks(names: Sequence[str], problem: Problem) -> nn.ModuleDict:
    """The networks of a method by their `member_names`, each with its own initial weights."""
    return nn.ModuleDict(
        {key: build_network(name, problem) for key, name in zip(member_names(names), names, strict=True)}
    )
