"""What crosses the processes ("ranks") that train together on one batch, each with an equal piece of it.

Networks, losses and methods see the images of their rank. Some equations need the whole batch: the sums of Dice, the
statistics of batch norm, negatives of a contrast, a neighbour to mix with. These go through this file, and nothing else
does. In a single process everything here is the identity.

A term is the part of one rank in the loss. Its mean over the ranks is the term of the whole batch. DDP takes the mean
of the gradients, which is its gradient. So means over images need nothing; ratios of sums need `total`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as group

Pieces = TypeVar("Pieces", Tensor, list[Any])
T = TypeVar("T")


def size() -> int:
    """Number of ranks; one without a process group."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Only rank 0 prints and writes."""
    return group.get_rank() if size() > 1 else 0


def total(x: Tensor) -> Tensor:
    """Sum of `x` over the ranks, the same on all of them. The gradient passes."""
    return cast(Tensor, _Total.apply(x)) if size() > 1 else x  # type: ignore[no-untyped-call]


def mean(x: Tensor) -> Tensor:
    """Mean of `x` over the ranks, the same on all of them. The gradient passes."""
    return total(x) / size()


def gather(x: Tensor) -> Tensor:
    """B x ... of every rank, one rank after the other: (ranks B) x ... The gradient passes."""
    if size() == 1:
        return x
    if x.dtype == torch.bool:
        return gather(x.byte()).bool()
    # A sum in which each rank fills its own rows, instead of a gather: its gradient is a sum too, on every backend.
    everybody = x.new_zeros(size(), *x.shape)
    everybody[rank()] = x
    return total(everybody).flatten(0, 1)


def own(whole: Pieces) -> Pieces:
    """The piece of this rank of what was made for the whole batch, e.g. random draws (equal on all ranks)."""
    length = len(whole) // size()
    return whole[rank() * length : (rank() + 1) * length]


def neighbours(x: Tensor) -> Tensor:
    """For each of B x ... the next one of the whole batch; for the last one the first."""
    return own(gather(x).roll(-1, dims=0))


def any_of(*votes: bool) -> tuple[bool, ...]:
    """Each vote that at least one rank casts: all ranks decide the same, even where clocks and signals differ."""
    if size() == 1:
        return votes
    counted = torch.tensor(votes, dtype=torch.uint8)
    group.all_reduce(counted, op=group.ReduceOp.MAX)
    return tuple(bool(vote) for vote in counted)


def all_say(value: T) -> list[T]:
    """The value of every rank, in order; anything that can be pickled."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    group.all_gather_object(values, value)
    return values


@contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 runs the block first; then the others run it, and find what rank 0 has made."""
    if rank() > 0:
        any_of(True)
    yield
    if rank() == 0:
        any_of(True)


class _Total(torch.autograd.Function):
    """Sum over the ranks. Each of them uses the sum, so the gradient of a summand is the sum of their gradients."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        group.all_reduce(x)
        return x

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        return cast(Tensor, _Total.apply(gradients[0]))  # type: ignore[no-untyped-call]
