"""Classes drawn one by one, of which one may lie inside another: a cup in its disc, an infection in a lung."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array

INSIDE = 0.95
"""So much of a class lies in another one that is around it, as drawn edges differ by a few voxels. It is smaller than
that part of the other one: else both are one structure, drawn twice. Of the rest, a class may share with another one
what was drawn beyond their common edge."""


def put(label: Array, inside: Array, number: int) -> set[tuple[int, int]] | None:
    """Give the voxels of a class its number; where it lies inside another class, or around one, the inner one stays.

    Where two classes touch, the few voxels that they share are the smaller one's.

    Args:
        label: S, class numbers so far, 0 for none; changed in place.
        inside: S, True where the class is.

    Returns:
        (inner, outer) of the classes that share voxels; None where two classes share some, but neither is inside the
        other. `label` is as before then.
    """
    shared = np.bincount(label[inside].ravel(), minlength=number)
    others = [other for other in np.flatnonzero(shared) if other]
    if not others:
        label[inside] = number
        return set()
    own = int(shared.sum())
    sizes = np.bincount(label.ravel(), minlength=number)
    touching = [other for other in others if touch(int(shared[other]), int(sizes[other]), own)]
    within = [other for other in others if shared[other] >= INSIDE * sizes[other] and sizes[other] <= INSIDE * own]
    around = [other for other in others if other not in (*within, *touching)]
    rest = own - sum(int(shared[other]) for other in within)
    if len(around) > 1 or any(shared[one] < INSIDE * rest or rest > INSIDE * sizes[one] for one in around):
        return None
    kept = [*within, *(other for other in touching if sizes[other] <= own)]
    label[inside & ~np.isin(label, kept)] = number
    return {(int(other), number) for other in within} | {(number, int(other)) for other in around}


def touch(shared: int, one: int, other: int) -> bool:
    """Whether two classes of so many voxels share no more than what is drawn beyond an edge."""
    return shared <= (1 - INSIDE) * min(one, other)
