"""Plots of a report, as data URIs. They hold numbers alone: names stand in the page, where they are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ucseg.pictures.drawing import COLOURS
from ucseg.pictures.page import png_uri
from ucseg.planning.fingerprint import Fingerprint
from ucseg.types import Array

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a95a1")
"""Different to colour-blind eyes too (Okabe & Ito 2008)."""
_SMALL, _WIDE = (3.3, 2.1), (5.4, 3.2)
"""Inches. Narrow enough to be read on a phone."""
_MOST_SCANS = 400


def colour(index: int) -> str:
    return LINES[index % len(LINES)]


def curve(steps: Array, values: Array) -> str:
    """A logged value over the steps: every value in grey, and the mean over a twentieth of the run."""
    figure, axis = _figure(_SMALL)
    window = max(1, len(values) // 20)
    axis.plot(steps, values, color="#b4bcc5" if window > 1 else LINES[0], linewidth=0.7 if window > 1 else 1.4)
    if window > 1:
        sums = np.cumsum(np.concatenate([[0.0], values]))
        axis.plot(steps[window - 1 :], (sums[window:] - sums[:-window]) / window, color=LINES[0], linewidth=1.4)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("step", fontsize=8)
    return _uri(figure)


def validation(steps: Array, curves: Sequence[Array]) -> str:
    """Dice on the validation cases over the steps, a line each in the colours of `colour`."""
    figure, axis = _figure(_WIDE)
    for place, values in enumerate(curves):
        axis.plot(steps, values, "o-", color=colour(place), markersize=4, linewidth=1.3)
    axis.set(xlabel="step", ylabel="Dice on validation cases")
    return _uri(figure)


def boxes(values: Mapping[int, Array], label: str, bounded: bool) -> str:
    """A box and all cases for each class; the classes are numbered, in the colours of their masks."""
    figure, axis = _figure(_by_classes(len(values)))
    for place, (number, every) in enumerate(values.items()):
        own = every[np.isfinite(every)]
        shade = tuple(part / 255 for part in COLOURS[(number - 1) % len(COLOURS)])
        drawn = axis.boxplot([own], positions=[place], widths=0.6, patch_artist=True, showfliers=False)
        drawn["boxes"][0].set(facecolor=shade, alpha=0.45, edgecolor=shade)
        drawn["medians"][0].set(color="black")
        if len(own):
            jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(own))
            axis.plot(place + jitter, own, ".", color="#1d2733", markersize=3, alpha=0.6)
    axis.set_xticks(range(len(values)), [str(number) for number in values])
    axis.set(xlabel="class", ylabel=label)
    if bounded:
        axis.set_ylim(-0.02, 1.02)
    else:
        axis.set_ylim(bottom=0)
    return _uri(figure)


def intensities(seen: Fingerprint) -> str:
    """Of each training scan its 5th to 95th percentile, the middle half and the median, by which scans are sorted."""
    names = sorted(seen.scans, key=lambda name: (seen.scans[name].intensity[2], name))
    if len(names) > _MOST_SCANS:
        names = [names[i] for i in np.linspace(0, len(names) - 1, _MOST_SCANS).round().astype(int)]
    at = np.array([seen.scans[name].intensity for name in names])
    labelled = np.array([seen.scans[name].classes is not None for name in names])
    figure, axis = _figure(_WIDE)
    place = np.arange(len(names))
    for kind, shade in ((labelled, LINES[0]), (~labelled, LINES[4])):
        axis.vlines(place[kind], at[kind, 0], at[kind, 4], color=shade, linewidth=1, alpha=0.5)
        axis.vlines(place[kind], at[kind, 1], at[kind, 3], color=shade, linewidth=2)
    axis.plot(place, at[:, 2], color="black", linewidth=0.8)
    axis.set_xticks([])
    axis.set(xlabel="training scans", ylabel="intensity")
    return _uri(figure)


def amounts(sizes: Mapping[int, Array], unit: str) -> str:
    """The size of each class in each mask; on a logarithmic axis where sizes are very different."""
    figure, axis = _figure(_by_classes(len(sizes)))
    for place, (number, own) in enumerate(sizes.items()):
        shade = tuple(part / 255 for part in COLOURS[(number - 1) % len(COLOURS)])
        jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(own))
        axis.plot(place + jitter, own, ".", color=shade, markersize=6)
        if len(own):
            axis.hlines(np.median(own), place - 0.35, place + 0.35, color="black", linewidth=1.2)
    every = np.concatenate([own for own in sizes.values() if len(own)])
    if every.max() > 10 * every.min():
        axis.set_yscale("log", subs=(2, 5))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    else:
        axis.set_ylim(bottom=0)
    axis.set_xticks(range(len(sizes)), [str(number) for number in sizes])
    axis.set(xlabel="class", ylabel=f"size in a mask ({unit})")
    return _uri(figure)


def _by_classes(count: int) -> tuple[float, float]:
    return (max(3.4, 1.0 + 0.45 * count), 3.0)


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.grid(alpha=0.3)
    return figure, axis


def _uri(figure: Figure) -> str:
    return png_uri(lambda file: figure.savefig(file, format="png", dpi=130))
