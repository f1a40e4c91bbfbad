"""MONAI's networks (Cardoso et al. 2022, arXiv:2211.02701) by name, e.g. `monai:SwinUNETR`.

They need the extra ucseg[monai]. Where MONAI leaves the widths open, they are those of our networks.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.errors import UserError
from ucseg.networks.blocks import crop_to, pad_to_multiple
from ucseg.networks.cpu import VolumeConv
from ucseg.networks.levels import MOST_LEVELS
from ucseg.types import Problem

PREFIX = "monai:"
WIDTHS = "widths of the problem"
# Arguments besides those of the image. MONAI has defaults for the rest.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "UNet": {"channels": WIDTHS, "strides": (2, 2, 2, 2), "num_res_units": 2},
    "BasicUNet": {"features": WIDTHS},
    "AttentionUnet": {"channels": WIDTHS, "strides": (2, 2, 2, 2)},
    "DynUNet": {"kernel_size": [3] * 5, "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2] * 4},
    "SegResNet": {"init_filters": 16},
    "SwinUNETR": {"feature_size": 24},
}
MULTIPLE = {"SwinUNETR": 32}  # the sides of an image must be multiples of it; else 16


class MonaiNetwork(nn.Module):
    """A network of MONAI (`name`: its class in monai.networks.nets) with the interface of our networks.

    Attributes:
        widths: channels of the encoder levels; empty if the network does not show its encoder. The levels of SwinUNETR
            are those of its transformer, from half of the image's resolution downwards.

    Raises:
        UserError: MONAI is not installed (monai-missing), or ARGUMENTS does not have the network (monai-network).
    """

    def __init__(self, name: str, problem: Problem) -> None:
        super().__init__()
        if name not in ARGUMENTS:
            close = difflib.get_close_matches(name.lower(), [known.lower() for known in ARGUMENTS], n=3, cutoff=0.4)
            near = [known for known in ARGUMENTS if known.lower() in close]
            hint = f"did you mean {' or '.join(PREFIX + n for n in near)}?" if near else ""
            known = hint or f"known ones: {', '.join(PREFIX + n for n in ARGUMENTS)}."
            raise UserError("monai-network", f"there is no network '{PREFIX}{name}'; {known}")
        try:
            nets = importlib.import_module("monai.networks.nets")
        except ImportError as error:
            raise UserError(
                "monai-missing",
                f"network '{PREFIX}{name}' needs MONAI, and its import failed ({error}). "
                "Install it: pip install 'ucseg[monai]'.",
            ) from None
        size = {"spatial_dims": problem.dims, "in_channels": problem.channels, "out_channels": problem.classes}
        widths = [problem.width * 2**level for level in range(MOST_LEVELS)]
        if name == "BasicUNet":
            widths.append(problem.width)  # of the decoder's last map
        chosen = {key: widths if value is WIDTHS else value for key, value in ARGUMENTS[name].items()}
        self.network: nn.Module = getattr(nets, name)(**size, **chosen)
        self.dims = problem.dims
        self.multiple = MULTIPLE.get(name, 16)
        self.widths: tuple[int, ...] = ()
        if name == "SwinUNETR":
            self.widths = tuple(ARGUMENTS[name]["feature_size"] * 2**level for level in range(5))
        for module in self.network.modules():
            if type(module) is nn.Conv3d:
                module.__class__ = VolumeConv

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """B x Cin x S -> (logits B x C x S float32, feature maps of `widths`). Any S: padded, then cropped."""
        shape = tuple(image.shape[2:])
        x = pad_to_multiple(image, (self.multiple,) * self.dims)
        if all(size == self.multiple for size in x.shape[2:]):
            # The lowest level would have one voxel, and torch's norms refuse that.
            x = F.pad(x, (0, self.multiple) + (0, 0) * (self.dims - 1), mode="replicate")
        features: list[Tensor] = []
        if not self.widths:
            return crop_to(self.network(x), shape).float(), features
        transformer = self.network.get_submodule("swinViT")
        hook = transformer.register_forward_hook(lambda _module, _inputs, maps: features.extend(maps))
        try:
            logits = self.network(x)
        finally:
            hook.remove()
        return crop_to(logits, shape).float(), features
