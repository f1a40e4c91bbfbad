"""Pictures of a comparison, as data URIs: Dice of all subjects, Dice over labels, differences from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ucseg.comparison.grid import ALL
from ucseg.comparison.summary import MAIN, Row, subject_values
from ucseg.pictures.page import png_uri

# Different to colour-blind eyes too (Okabe & Ito 2008); the supervised rows are grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREYS = ("#5b6876", "#8a95a1", "#b4bcc5")
MARKERS = "osD^vP*X"


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """Variant -> colour, the same in every picture."""
    baselines = dict.fromkeys(row.variant for row in rows if row.baseline)
    others = dict.fromkeys(row.variant for row in rows if not row.baseline)
    return {name: GREYS[i % len(GREYS)] for i, name in enumerate(baselines)} | {
        name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)
    }


def boxes(part: pd.DataFrame, amounts: Sequence[str], shade: Mapping[str, str]) -> str:
    """Dice of every subject (mean over seeds), a panel a labelled amount; `shade` is variant -> colour.

    `part` has the rows of the table of cases of one test set and one kind of weights.
    """
    panels = {amount: part[part["labelled"] == amount] for amount in amounts if (part["labelled"] == amount).any()}
    counts = [one["variant"].nunique() for one in panels.values()]
    figure, axes = _panels([0.9 + 0.5 * count for count in counts], height=4.2)
    for axis, (amount, rows) in zip(axes, panels.items(), strict=True):
        values = _values(rows)
        drawn = axis.boxplot(
            [one.dropna().to_numpy() for one in values.values()], widths=0.6, patch_artist=True, showfliers=False
        )
        for place, (name, one) in enumerate(values.items(), start=1):
            drawn["boxes"][place - 1].set(facecolor=shade[name], alpha=0.45, edgecolor=shade[name])
            drawn["medians"][place - 1].set(color="black")
            jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(one))
            axis.plot(place + jitter, one, ".", color=shade[name], markersize=4, alpha=0.8)
        axis.set_title(_amount_title(amount), fontsize=10)
        axis.set_xticks(range(1, len(values) + 1), list(values), rotation=40, ha="right", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("Dice of each subject")
    return _uri(figure)


def label_efficiency(rows: Sequence[Row], fractions: Mapping[str, float], shade: Mapping[str, str]) -> str:
    """Mean Dice over the labelled share of the training cases; bars: standard deviation over seeds."""
    figure, (axis,) = _panels([6.4], height=4.2)
    best = max((row.metrics[MAIN].mean for row in rows if row.baseline and row.labelled == ALL), default=None)
    if best is not None:
        axis.axhline(best, color=GREYS[0], linestyle=":", linewidth=1, label="ceiling")
    variants = list(dict.fromkeys(row.variant for row in rows))
    for place, name in enumerate(variants):
        own = sorted((row for row in rows if row.variant == name), key=lambda row: fractions[row.labelled])
        means = np.array([row.metrics[MAIN].mean for row in own])
        spreads = np.nan_to_num([row.metrics[MAIN].spread for row in own])
        # Side by side, or one would hide the other; no bar leaves what Dice can be.
        beside = 1.015 ** (place - (len(variants) - 1) / 2)
        axis.errorbar(
            [100 * fractions[row.labelled] * beside for row in own], means,
            [np.minimum(spreads, means), np.minimum(spreads, 1 - means)], label=name, color=shade[name],
            marker=MARKERS[place % len(MARKERS)], markersize=5, linewidth=1.3, capsize=2,
        )  # fmt: skip
    ticks = sorted({100 * fractions[row.labelled] for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:.3g} %" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("training masks shown")
    axis.set_ylabel("mean Dice")
    axis.grid(alpha=0.3)
    _legend_beside(figure, axis)
    return _uri(figure)


def differences(part: pd.DataFrame, reference: str, amounts: Sequence[str], shade: Mapping[str, str]) -> str | None:
    """Dice of each subject minus that of the reference, sorted; None where there is nothing to compare."""
    panels = {}
    for amount in amounts:
        rows = part[part["labelled"] == amount]
        if reference in set(rows["variant"]) and rows["variant"].nunique() > 1:
            panels[amount] = _values(rows)
    if not panels:
        return None
    figure, axes = _panels([4.2] * len(panels), height=3.8)
    for axis, (amount, values) in zip(axes, panels.items(), strict=True):
        for place, (name, one) in enumerate(values.items()):
            if name != reference:
                gap = (one - values[reference]).dropna().sort_values().to_numpy()
                share = (np.arange(len(gap)) + 0.5) / max(1, len(gap))
                axis.plot(100 * share, gap, color=shade[name], marker=MARKERS[place % len(MARKERS)],
                          markersize=3, linewidth=1, label=name)  # fmt: skip
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(_amount_title(amount), fontsize=10)
        axis.set_xlabel("subjects, sorted (%)")
        axis.grid(alpha=0.3)
    _legend_beside(figure, max(axes, key=lambda axis: len(axis.get_lines())))
    axes[0].set_ylabel(f"Dice minus that of {reference}")
    return _uri(figure)


def _legend_beside(figure: Figure, axis: Axes) -> None:
    """One legend for all panels, above them: on the lines it would hide some."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3, fontsize=8, frameon=False)


def _values(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Variant -> Dice by subject."""
    return {str(name): subject_values(one, MAIN) for name, one in rows.groupby("variant", sort=False)}


def _amount_title(amount: str) -> str:
    return "all labels" if amount == ALL else f"{amount} labelled"


def _panels(widths: Sequence[float], height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(sum(widths) + 0.8, height), layout="constrained")
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False, gridspec_kw={"width_ratios": list(widths)})
    return figure, list(axes[0])


def _uri(figure: Figure) -> str:
    return png_uri(lambda file: figure.savefig(file, format="png", dpi=110))
