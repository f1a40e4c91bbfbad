"""The section of docs/results.md on time to a Dice, from the validation curves of the studies of equal time.

The goal is 97 % of the validation Dice that supervised training with all labels ends at in the same time, the mean over
its seeds. A run's time is that of its first validation at the goal or above. Runs validate at every tenth of their
steps.
"""

from __future__ import annotations

import json
import math
from statistics import fmean

from provenance import RESULTS

SHARE = 0.97
CEILING = "supervised-all"
UC_SEG = {"uc_seg-5pct", "uc_seg-10pct"}
WORDS = """\
## Time to a Dice

CPU seconds until the Dice on validation cases is 97 % of what a supervised U-Net with all labels ends at.
They are those of one process: training, making batches, and a validation at every tenth of the run.
The figure is the median over the seeds. A run that does not get there counts as longer than its end, written as `>`.
Curves are of the runs of equal time, whose learning rate falls to the end of that time.
Seconds of runs on a slower machine are divided by the factor that the note of their study gives.
`earlier build` is UC-Seg of commit 918fd4a with the defaults of that time, in `benchmarks/earlier_build.py`.
On hippocampus it was stopped at 324 of 540 steps, with the learning rate still high.
"""

TIMED = ("_time", "_time_plain", "_time_triple")
"""How the names of studies of equal time end."""
Curve = list[tuple[float, int, float]]


def curves(study: str) -> dict[str, dict[int, Curve]]:
    """Run without its seed -> seed -> [CPU seconds, step, Dice]; "earlier build" among them."""
    found: dict[str, dict[int, Curve]] = {}
    for file in sorted((RESULTS / "compare" / study / "curves").glob("*.json")):
        run, seed = file.stem.rsplit("-seed", 1)
        found.setdefault(run, {})[int(seed)] = json.loads(file.read_text())
    for file in sorted((RESULTS / "time_to_dice" / study.partition("_time")[0]).glob("earlier-*.json")):
        held = json.loads(file.read_text())
        found.setdefault("earlier build", {})[held["seed"]] = held["curve"]
    return found


def seconds_to(curve: Curve, dice: float) -> float | None:
    """CPU seconds at which the curve is at a Dice for the first time; None if it never is."""
    return next((seconds for seconds, _, reached in curve if reached >= dice), None)


def said(runs: dict[int, Curve], goal: float) -> str:
    """The median time of the runs, with how many there are; of two in the middle the later one, if it has no time."""
    times = sorted((seconds_to(curve, goal) or math.inf, curve[-1][0]) for curve in runs.values())
    (low, _), (high, end) = times[(len(times) - 1) // 2], times[len(times) // 2]
    text = f"> {end:.0f}" if math.isinf(high) else f"{(low + high) / 2:.0f}"
    return f"{text} ({sum(math.isfinite(reached) for reached, _ in times)} of {len(times)})"


def short_name(study: str) -> str:
    """Of a study of equal time: "isic_time_plain" -> "isic without encoder"."""
    return study.replace("_time", "").replace("_plain", " without encoder").replace("_triple", ", three times the time")


def time_to_dice() -> str:
    """The section, of the sets with curves of a ceiling and of UC-Seg; "" without any."""
    studies = sorted(path.name for path in (RESULTS / "compare").iterdir() if path.name.endswith(TIMED))
    found_in = {short_name(study): curves(study) for study in studies}
    columns = {name: found for name, found in found_in.items() if CEILING in found and UC_SEG & found.keys()}
    if not columns:
        return ""
    goals = {name: SHARE * fmean(one[-1][2] for one in found[CEILING].values()) for name, found in columns.items()}
    runs = list(dict.fromkeys(run for found in columns.values() for run in found))
    runs.sort(key=lambda run: (run == "earlier build", run == CEILING, not run.startswith("uc_seg-")))
    lines = [WORDS, f"| seconds (runs that get there) | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines.append(f"| the Dice | {' | '.join(f'{goals[name]:.3f}' for name in columns)} |")
    for run in runs:
        cells = [said(found[run], goals[name]) if run in found else "" for name, found in columns.items()]
        lines.append(f"| `{run}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
