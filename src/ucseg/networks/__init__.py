"""Networks. Each returns (logits, encoder feature maps), so that any two can be a pair of subnets."""

from __future__ import annotations

from collections.abc import Sequence

from ucseg.errors import UserError
from ucseg.networks.swin_unet import SwinUNet
from ucseg.networks.unet import UNet
from ucseg.networks.vnet import VNet
from ucseg.types import Problem

Network = UNet | VNet | SwinUNet
NETWORKS: dict[str, type[Network]] = {"unet": UNet, "vnet": VNet, "swin_unet": SwinUNet}


def build_network(name: str, problem: Problem) -> Network:
    """The network called `name` for this problem; a UserError lists the known ones."""
    if name not in NETWORKS:
        raise UserError(f"there is no network '{name}'; known networks: {', '.join(NETWORKS)}.")
    return NETWORKS[name](problem.dims, problem.channels, problem.classes)


def member_names(names: Sequence[str]) -> list[str]:
    """Names by which the networks of a method are told apart: ("unet", "unet") -> ["unet", "unet_2"]."""
    return [name if name not in names[:k] else f"{name}_{k + 1}" for k, name in enumerate(names)]
