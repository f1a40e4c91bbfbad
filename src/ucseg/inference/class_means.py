"""The one mean of figures over cases and classes: of validation, of `ucseg evaluate` and of `ucseg compare`."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array


def mean_of_class_means(values: Array) -> float:
    """For each class the mean over the cases in which it is defined, then the mean over the classes that have one.

    So a class of few cases counts as much as one of all cases.

    Args:
        values: cases x K classes; NaN is undefined and left out.

    Returns:
        NaN where nothing is defined.
    """
    defined = ~np.isnan(values)
    return float(means_of_class_means(np.where(defined, values, 0.0).sum(axis=0)[None], defined.sum(axis=0)[None])[0])


def means_of_class_means(sums: Array, counts: Array) -> Array:
    """The same of N sets of cases at once: N x K sums of the defined values, and how many those are -> N."""
    there = counts > 0
    class_means = np.divide(sums, counts, out=np.zeros(sums.shape), where=there)
    classes = there.sum(axis=1)
    return np.where(classes > 0, class_means.sum(axis=1) / np.maximum(classes, 1), np.nan)
