"""Scores of a case: how likely its mask is to have failed, without knowing the truth. All on the network's grid.

docs/how-to/predict.md has their equations, and benchmarks/results/uncertainty how well each ranks real failures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from scipy import ndimage

from ucseg.inference.disagreement import disagreement
from ucseg.inference.maps import Maps
from ucseg.types import Array, Prediction

_AT_A_TIME = 2**22
"""Voxels that temporary maps are made of."""


def case_scores(
    prediction: Prediction | Maps, label: Array, missed: Sequence[int] = (), silent: Collection[str] = ()
) -> dict[str, float]:
    """Every score of one case by its column of cases.csv, each higher where the mask is less sure.

    - failure_score: `expected_loss`;
    - disagreement: 1 - Dice between the networks' masks (`disagreement.py`);
    - mean_entropy: of the probabilities, divided by log C, over all voxels;
    - boundary_uncertainty: mean uncertainty of the voxels beside another class of the mask;
    - mirror_variance: spread of mirrored passes, summed over all voxels, for each voxel of foreground.

    Args:
        prediction: of one image, 1 x C x S.
        label: S, the class indices of its mask.
        missed: classes that the mask lacks and should have.
        silent: members that have learned nothing: they do not count.

    Returns:
        NaN where a method cannot have a score: one network, one pass.
    """
    probabilities = np.asarray(prediction.probabilities[0])
    members = [np.asarray(m[0]).argmax(axis=0) for name, m in prediction.members.items() if name not in silent]
    foreground = int(np.count_nonzero(label))
    spread = math.nan
    if prediction.spread is not None:
        spread = float(np.asarray(prediction.spread).sum()) / max(1, foreground)
    return {
        "failure_score": expected_loss(probabilities, label, missed),
        "disagreement": disagreement(members, len(probabilities), missed),
        "mean_entropy": mean_entropy(probabilities),
        "boundary_uncertainty": boundary_uncertainty(np.asarray(prediction.uncertainty[0, 0]), label),
        "mirror_variance": spread,
    }


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
        label, missed: as of `case_scores`.
    """
    classes = len(probabilities)
    inside, every = np.zeros(classes), np.zeros(classes)
    for rows in _slabs(label):
        for index in range(1, classes):
            part = probabilities[index][rows]
            inside[index] += part[label[rows] == index].sum(dtype=np.float64)
            every[index] += part.sum(dtype=np.float64)
    sizes = np.bincount(label.ravel(), minlength=classes)
    there = [index for index in range(1, classes) if sizes[index] or index in missed]
    if not there:
        return float(np.clip(max(probabilities[index].max() for index in range(1, classes)), 0, 1))
    dice = [0.0 if index in missed else 2 * inside[index] / (sizes[index] + every[index]) for index in there]
    return float(np.clip(1.0 - np.mean(dice), 0, 1))  # blended windows sum to one but for rounding


def mean_entropy(probabilities: Array) -> float:
    """Mean over all voxels of the entropy of C x S probabilities, divided by log C: 0 to 1."""
    total = 0.0
    for rows in _slabs(probabilities[0]):
        for one in probabilities:
            part = one[rows]
            total -= float((part * np.log(np.maximum(part, 1e-12))).sum(dtype=np.float64))
    return float(total / probabilities[0].size / math.log(len(probabilities)))


def boundary_uncertainty(uncertainty: Array, label: Array) -> float:
    """Mean uncertainty of the voxels that touch another class, edges and corners included; without any, its maximum."""
    size = (3,) * label.ndim
    boundary = ndimage.maximum_filter(label, size) != ndimage.minimum_filter(label, size)
    return float(uncertainty[boundary].mean(dtype=np.float64) if boundary.any() else uncertainty.max())


def _slabs(array: Array) -> Iterator[slice]:
    rows = max(1, _AT_A_TIME * len(array) // max(1, array.size))
    return (slice(start, start + rows) for start in range(0, len(array), rows))
