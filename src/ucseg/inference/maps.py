"""What networks answer, as arrays: the same for torch and for what runs without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ucseg.machine.room import AT_A_TIME
from ucseg.types import Array

Values = TypeVar("Values")
"""Arrays of numpy or tensors of torch."""


@dataclass(frozen=True)
class Maps:
    """`types.Prediction` as numpy arrays.

    Attributes:
        probabilities: B x C x S float32, summing to one over C.
        uncertainty: B x 1 x S float32 in (0, 1].
        members: probabilities of the single networks, by name, each B x C x S.
        spread: B x 1 x S: variance of the probabilities over mirrored passes, summed over the classes.
    """

    probabilities: Array
    uncertainty: Array
    members: dict[str, Array] = field(default_factory=dict)
    spread: Array | None = None

    def each(self, change: Callable[[Array], Array]) -> Maps:
        """The same maps, each changed."""
        members = {name: change(member) for name, member in self.members.items()}
        spread = None if self.spread is None else change(self.spread)
        return Maps(change(self.probabilities), change(self.uncertainty), members, spread)


@dataclass(frozen=True)
class Layout:
    """How the K channels of a summed array are made up: C probabilities, the uncertainty, C a member, the spread."""

    classes: int
    members: tuple[str, ...]
    spread: bool = False

    @property
    def summed(self) -> list[int]:
        """The channels that have to be summed up: the background of each network is one minus its other classes."""
        backgrounds = {0, *(1 + self.classes * i for i in range(1, len(self.members) + 1))}
        last = 1 + self.classes * (1 + len(self.members)) + self.spread
        return [channel for channel in range(last) if channel not in backgrounds]

    def filled(self, values: Array) -> Array:
        """The `summed` channels x S -> K x S."""
        full = np.empty((len(values) + 1 + len(self.members), *values.shape[1:]), values.dtype)
        full[self.summed] = values
        for start in (0, *(1 + self.classes * i for i in range(1, len(self.members) + 1))):
            others = full[start + 1 : start + self.classes].sum(axis=0)
            np.maximum(1 - others, 0, out=full[start])
        return full

    def split(self, values: Any) -> Maps:
        """B x K x S -> maps (views, nothing is copied); tensors stay tensors."""
        c = self.classes
        members = {name: values[:, 1 + c * i : 1 + c * (i + 1)] for i, name in enumerate(self.members, start=1)}
        return Maps(values[:, :c], values[:, c : c + 1], members, values[:, -1:] if self.spread else None)


def mirrored_mean(
    library: Any,
    once: Callable[[Any], Sequence[Any]],
    image: Values,
    mirrors: Sequence[tuple[int, ...]],
    *,
    empty: Callable[[tuple[int, ...]], Values],
    voxels: int,
    classes: int,
) -> Values:
    """The mean of what `once` answers to all mirrors of a batch, each turned back.

    Args:
        library: numpy or torch, whose functions have the same names.
        once: B x Cin x S -> maps that have K channels together, the probabilities first.
        image: B x Cin x S.
        mirrors: axes of S that are turned round; () is the image as it is.
        empty: gives room of a shape, float32.
        voxels: of images that are seen at once. So the mirrors of few small windows become one batch.
        classes: C.

    Returns:
        B x K x S; with several mirrors one channel more, the variance of the probabilities, summed over the classes.
    """
    size: Any = image
    count = len(size)
    each = max(1, count * math.prod(size.shape[2:]))
    together, few = max(1, voxels // each), max(1, AT_A_TIME // each)
    mean: Any = None
    done = 0
    for first in range(0, len(mirrors), together):
        group = [tuple(2 + axis for axis in axes) for axes in mirrors[first : first + together]]
        seen = once(library.concatenate([library.flip(image, axes) for axes in group]))
        if mean is None:
            channels = sum(part.shape[1] for part in seen)
            mean = empty((count, channels + (len(mirrors) > 1), *size.shape[2:]))
            mean[:, channels:] = 0
        for k, axes in enumerate(group):
            done += 1
            # In place, and of large windows a channel at a time: all once more would be most of the memory.
            first_channel = 0
            for part in seen:
                for start in range(0, part.shape[1], few):
                    value = library.flip(part[k * count : (k + 1) * count, start : start + few], axes)
                    so_far = mean[:, first_channel : first_channel + value.shape[1]]
                    first_channel += value.shape[1]
                    if done == 1:
                        so_far[:] = value
                        continue
                    away = value - so_far  # Welford's way: no difference of two large sums
                    so_far += away / done
                    if first_channel <= classes:
                        mean[:, -1] += (away * (value - so_far)).sum(1)
        del seen  # before the next pass
    if len(mirrors) > 1:
        mean[:, -1] /= done
    answer: Values = mean
    return answer
