"""CPU seconds until a method's validation Dice reaches 97 % of what supervised training with all labels ends at.

    OMP_NUM_THREADS=1 python benchmarks/time_to_dice.py kvasir --data SCANS --work WORK --seeds 3

Each cell trains one method with one seed, and validates forty times. Its seconds are those of its process: training and
making batches, but neither validating nor what comes before the first step. Finished cells are kept in
benchmarks/results/time_to_dice/SET; the same command goes on after them. The ceiling is `supervised` with all masks of
training, in as many steps. `--methods`, `--steps` and `--seeds` make a smaller study. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from choices import SETS
from compare import ucseg
from provenance import RESULTS, machine

METHODS = ("uc_seg", "supervised", "unimatch", "bcp", "cps")
CEILING = "ceiling"
SHARE = 0.97
TIMES_LONGER = 5  # than the runs of choices.py, which end before most methods are done
VALIDATIONS = 40


def datasets(name: str, data: Path, work: Path) -> None:
    """WORK/shown with few masks, and WORK/all with those of all training cases; one plan, made from the few."""
    from ucseg.comparison.datasets import labelled_amounts, write_amount
    from ucseg.dataset.manifest import load_dataset

    one = SETS[name]
    ucseg("init", data, "--out", work / "data", *one["init"], "--seed", "0", "--overwrite")
    amounts, _ = labelled_amounts(load_dataset(work / "data"), [one["labelled"], "all"])
    for amount, folder in zip(amounts, ("shown", "all"), strict=True):
        write_amount(amount, work / "amounts").rename(work / folder)
    ucseg("plan", work / "shown", *(word for setting in one["plan"] for word in ("--set", setting)))


def cell(data: Path, plan: Path, method: str, seed: int, run: Path, steps: int) -> dict[str, Any]:
    """Train; the curve of [CPU seconds, step, Dice]."""
    import ucseg as package
    from ucseg.inference import validation

    shutil.rmtree(run, ignore_errors=True)  # what it measured so far is lost: a cell is done whole
    curve: list[list[float]] = []
    real, not_training = validation.validate, 0.0

    def timed(*given: Any, **named: Any) -> dict[str, float]:
        nonlocal not_training
        start = time.process_time()
        figures = real(*given, **named)
        not_training += time.process_time() - start
        curve.append([not_training, 0, figures["dice"]])
        return figures

    validation.validate = timed
    every = max(1, steps // VALIDATIONS)
    package.train(
        data, out=run, method=method, steps=steps, seed=seed, workers=0, plan=plan,
        set=["precision=fp32", f"validate_every={every}", "plan.norm=instance", "save_every=1e9", "clock=work"],
    )  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for point, line in zip(curve, [line for line in lines if "validation" in line], strict=True):
        point[:2] = round(line["work"] - point[0], 2), line["step"]
    return {"curve": curve, "last_dice": curve[-1][2]}


def seconds_to(curve: list[list[float]], dice: float) -> float | None:
    """CPU seconds at which the curve reaches a Dice for the first time; None if it does not."""
    return next((seconds for seconds, _, reached in curve if reached >= dice), None)


def table(folder: Path, seeds: int) -> str:
    """What the finished cells say."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    ceilings = [found[f"{CEILING}-{seed}"]["last_dice"] for seed in range(seeds) if f"{CEILING}-{seed}" in found]
    if not ceilings:
        return "The ceiling is not there yet."
    goal = SHARE * statistics.fmean(ceilings)
    lines = [f"goal: Dice {goal:.4f}, {SHARE:.0%} of {statistics.fmean(ceilings):.4f}"]
    for method in (*METHODS, CEILING):
        own = [found[f"{method}-{seed}"] for seed in range(seeds) if f"{method}-{seed}" in found]
        times = [seconds_to(one["curve"], goal) for one in own]
        last = ", ".join(f"{one['last_dice']:.3f}" for one in own)
        said = ", ".join("not reached" if one is None else f"{one:.0f} s" for one in times)
        lines.append(f"{method}: {said or 'no cell'} (last Dice: {last or '-'})")
    return "\n".join(lines)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--methods", default=",".join((CEILING, *METHODS)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS / "time_to_dice")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    words = parser.parse_args()
    work, kept = words.work.absolute() / words.set, words.results / words.set
    steps = words.steps or TIMES_LONGER * SETS[words.set]["steps"]
    if not (work / "shown" / "plan.yaml").exists():
        datasets(words.set, words.data, work)
    if words.cell:
        method, seed = words.cell.rsplit("-", 1)
        data = work / ("all" if method == CEILING else "shown")
        name, plan = "supervised" if method == CEILING else method, work / "shown" / "plan.yaml"
        made = cell(data, plan, name, int(seed), work / "runs" / words.cell, steps)
        kept.mkdir(parents=True, exist_ok=True)
        known = {"method": method, "seed": int(seed), "steps": steps, **machine()}
        (kept / f"{words.cell}.json").write_text(json.dumps(known | made, indent=1) + "\n", encoding="utf-8")
        return
    failed = []
    for seed in range(words.seeds):
        for method in words.methods.split(","):
            name = f"{method}-{seed}"
            if not (kept / f"{name}.json").exists():
                done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--cell", name], check=False)
                failed += [name] if done.returncode else []
    print(table(kept, words.seeds))
    if failed:
        sys.exit(f"These cells failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
