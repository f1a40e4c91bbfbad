"""Small changes of inputs and features that should not change a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ucseg import ranks
from ucseg.randomness import on_device


def of_each(draw: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random numbers of `shape` (B x ...), from torch.rand or similar: drawn for the whole batch, cut to this rank."""
    return ranks.own(draw((shape[0] * ranks.size(), *shape[1:]), generator=generator))


def gaussian_noise(x: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """`x` with Gaussian noise, clipped at two deviations as in the code of UA-MT (Yu et al. 2019, arXiv:1907.07034).

    Args:
        x: any shape and device.
        std: in the units of x.
        generator: on the CPU, so that every device sees the same noise.
    """
    noise = of_each(torch.randn, x.shape, generator).clamp_(-2.0, 2.0) * std
    return x + on_device(noise, x.device).to(x.dtype)


def channel_dropout(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Features B x K x S with whole channels set to zero at `rate`, the others scaled up to keep the mean."""
    kept = of_each(torch.rand, x.shape[:2], generator) >= rate
    mask = on_device(kept, x.device).to(x.dtype).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return x * mask / (1.0 - rate)


def feature_noise(x: Tensor, generator: torch.Generator, bound: float = 0.3) -> Tensor:
    """Features B x K x S times 1 + n, n uniform in +-`bound`, the same for all images of the batch (CCT, F-Noise)."""
    noise = (torch.rand(x.shape[1:], generator=generator) * 2.0 - 1.0) * bound
    return x * (1.0 + on_device(noise, x.device).to(x.dtype))


def feature_dropout(x: Tensor, generator: torch.Generator, low: float = 0.7, high: float = 0.9) -> Tensor:
    """Features B x K x S without their most active voxels (CCT, F-Drop).

    A voxel is dropped where the mean over channels is above a share, drawn from [`low`, `high`], of its maximum.
    """
    attention = x.detach().mean(dim=1, keepdim=True)
    share = low + (high - low) * float(torch.rand((), generator=generator))
    kept = attention < attention.flatten(1).amax(dim=1).reshape(-1, *(1,) * (x.ndim - 1)) * share
    # On a grid of a few voxels all can be equal, and nothing would be left.
    return x * (kept | ~kept.flatten(1).any(dim=1).reshape(-1, *(1,) * (x.ndim - 1)))


PERTURBATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "feature_noise": feature_noise,
    "channel_dropout": lambda x, generator: channel_dropout(x, 0.5, generator),
    "feature_dropout": feature_dropout,
}


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Inside the block, passes in training mode do not change the running statistics of batch norms.

    Prediction uses them, and it never sees altered images.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    before = [layer.momentum for layer in norms]
    try:
        for layer in norms:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(norms, before, strict=True):
            layer.momentum = momentum


def adversarial_change(
    predict: Callable[[Tensor], Tensor], image: Tensor, radius: float, generator: torch.Generator, reach: float = 0.01
) -> Tensor:
    """The small change of each image that alters its prediction most (Miyato et al. 2018, arXiv:1704.03976).

    One power iteration: the gradient of the squared difference after a step in a random direction.

    Args:
        predict: B x Cin x S images -> any tensor of probabilities.
        image: B x Cin x S.
        radius: root mean square of the change of a voxel.
        reach: that of the random step.

    Returns:
        B x Cin x S, no gradient.
    """
    axes = tuple(range(1, image.ndim))

    def unit(x: Tensor) -> Tensor:
        return x / x.square().mean(dim=axes, keepdim=True).sqrt().clamp_min(1e-12)

    start = unit(on_device(of_each(torch.randn, image.shape, generator), image.device)) * reach * reach
    with torch.no_grad():
        before = predict(image)
    with torch.enable_grad():
        start.requires_grad_()
        distance = (predict(image + start) - before).square().sum()
        (direction,) = torch.autograd.grad(distance, start)
    return unit(direction.float()) * radius
