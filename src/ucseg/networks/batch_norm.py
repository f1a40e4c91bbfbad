"""Batch norm over the whole batch of several ranks."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ucseg import ranks


class BatchNormOverRanks(nn.modules.batchnorm._BatchNorm):
    """Batch norm for devices that torch's SyncBatchNorm does not know: all but GPUs. In evaluation an ordinary one."""

    def _check_input_dim(self, _x: Tensor) -> None:
        """Any rank."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        with torch.autocast(x.device.type, enabled=False):
            variance, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.ndim)), correction=0)
            # Ranks have equally many voxels, so the variance is the mean of theirs plus that between their means.
            means, variances = ranks.gather(torch.stack([mean, variance])[None]).unbind(dim=1)
            mean = means.mean(dim=0)
            variance = (variances + (means - mean) ** 2).mean(dim=0)
            self._keep(mean.detach(), variance.detach(), ranks.size() * x.numel() // x.shape[1])
            scale = self.weight * (variance + self.eps).rsqrt()
            shift = self.bias - mean * scale
            return (x.float() * scale.reshape(shape) + shift.reshape(shape)).to(x.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)


def norms_over_ranks(module: nn.Module, device: torch.device) -> None:
    """Change the batch norms of a module in place: statistics are over all ranks. Names, tensors and hooks stay."""
    for layer in module.modules():
        if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
            continue
        if device.type == "cuda":
            # As convert_sync_batchnorm, which would make new layers without what follows a norm (timm_encoder.py).
            layer.__class__ = nn.SyncBatchNorm
            cast(Any, layer).process_group = None
        else:
            layer.__class__ = BatchNormOverRanks
