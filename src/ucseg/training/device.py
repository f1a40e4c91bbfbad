"""Which device to work on and in which precision: chosen by what the machine says it can do."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import time
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from ucseg import ranks
from ucseg.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
        raise UserError("device-name", f"device '{name}' is not known; use auto, cpu, cuda, cuda:1 or mps.") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UserError("device-missing", f"this machine has no device '{name}'; use --device auto or --device cpu.")
    return device


def supports_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, by its own report."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        report: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(report.get("avx512_bf16") or report.get("amx_bf16"))
    return False


@functools.cache
def quicker_in_bf16(device: torch.device) -> bool:
    """Whether the device convolves quicker in bfloat16 than in float32.

    GPUs that have it in hardware do. Processors are measured, which takes about a tenth of a second: the same
    instructions run at twice the rate of float32 on some and at half of it on others (docs/explanation/speed.md).
    """
    if device.type != "cpu" or not supports_bf16(device):
        return supports_bf16(device)
    return seconds_to_convolve(torch.bfloat16) < seconds_to_convolve(torch.float32)


def seconds_to_convolve(dtype: torch.dtype) -> float:
    """Seconds of a convolution on the CPU as on the lower levels of a subnet: the least of several.

    Draws no random numbers: those of training would be others.
    """
    layout, fastest = torch.channels_last, math.inf
    image = torch.ones(4, 256, 14, 14, dtype=dtype).contiguous(memory_format=layout)
    weight = torch.ones(256, 256, 3, 3, dtype=dtype).contiguous(memory_format=layout)
    with torch.inference_mode():
        for _ in range(8):  # the first ones warm up
            begun = time.perf_counter()
            nn.functional.conv2d(image, weight, padding=1)
            fastest = min(fastest, time.perf_counter() - begun)
    return fastest


def choose_precision(name: str, device: torch.device) -> Precision:
    """ "bf16" or "fp32"; "auto" takes the quicker one."""
    if name == "auto":
        return "bf16" if quicker_in_bf16(device) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def make_fabric(device: torch.device, precision: Precision, nodes: int = 1) -> Fabric:
    """Lightning-fabric for this process's device, with DDP if it is one of several ranks on so many nodes.

    Weights stay float32; bf16 means autocast.
    """
    # It takes as long to load as torch does, and prediction needs nothing of it.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision at each start
    mode: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision == "bf16" else "32-true"
    if ranks.size() == 1:
        devices: int | list[int] = [device.index] if device.index is not None and device.type == "cuda" else 1
        # Given, not looked for: in a job of SLURM, fabric would ask for srun or for as many devices as there are tasks.
        alone = LightningEnvironment()
        return Fabric(accelerator=device.type, devices=devices, precision=mode, plugins=alone)
    # The name of the same thing in older and newer versions of torch.
    newer = "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if newer else "broadcast_buffers"
    strategy = DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),  # in torchrun's variables, which launch sets as well
        find_unused_parameters=True,  # a term may be off for a while, and its parameters with it
        **cast(Any, {buffers: False}),  # they agree by themselves: statistics and memories take in all ranks
    )
    # A weight with one voxel fits two layouts; DDP takes the other one.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    fabric = Fabric(
        accelerator=device.type, devices=ranks.size() // nodes, num_nodes=nodes, precision=mode, strategy=strategy
    )
    fabric.launch()
    return fabric


def convolutions_to(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the convolution weights out in `memory_format`, in place. Other tensors of the module are not touched."""
    rank = 4 if memory_format == torch.channels_last else 5
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.modules.conv._ConvNd) and isinstance(weight, torch.Tensor) and weight.dim() == rank:
            # Not `contiguous`: it leaves weights of one input channel, which fit both layouts, with the strides of the
            # other, and then the first convolution and all that follows it at full size keep the other layout.
            weight.data = torch.empty_like(weight.data, memory_format=memory_format).copy_(weight.data)
