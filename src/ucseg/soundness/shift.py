"""Are the labelled scans like the unlabelled ones? What is learned from the first is trusted on the second."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy

from ucseg.dataset.manifest import CASES_FILE
from ucseg.planning.fingerprint import Fingerprint
from ucseg.soundness.finding import Finding
from ucseg.types import Array

LARGE = 0.5
"""Kolmogorov-Smirnov distance from which a shift is reported: half of the scans on one side are unlike all others.

It is the effect size: with many scans even a tiny difference has a small p."""
RARE = 0.001
"""p must be below this, since a dozen figures are compared, and a few scans differ by chance."""
FEWEST = 5


def shifts(seen: Fingerprint, modality: str) -> Iterable[Finding]:
    """The figures in which labelled and unlabelled training scans differ much, and not by chance."""
    names = {True: list(seen.labelled), False: list(seen.unlabelled)}
    if min(map(len, names.values())) < FEWEST:
        return
    for figure in _figures(seen, seen.labelled[0], modality):
        values = {side: _rounded([_figures(seen, name, modality)[figure] for name in names[side]]) for side in names}
        test = scipy.stats.ks_2samp(values[True], values[False], method="auto")
        if test.statistic < LARGE or test.pvalue > RARE:
            continue
        middle, other = float(np.median(values[True])), float(np.median(values[False]))
        farthest = ", ".join(names[False][index] for index in np.argsort(-np.abs(values[False] - middle))[:3])
        what = (
            f"labelled and unlabelled scans differ in {figure}: median {middle:.3g} and {other:.3g} "
            f"(Kolmogorov-Smirnov distance {test.statistic:.2f}, p = {test.pvalue:.1g})"
        )
        fix = (
            f"label some unlabelled scans that differ, such as {farthest}, or leave them out: "
            "do not trust pseudo-labels of scans unlike every labelled one"
        )
        yield Finding("shift", CASES_FILE, what, fix)


def _figures(seen: Fingerprint, name: str, modality: str) -> dict[str, float]:
    head, scan = seen.headers[name], seen.scans[name]
    figures = {f"extent along axis {axis} in {head.unit}": n * edge
               for axis, (n, edge) in enumerate(zip(head.shape, head.spacing, strict=True))}  # fmt: skip
    if head.unit == "mm":
        figures |= {f"spacing along axis {axis} in mm": edge for axis, edge in enumerate(head.spacing)}
    low, _, middle, _, high = scan.intensity
    if modality in ("ct", "rgb"):
        return figures | {"median intensity": middle, "spread of intensities (5 % to 95 %)": high - low}
    # Other modalities are normalised scan by scan, which removes scale and offset: only the histogram's shape is left.
    skewness = (middle - low) / (high - low) if high > low else 0.0
    return figures | {"place of the median from dark (0) to bright (1)": skewness, "part of zeros": scan.zero_share}


def _rounded(values: list[float]) -> Array:
    """To three digits: spacings that differ only by rounding are alike."""
    return np.array([float(f"{value:.3g}") for value in values])
