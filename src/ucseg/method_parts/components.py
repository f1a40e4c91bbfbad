"""Connected components: one organ, one piece."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np
import scipy

from ucseg.machine.room import pieces
from ucseg.randomness import on_device
from ucseg.types import Array

if TYPE_CHECKING:  # prediction of an exported model needs the filter, and has no torch
    from torch import Tensor


def largest_components(label: Array, classes: Iterable[int]) -> Array:
    """A copy of `label` (S, class indices) that keeps only the largest connected component of each of `classes`.

    Voxels that touch by face, edge or corner are connected. Smaller components become background.
    """
    out = label.copy()
    structure = np.ones((3,) * label.ndim, dtype=bool)
    boxes = scipy.ndimage.find_objects(label)
    for value in classes:
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None:
            continue
        found, count = scipy.ndimage.label(label[box] == value, structure)
        if count > 1:
            # A few rows at a time: counting whole scans would take twice the memory of their numbers.
            rows = pieces(found.shape)
            sizes = np.zeros(count + 1, np.int64)
            for part in rows:
                sizes += np.bincount(found[part].ravel(), minlength=count + 1)
            sizes[0] = 0
            largest = sizes.argmax()
            for part in rows:
                out[box][part][(found[part] > 0) & (found[part] != largest)] = 0
    return out


def keep_largest(label: Tensor, classes: Collection[int]) -> Callable[[], Tensor]:
    """`largest_components` of each image of a batch, B x S int64 on any device. Without classes nothing changes.

    The filter works on the host. So the copy starts here, and the filter runs where its result is called for.
    What a method queues in between keeps a GPU busy.
    """
    if not classes:
        return lambda: label
    import torch

    of_gpu = label.device.type == "cuda"
    small = label.to(torch.int16)  # a quarter of the copy
    on_host = small.to("cpu", non_blocking=of_gpu)
    copied = torch.cuda.Event() if of_gpu else None  # type: ignore[no-untyped-call]
    if copied is not None:
        copied.record()

    def result() -> Tensor:
        if copied is not None:
            copied.synchronize()  # waits for the copy alone, and not for what was queued since
        filtered = np.stack([largest_components(one, classes) for one in on_host.numpy()])
        return on_device(torch.from_numpy(filtered), label.device).long()

    return functools.cache(result)
