"""The section of docs/results.md on the defaults: what was tried on validation cases (results/choices)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from choices import SETS

RESULTS = Path(__file__).parent / "results" / "choices"
WORDS = """\
## How the defaults were chosen

On validation cases. The figure is Dice with mirrored prediction, mean ± standard deviation over the seeds, and the
number of seeds. `@N` is the number of steps; the files of the cells have the CPU seconds.
`before` is UC-Seg with the defaults of earlier versions: the paper's, with a schedule for short runs.
`new` is UC-Seg with today's settings, but for small images at first (`small_first`), a thin fusion and unlabelled
images in every second step. `new-X` is `new` with one other setting; `+KEY=VALUE` is another one.
`X-today` is a method with all of today's defaults.
`batch` and `instance` are the norms of the other methods, whose learning rate is 0.03 too.
One seed shows little: a difference of a point may be luck.

In the first minutes a supervised U-Net learns more than UC-Seg: it makes three times as many steps or more.
With six and a half minutes of one core (`uc_seg-today`, `supervised-today`) UC-Seg has the higher mean on isic, and its
seeds differ less there. On hc18 all three of its runs are above both supervised ones. On kvasir it is behind: a
supervised run of five minutes (`supervised-today@5000`) is ahead of it. With unlabelled images from .7 of the steps and
eleven minutes it is ahead of a supervised run of ten (`supervised-instance@7500`); these are single runs.
Runs with the same settings differ by up to four points on isic, so the 7,000 steps there may have been bad luck.

Tried on kvasir, one seed each, and not kept: a higher learning rate for UC-Seg, AdamW, and ImageNet's encoder as one
subnet without its own learning rate.
"""


def choices() -> str:
    """The section; a row for each variant that was tried, a column for each data set."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in SETS:
        for file in sorted((RESULTS / name).glob("*.json")):
            variant = file.stem.rsplit("-", 1)[0]
            cells = found.setdefault(variant, {})
            cells.setdefault(name, []).append(json.loads(file.read_text())["mirrored"]["dice"])
    sets = [name for name in SETS if any(name in cells for cells in found.values())]
    lines = [WORDS, f"| variant | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    order = sorted(found, key=lambda one: (not one.startswith(("before", "new@")), one))
    lines += [f"| `{one}` | {' | '.join(_text(found[one].get(name, [])) for name in sets)} |" for one in order]
    return "\n".join([*lines, ""])


def _text(dice: list[float]) -> str:
    if not dice:
        return ""
    spread = f" ± {stdev(dice):.3f}" if len(dice) > 1 else ""
    return f"{mean(dice):.3f}{spread} ({len(dice)})"
