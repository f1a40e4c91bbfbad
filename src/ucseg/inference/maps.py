"""What networks answer, as arrays: the same for torch and for what runs without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

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

    def split(self, values: Any) -> Maps:
        """B x K x S -> maps (views, nothing is copied); tensors stay tensors."""
        c = self.classes
        members = {name: values[:, 1 + c * i : 1 + c * (i + 1)] for i, name in enumerate(self.members, start=1)}
        return Maps(values[:, :c], values[:, c : c + 1], members, values[:, -1:] if self.spread else None)


def mirrored_mean(
    library: Any,
    once: Callable[[Values], Values],
    image: Values,
    mirrors: Sequence[tuple[int, ...]],
    *,
    voxels: int,
    classes: int,
) -> Values:
    """The mean of what `once` answers to all mirrors of a batch, each turned back.

    Args:
        library: numpy or torch, whose functions have the same names.
        once: B x Cin x S -> B x K x S.
        image: B x Cin x S.
        mirrors: axes of S that are turned round; () is the image as it is.
        voxels: of images that are seen at once. So the mirrors of few small windows become one batch.
        classes: C; the first channels are probabilities.

    Returns:
        B x K x S; with several mirrors one channel more, the variance of the probabilities, summed over the classes.
    """
    size: Any = image
    count = len(size)
    together = max(1, voxels // max(1, count * math.prod(size.shape[2:])))
    mean: Any = None
    squares: Any = 0.0
    done = 0
    for first in range(0, len(mirrors), together):
        group = [tuple(2 + axis for axis in axes) for axes in mirrors[first : first + together]]
        seen: Any = once(library.concatenate([library.flip(image, axes) for axes in group]))
        for k, axes in enumerate(group):
            one, done = library.flip(seen[k * count : (k + 1) * count], axes), done + 1
            if mean is None:
                mean = one
                continue
            away = one - mean  # Welford's way: no difference of two large sums
            mean = mean + away / done
            squares = squares + (away * (one - mean))[:, :classes]
    answer: Values = mean
    if len(mirrors) > 1:
        answer = library.concatenate([mean, (squares / done).sum(1)[:, None]], 1)
    return answer
