"""The section of docs/results.md on partly labelled scans, from the files of `partly_labelled.py`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

FOLDER = Path(__file__).parent / "results" / "partly_labelled"
METHODS = ("supervised", "uc_seg")
WORDS = """\
## Partly labelled scans

Is it better to annotate a few slices of many scans, or all slices of few?
Hippocampus, 20 validation cases, 181 training cases; those without a mask are unlabelled.
All arms have the same plan, and no test case was read.

- **Spread:** three slices of each scan, a third of it apart, from another start in each scan.
- **Middle:** three slices at a quarter, a half and three quarters of each scan.

Dice is that of `predict`, with mirrored views, at the end of the steps.
After it stands the standard deviation over seeds, and in brackets their number.
"""


def partly_labelled() -> str:
    """The section; empty without results."""
    cells = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    if not cells:
        return ""
    steps = {cell["method"]: cell["steps"] for cell in cells}
    heads = [f"{method}, {steps[method]} steps" for method in METHODS if method in steps]
    lines = [WORDS, f"| labelled | slices | {' | '.join(heads)} |", f"| --- | --- |{' --- |' * len(heads)}"]
    for arm in sorted({cell["arm"] for cell in cells}):
        of_arm = [cell for cell in cells if cell["arm"] == arm]
        slices = sorted({cell["labelled slices"] for cell in of_arm})
        shown = str(slices[0]) if len(slices) == 1 else f"{slices[0]} to {slices[-1]}"
        dice = [
            [c["last"]["mirrored dice"] for c in of_arm if c["method"] == method]
            for method in METHODS
            if method in steps
        ]
        lines.append(f"| {arm} | {shown} | {' | '.join(map(_text, dice))} |")
    commits = ", ".join(sorted({cell["commit"][:7] for cell in cells}))
    return "\n".join([*lines, "", f"    OMP_NUM_THREADS=1 {cells[0]['command']} --work WORK  # at {commits}", ""])


def _text(dice: list[float]) -> str:
    if not dice:
        return ""
    spread = f" ± {stdev(dice):.3f}" if len(dice) > 1 else ""
    return f"{mean(dice):.3f}{spread} ({len(dice)})"
