"""The benchmarks in short, compared with the stored figures: make bench, or

    OMP_NUM_THREADS=2 python benchmarks/bench.py

Every figure is a ratio within one run, so that it carries over to other machines better than seconds do. Steps are
taken in the precision of training here, bf16 where the processor has it, and compared with stored ones of the same.
WATCHED holds goals and tolerances. Ends with 1 where a figure is clearly worse than the stored one; a missed goal is
reported, but is no failure. Writes nothing without --keep FILE. The stored figures were made by step.py, predict.py,
data.py and scale.py, whose functions are used here too, with fewer rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["same", "better", "worse", "missing"]


@dataclass(frozen=True)
class Watched:
    """How a figure is judged.

    Attributes:
        better: which way is good.
        tolerance: factor - 1 by which it may part from the stored one; twice and more what it scattered by from run to
            run on a machine that was not quiet.
        goal: the project's, where it has one.
    """

    better: Literal["lower", "higher"]
    tolerance: float
    goal: float | None = None


WATCHED = {
    "step 2D 224, over floor": Watched("lower", 0.15, 0.6),
    "step 2D 224, over own floor": Watched("lower", 0.15, 1.15),
    "step 3D 96, over own floor": Watched("lower", 0.2, 1.15),
    "step 3D study, over both supervised": Watched("lower", 0.25),
    "predict 2D, times faster than loop": Watched("higher", 0.3),
    "predict 3D, times faster than loop": Watched("higher", 0.2, 20),
    "predict 3D, growth 1.5, times faster": Watched("higher", 0.2, 20),
    "loader 2D, times what the step eats": Watched("higher", 0.6, 3),
    "loader 3D, times what the step eats": Watched("higher", 0.6, 3),
    "prepare 10,000 images, over plain loop": Watched("lower", 0.3),
    "prepare, 10,000 images over 1,000, a case": Watched("lower", 0.3, 1.1),
    "prepare, 10,000 images over 100, memory": Watched("lower", 0.1, 1.2),
    "prepare photographs, over plain loop": Watched("lower", 0.3),
    "prepare photographs, cores busy": Watched("higher", 0.2, 0.85),
    "prepare hippocampi, over plain loop": Watched("lower", 0.3),
    "prepare hippocampi, cores busy": Watched("higher", 0.2, 0.85),
    "import ucseg, over python": Watched("lower", 0.5),
    "ucseg --help, over importing typer": Watched("lower", 0.25),
    "ucseg --help, processor seconds": Watched("lower", 0.4, 0.3),
}
WATCHED_IN_FLOAT32 = WATCHED | {"step 2D 224, over floor": Watched("lower", 0.15, 1.2)}
RESULTS = Path(__file__).parent / "results"
COUNTS = {"images": (100, 1000, 10_000), "photographs": (2000,), "hippocampi": (500,)}


def verdict(stored: float | None, now: float | None, watched: Watched) -> Verdict:
    """How a figure compares with the stored one."""
    if stored is None or now is None:
        return "missing"
    change = now / stored if watched.better == "lower" else stored / now
    if change > 1 + watched.tolerance:
        return "worse"
    return "better" if change < 1 / (1 + watched.tolerance) else "same"


def reached(now: float, watched: Watched) -> bool:
    """Whether a goal is met; none is."""
    if watched.goal is None:
        return True
    return now <= watched.goal if watched.better == "lower" else now >= watched.goal


def step_figures(published: Mapping[str, Sequence[Mapping[str, Any]]], study: Any, precision: str) -> dict[str, float]:
    """Of the rows of step.py: by size."""
    found = {}
    for key, title in (("2d-224", "step 2D 224"), ("3d-96", "step 3D 96")):
        ours = next(row for row in published[key] if (row["model"], row["precision"]) == ("UC-Seg", precision))
        for name in ("over_floor", "over_own_floor"):
            if name in ours:
                found[f"{title}, {name.replace('_', ' ')}"] = ours[name]
    seconds = {row["model"]: row["seconds"] for row in study["3d-48"] if row["precision"] == precision}
    return found | {"step 3D study, over both supervised": seconds["UC-Seg"] / seconds["supervised, both"]}


def predict_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the rows of predict.py."""
    flat, deep = (next(row["times_faster"] for row in rows if len(row["window"]) == dims) for dims in (2, 3))
    return {
        "predict 2D, times faster than loop": flat["defaults"],
        "predict 3D, times faster than loop": deep["defaults"],
        "predict 3D, growth 1.5, times faster": deep["--window-growth 1.5"],
    }


def data_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the rows of data.py."""
    return {
        f"loader {row['size'][:2]}, times what the step eats": row["times_what_the_step_eats"]["default"]
        for row in rows
    }


def scale_figures(kinds: Mapping[str, Any]) -> dict[str, float]:
    """Of the rows of scale.py: by kind, and its starts."""
    few, some, many = (next(row for row in kinds["images"] if row["count"] == n) for n in COUNTS["images"])
    # A start costs as much however many cases there are.
    first, second = (
        (high["prepare"]["seconds"] - low["prepare"]["seconds"]) / (high["count"] - low["count"])
        for low, high in ((few, some), (some, many))
    )
    start = kinds["start"]
    found = {
        "prepare 10,000 images, over plain loop": many["prepare"]["over_plain"],
        "prepare, 10,000 images over 1,000, a case": second / first,
        "prepare, 10,000 images over 100, memory": many["prepare"]["peak_mib"] / few["prepare"]["peak_mib"],
        "import ucseg, over python": start["import ucseg"] / start["python"],
        "ucseg --help, over importing typer": start["ucseg --help"] / start["import typer"],
        "ucseg --help, processor seconds": start["ucseg --help"],
    }
    for kind in ("photographs", "hippocampi"):
        (row,) = kinds[kind]
        found[f"prepare {kind}, over plain loop"] = row["prepare"]["over_plain"]
        found[f"prepare {kind}, cores busy"] = row["prepare"]["cores_busy"]
    return found


def stored_figures(precision: str) -> dict[str, float]:
    """Of the files in benchmarks/results."""

    def of(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text())

    published, study = (
        {key: one["rows"] for key, one in of(name)["sizes"].items()} for name in ("step_published_sizes", "step")
    )
    kinds = {name: one["rows"] for name, one in of("scale")["kinds"].items()}
    predicted = of("predict" if precision == "bf16" else "predict_fp32")["rows"]
    found = step_figures(published, study, precision) | predict_figures(predicted)
    return found | data_figures(of("data")["rows"]) | scale_figures(kinds)


def figures_now(precision: str) -> dict[str, float]:
    """Measured, in five to six minutes on two cores."""
    import data
    import predict
    import scale
    import step

    ours, own, floor = ("UC-Seg", precision), (step.OWN_FLOOR, precision), (step.FLOOR, "fp32")
    published = {
        "2d-224": step.rows_of("published", "2d-224", [floor, ours, own], 1, 5),
        "3d-96": step.rows_of("published", "3d-96", [ours, own], 1, 2),
    }
    study = {"3d-48": step.rows_of("study", "3d-48", [ours, ("supervised, both", precision)], 1, 7)}
    found = step_figures(published, study, precision)
    found |= predict_figures([predict.measure(*size, 1 if len(size[0]) == 3 else 5, 2) for size in predict.SIZES])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found |= data_figures([data.row_of(key, work, 3, 60) for key in step.SIZES["study"]])
        kinds: dict[str, Any] = {"start": scale.start_seconds()}
        for kind, counts in COUNTS.items():
            kinds[kind] = [scale.row_of(work, kind, n, ("init", "plan", "prepare")) for n in counts]
        return found | scale_figures(kinds)


def table(stored: Mapping[str, float], now: Mapping[str, float], precision: str) -> tuple[list[str], int]:
    """Lines to print, and how many figures are worse."""
    lines = [f"{'figure':42} {'stored':>8} {'now':>8} {'goal':>7}  verdict"]
    worse = 0
    for name, watched in (WATCHED if precision == "bf16" else WATCHED_IN_FLOAT32).items():
        found = verdict(stored.get(name), now.get(name), watched)
        worse += found == "worse"
        shown = [f"{value:.3g}" if value is not None else "-" for value in (stored.get(name), now.get(name))]
        goal = "" if watched.goal is None else f"{'<' if watched.better == 'lower' else '>'} {watched.goal:g}"
        missed = "" if name not in now or reached(now[name], watched) else ", goal missed"
        told = f"{found} (tolerance {watched.tolerance:.0%}){missed}"
        lines.append(f"{name:42} {shown[0]:>8} {shown[1]:>8} {goal:>7}  {told}")
    return lines, worse


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="write stored and new figures to this JSON file")
    words = parser.parse_args()
    from step import default_precision

    precision = default_precision()
    stored, now = stored_figures(precision), figures_now(precision)
    lines, worse = table(stored, now, precision)
    print("\n".join(["", *lines]))
    if words.keep:
        words.keep.write_text(json.dumps({"stored": stored, "now": now}, indent=1) + "\n")
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()
