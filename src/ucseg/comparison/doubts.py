"""What the uncertainty of a variant is worth: the figures of its cells together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ucseg.comparison.cell import COLUMNS, DOUBTS
from ucseg.evaluation.uncertainty import of_score
from ucseg.evaluation.uncertainty_maps import VOXEL_COLUMNS, UncertaintySettings
from ucseg.folder.predictions import FAILURE_SCORE
from ucseg.inference.class_means import mean_of_class_means

RANKINGS = ("aurc", "excess_aurc", "spearman", "failure_auroc")
"""How well the failure score ranks cases by 1 - Dice."""
FAILED_BELOW = UncertaintySettings().failed_below


def doubts_of(tests: Sequence[Mapping[str, Any]], weights: str) -> dict[str, float]:
    """VOXEL_COLUMNS, means over cases and seeds; RANKINGS, means over seeds. NaN where no seed has a figure.

    Args:
        tests: what was measured on a test set, with each seed.
        weights: last or best.

    Returns:
        Empty for cells of an earlier version.
    """
    tables, ranked = [], []
    for found in tests:
        table = pd.DataFrame(found.get("doubts", []), columns=list(DOUBTS))
        table = table[table["weights"] == weights].set_index("case").drop(columns="weights").astype(float)
        if table.empty:
            continue
        tables.append(table)
        rows = pd.DataFrame(found["rows"], columns=list(COLUMNS))
        own = rows[(rows["weights"] == weights) & (rows["network"] == "")]
        dice = own.pivot(index="case", columns="class", values="dice").astype(float)
        dices = [mean_of_class_means(dice.loc[[case]].to_numpy()) for case in table.index]
        ranked.append(vars(of_score(table[FAILURE_SCORE].to_list(), dices, FAILED_BELOW)))
    if not tables:
        return {}
    means = pd.concat(tables)[list(VOXEL_COLUMNS)].mean()
    rankings = pd.DataFrame(ranked)[list(RANKINGS)].astype(float).mean()
    return {str(name): float(value) for name, value in {**means, **rankings}.items()}
