"""Scores of a case: how likely its mask is to have failed, without knowing the truth. All on the network's grid.

docs/how-to/predict.md has their equations, and benchmarks/results/uncertainty how well each ranks real failures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ucseg.inference.disagreement import confusion, disagreement_of
from ucseg.inference.maps import Maps
from ucseg.machine.room import leave, pieces, room
from ucseg.types import Array


class RunningScores:
    """Every score of one case by its column of cases.csv, each higher where the mask is less sure.

    - failure_score: `expected_loss`;
    - disagreement: 1 - Dice between the networks' masks (`disagreement.py`);
    - mean_entropy: of the probabilities, divided by log C, over all voxels;
    - boundary_uncertainty: mean uncertainty of the voxels beside another class of the mask;
    - mirror_variance: spread of mirrored passes, summed over all voxels, for each voxel of foreground.

    The maps come a few rows at a time.

    Args:
        uncertainty: S, where whoever has the rows keeps their uncertainty; it is read at the end.
        silent: members that have learned nothing: they do not count.
    """

    def __init__(self, uncertainty: Array, silent: Collection[str] = ()) -> None:
        self._uncertainty, self._silent = uncertainty, silent
        # With the mask, which only all rows together give, it is all that the expected loss needs of each voxel.
        self._chance = room(uncertainty.shape)
        self._every: Array = np.zeros(1)
        self._highest, self._entropy, self._spread = 0.0, 0.0, math.nan
        self._pairs: dict[tuple[str, str], Array] = {}
        self._found: dict[str, bool] = {}

    def add(self, rows: slice, maps: Maps) -> Array:
        """The most probable class of these rows, of maps 1 x C x rows x S[1:]."""
        probabilities = maps.probabilities[0]
        classes = len(probabilities)
        label = most_probable(probabilities)
        self._chance[rows] = probabilities.max(axis=0)
        leave(self._chance)
        self._every = self._every + probabilities.reshape(classes, -1).sum(axis=1, dtype=np.float64)
        self._highest = max(self._highest, float(probabilities[1:].max()))
        self._entropy += _entropy_sum(probabilities)
        if maps.spread is not None:
            self.add_spread(float(maps.spread.sum(dtype=np.float64)))
        members = {name: most_probable(member[0]) for name, member in maps.members.items()}
        for name, one in {"": label, **members}.items():
            self._found[name] = self._found.get(name, False) or bool(one.any())
        counted = [name for name in members if name not in self._silent]
        for pair in itertools.combinations(counted, 2):
            counts = confusion(members[pair[0]], members[pair[1]], classes)
            self._pairs[pair] = self._pairs[pair] + counts if pair in self._pairs else counts
        return label

    def add_spread(self, share: float) -> None:
        """Of the sum of the spread over all voxels, where it comes without its map."""
        self._spread = share + (0.0 if math.isnan(self._spread) else self._spread)

    @property
    def empty_members(self) -> tuple[str, ...]:
        """Networks that found nothing where the prediction did."""
        return tuple(name for name, found in self._found.items() if self._found[""] and not found)

    def of(self, label: Array, missed: Sequence[int] = ()) -> dict[str, float]:
        """The scores, where all rows were added.

        Args:
            label: S, the mask: what `add` has answered, with or without the component filter.
            missed: classes that the mask lacks and should have.

        Returns:
            NaN where a method cannot have a score: one network, one pass.
        """
        classes = len(self._every)
        inside, sizes = np.zeros(classes), np.zeros(classes, np.int64)
        for rows in pieces(label.shape):
            flat = label[rows].ravel()
            inside += np.bincount(flat, self._chance[rows].ravel(), classes)
            sizes += np.bincount(flat, minlength=classes)
            leave(self._chance)
        return {
            "failure_score": _expected_loss(inside, self._every, sizes, self._highest, missed),
            "disagreement": disagreement_of(list(self._pairs.values()), missed),
            "mean_entropy": self._entropy / label.size / math.log(classes),
            "boundary_uncertainty": boundary_uncertainty(self._uncertainty, label),
            "mirror_variance": self._spread / max(1, int(sizes[1:].sum())),
        }


def most_probable(probabilities: Array) -> Array:
    """The most probable class of C x S probabilities, S uint8; uint16 beyond 256 classes."""
    label: Array = probabilities.argmax(axis=0).astype(class_dtype(len(probabilities)))
    return label


def class_dtype(classes: int) -> type[np.unsignedinteger[Any]]:
    """What holds so many class indices."""
    return np.uint8 if classes <= 256 else np.uint16


def missing(label: Array, always_present: Sequence[int]) -> list[int]:
    """Classes that every labelled training mask holds and this one does not."""
    return [value for value in always_present if not (label == value).any()]


def expected_loss(probabilities: Array, label: Array, missed: Sequence[int] = ()) -> float:
    """1 - the Dice to expect of a mask if its probabilities are right (Borges et al. 2024, arXiv:2402.10665).

    For a class c with mask m_c and probabilities p_c: 2 sum m_c p_c / (sum m_c + sum p_c), the mean over the classes of
    the mask and those missed, which have 0. A mask without any foreground has the highest probability that some voxel
    is foreground.

    Args:
        probabilities: C x S.
        label: S, the class indices of its mask.
        missed: classes that the mask lacks and should have.
    """
    classes = len(probabilities)
    inside, every, sizes = np.zeros(classes), np.zeros(classes), np.zeros(classes, np.int64)
    for rows in pieces(label.shape):
        sizes += np.bincount(label[rows].ravel(), minlength=classes)
        for index in range(1, classes):
            part = probabilities[index][rows]
            inside[index] += part[label[rows] == index].sum(dtype=np.float64)
            every[index] += part.sum(dtype=np.float64)
    highest = max(float(probabilities[index].max()) for index in range(1, classes))
    return _expected_loss(inside, every, sizes, highest, missed)


def _expected_loss(inside: Array, every: Array, sizes: Array, highest: float, missed: Sequence[int]) -> float:
    there = [index for index in range(1, len(sizes)) if sizes[index] or index in missed]
    if not there:
        return float(np.clip(highest, 0, 1))
    dice = [0.0 if index in missed else 2 * inside[index] / (sizes[index] + every[index]) for index in there]
    return float(np.clip(1.0 - np.mean(dice), 0, 1))  # blended windows sum to one but for rounding


def mean_entropy(probabilities: Array) -> float:
    """Mean over all voxels of the entropy of C x S probabilities, divided by log C: 0 to 1."""
    total = sum(_entropy_sum(probabilities[:, rows]) for rows in pieces(probabilities.shape[1:]))
    return float(total / probabilities[0].size / math.log(len(probabilities)))


def _entropy_sum(probabilities: Array) -> float:
    return -sum(float((one * np.log(np.maximum(one, 1e-12))).sum(dtype=np.float64)) for one in probabilities)


def boundary_uncertainty(uncertainty: Array, label: Array) -> float:
    """Mean uncertainty of the voxels that touch another class, edges and corners included; without any, its maximum."""
    total, count, most = 0.0, 0, 0.0
    for rows in pieces(label.shape):
        first = max(0, rows.start - 1)
        near, here = label[first : rows.stop + 1], slice(rows.start - first, rows.stop - first)
        highest, lowest = (
            change(near, (3,) * label.ndim)[here] for change in (ndimage.maximum_filter, ndimage.minimum_filter)
        )
        doubt = uncertainty[rows]
        there = doubt[highest != lowest]
        total, count, most = (
            total + float(there.sum(dtype=np.float64)),
            count + there.size,
            max(most, float(doubt.max())),
        )
        leave(uncertainty)
    return total / count if count else most
