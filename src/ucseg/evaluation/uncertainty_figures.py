"""Pictures of a measured uncertainty: the reliability diagram, and risk over coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ucseg.evaluation.ranking import risk_by_coverage
from ucseg.evaluation.reliability import Reliability
from ucseg.machine.writing import whole_file
from ucseg.types import Array

# Different to colour-blind eyes too (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def reliability_diagram(found: Mapping[str, Reliability], path: Path) -> None:
    """Accuracy over confidence, a panel for each entry (title -> voxels); written whole or not at all."""
    figure = Figure(figsize=(4.2 * len(found), 4.0), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (title, one) in zip(axes, found.items(), strict=True):
        _draw_reliability(axis, one)
        axis.set_title(f"{title}: ECE {one.ece:.3f}", fontsize=10)
    axes[0].set_ylabel("share of right voxels")
    _save(figure, path)


def _draw_reliability(axis: Axes, one: Reliability) -> None:
    there = one.count > 0
    confidence, right = (values[there] / one.count[there] for values in (one.confidence, one.right))
    share = one.count[there] / one.count.sum()
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    axis.bar(
        (np.flatnonzero(there) + 0.5) / len(one.count), share, width=1 / len(one.count), color="#b4bcc5", label="share"
    )
    axis.plot(confidence, right, "o-", color=COLOURS[0], markersize=4, linewidth=1.3, label="accuracy")
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence in the most probable class")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False, loc="upper left")


def risk_over_coverage(curves: Mapping[str, Array], risk: Array, path: Path) -> None:
    """Mean 1 - Dice of the surest cases over their share; written whole or not at all.

    Args:
        curves: name of a score -> `risk_by_coverage`.
        risk: of all cases; its own order is the best that there is.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    drawn = {**curves, "best order": risk_by_coverage(risk, risk)}
    for place, (name, curve) in enumerate(drawn.items()):
        share = 100 * np.arange(1, len(curve) + 1) / len(curve)
        best = name == "best order"
        colour = "black" if best else COLOURS[place % (len(COLOURS) - 1)]
        axis.plot(share, curve, color=colour, linewidth=1.3, linestyle=":" if best else "-", label=name)
    axis.axhline(float(risk.mean()), color="#8a95a1", linewidth=0.8, label="any order")
    axis.set(xlabel="cases kept, the surest first (%)", ylabel="mean 1 - Dice of these", xlim=(0, 100))
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path, ".png") as part:
        figure.savefig(part, format="png", dpi=110)
