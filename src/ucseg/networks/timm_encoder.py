"""timm's encoders (Wightman 2019, doi 10.5281/zenodo.4414861) by name, e.g. `timm:resnet18`. They need ucseg[timm].

Nothing is downloaded: weights come from a file.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any, cast

import torch
from torch import Tensor, nn

from ucseg.errors import UserError

CHANNELS = 3
NATURAL = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet, for the encoders that do not name their own."""
TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class TimmEncoder(nn.Module):
    """The maps of an encoder that timm builds with `features_only`.

    Attributes:
        channels, reductions: of each map: how many channels, and the image's edge over the map's.
        mean, std: of the images that its weights were trained with, on a scale of 0 to 1.

    Raises:
        UserError: timm is not installed, has no such encoder, or the encoder takes images of one size only.
    """

    def __init__(self, name: str, inputs: int, patch: tuple[int, ...], multiple: tuple[int, ...]) -> None:
        super().__init__()
        timm = _timm(name)
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
            hint = (
                f"did you mean {' or '.join(f'timm:{one}' for one in close)}?" if close else "see timm.list_models()."
            )
            raise UserError("timm-network", f"timm has no network '{name}'; {hint}")
        self.network = _features(timm, name, inputs)
        info = self.network.feature_info
        self.channels, self.reductions = tuple(info.channels()), tuple(info.reduction())
        known = getattr(self.network, "pretrained_cfg", None) or {}
        self.mean, self.std = (tuple(known.get(key, own)) for key, own in zip(("mean", "std"), NATURAL, strict=True))
        for layer in self.network.modules():
            _split(layer)
        self.channels_last = False
        self._try(name, inputs, patch, multiple)

    def forward(self, x: Tensor) -> list[Tensor]:
        """B x Cin x S -> maps of `channels`."""
        maps: list[Tensor] = self.network(x)
        return [one.movedim(-1, 1) for one in maps] if self.channels_last else list(maps)

    def _try(self, name: str, inputs: int, patch: tuple[int, ...], multiple: tuple[int, ...]) -> None:
        """See what comes out, also of an image larger than the patch, as prediction has them."""
        sizes = [patch, tuple(edge + step for edge, step in zip(patch, multiple, strict=True))]
        self.eval()
        try:
            with torch.no_grad():
                maps, _ = (self.network(torch.zeros(1, inputs, *size)) for size in sizes)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                "timm-size",
                f"network 'timm:{name}' does not take images of {' and of '.join(_times(size) for size in sizes)} "
                f"({reason[0][:120]}); choose one that takes any size, e.g. timm:resnet18.",
            ) from None
        self.train()
        self.channels_last = maps[-1].shape[1] != self.channels[-1]  # Swin's


def _timm(name: str) -> Any:
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision is made for another torch
        reason = str(error).splitlines()[0]
        raise UserError(
            "timm-missing",
            f"network 'timm:{name}' needs timm, and its import failed ({reason}); "
            "install it with: pip install 'ucseg[timm]'.",
        ) from None


def _features(timm: Any, name: str, inputs: int) -> Any:
    settings = {"pretrained": False, "features_only": True, "in_chans": inputs}
    try:
        try:
            return timm.create_model(name, dynamic_img_size=True, **settings)  # transformers, which have a size else
        except TypeError:
            return timm.create_model(name, **settings)
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            "timm-features",
            f"network 'timm:{name}' does not show its maps ({reason}); choose another, e.g. timm:resnet18.",
        ) from None


def _split(layer: nn.Module) -> None:
    """A batch norm of timm's that also activates becomes torch's own, and the activation follows it.

    Its class is changed where processes train together (batch_norm.py), and the activation would be lost.
    """
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and type(layer) not in TORCHS and hasattr(layer, "act"):
        cast(Any, layer).__class__ = nn.BatchNorm2d
        layer.register_forward_hook(_activate)


def _activate(layer: Any, _inputs: Any, out: Tensor) -> Tensor:
    activated: Tensor = layer.act(layer.drop(out) if hasattr(layer, "drop") else out)
    return activated


def _times(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
