"""Which device to work on and in which precision: chosen by what the machine says it can do."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import nn

from ucseg.errors import UserError

Precision = Literal["bf16", "fp32"]


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto" (the best there is), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        UserError: torch does not know the name or this machine does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device '{name}' is not known; use auto, cpu, cuda, cuda:1 or mps.") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UserError(f"device '{name}' is not there on this machine; use --device auto or --device cpu.")
    return device


def supports_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, by its own report."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        report: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(report.get("avx512_bf16") or report.get("amx_bf16"))
    return False


def choose_precision(name: str, device: torch.device) -> Precision:
    """ "bf16" or "fp32"; "auto" takes bf16 where the device has it in hardware."""
    if name == "auto":
        return "bf16" if supports_bf16(device) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def make_fabric(device: torch.device, precision: Precision) -> Fabric:
    """Lightning-fabric for one device. Weights stay float32; bf16 means autocast."""
    devices: int | list[int] = [device.index] if device.index is not None and device.type == "cuda" else 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision at each start
    return Fabric(
        accelerator=device.type, devices=devices, precision="bf16-mixed" if precision == "bf16" else "32-true"
    )


def channels_last(dims: int) -> torch.memory_format:
    """The memory format that keeps the channels of one voxel together, for images of this spatial rank."""
    # torch's stubs know the 3D format under the same type.
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def convolutions_to(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the convolution weights out in `memory_format`, in place. Other tensors of the module are not touched."""
    rank = 4 if memory_format == torch.channels_last else 5
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.modules.conv._ConvNd) and isinstance(weight, torch.Tensor) and weight.dim() == rank:
            weight.data = weight.data.contiguous(memory_format=memory_format)
