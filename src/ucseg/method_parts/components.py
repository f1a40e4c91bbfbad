"""Connected components: one organ, one piece."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import scipy
import torch
from torch import Tensor

from ucseg.types import Array


def largest_components(label: Array, classes: Iterable[int]) -> Array:
    """A copy of `label` (S, class indices) that keeps only the largest connected component of each of `classes`.

    Voxels that touch by face, edge or corner are connected. Smaller components become background.
    """
    out = label.copy()
    structure = np.ones((3,) * label.ndim, dtype=bool)
    for value in classes:
        pieces, count = scipy.ndimage.label(label == value, structure)
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            out[(pieces > 0) & (pieces != sizes.argmax())] = 0
    return out


def keep_largest(label: Tensor, classes: Collection[int]) -> Tensor:
    """`largest_components` of each image of a batch, B x S int64 on any device. Without classes nothing changes."""
    if not classes:
        return label
    filtered = [torch.from_numpy(largest_components(one, classes)) for one in label.cpu().numpy()]
    return torch.stack(filtered).to(label.device)
