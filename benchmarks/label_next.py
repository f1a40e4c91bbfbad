"""Which strategy of `ucseg label-next` is better? Masks are hidden, and shown when their case is chosen.

    OMP_NUM_THREADS=1 python benchmarks/label_next.py hc18 --data DATASET --work WORK --seeds 3

DATASET, of `ucseg init`, has all masks. Each cell is one strategy with one seed: a first training on three cases, then
rounds in which three more of a pool of 80 are chosen, and training goes on from the weights before. After each
training the last weights are measured on the validation cases. The method is supervised training of both networks of
UC-Seg, which takes a third of UC-Seg's time. Cells are kept in benchmarks/results/label_next; the
same command goes on after them. The first training of a seed is the same for all strategies. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from provenance import RESULTS, machine

KEPT = RESULTS / "label_next"
POOL, FIRST, MORE, ROUNDS = 80, 3, 3, 5
POWERS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Of class-entropy, one a round: the noise falls, as its authors have it."""
METHOD = "supervised"
SETTINGS = ("precision=fp32", "method.networks=[unet,unet_strided]")
WARM = ("small_first=0", "lr=0.01")
SETS: dict[str, dict[str, Any]] = {
    "hc18": {"plan": ("size=64", "strides=null", "labelled_batch=4", "unlabelled_batch=4", "width=8"),
             "first": 400, "round": 60},
    "hippocampus": {
        "plan": ("spacing=[1.5,1.5,1.5]", "patch=[24,32,24]", "strides=[2,2,2]", "labelled_batch=2",
                 "unlabelled_batch=2", "width=8", "augmentation.rotate90=0", "augmentation.flip_axes=[0]"),
        "first": 250, "round": 40,
    },
}  # fmt: skip


def shown(data: Any, pool: list[str], masks: set[str], folder: Path) -> Any:
    """The training cases of the pool with these masks alone, written into a folder."""
    from ucseg.dataset.manifest import save_dataset

    cases = [one if one.case in masks else replace(one, mask=None) for one in data.training if one.case in pool]
    made = replace(data, folder=folder, cases=cases)
    save_dataset(made)
    return made


def cell(name: str, strategy: str, seed: int, source: Path, work: Path) -> dict[str, Any]:
    """All rounds of a strategy; its figures."""
    from ucseg.batches.prepare import prepare
    from ucseg.dataset.manifest import load_dataset
    from ucseg.inference.validation import validation_dice
    from ucseg.randomness import numpy_generator
    from ucseg.scans.npy import open_npy
    from ucseg.training.checkpoint import load_method

    began = time.process_time()
    one, full = SETS[name], load_dataset(source)
    names = sorted(case.case for case in full.training if case.mask is not None)
    pool = [names[i] for i in numpy_generator(seed, "pool").permutation(len(names))[:POOL]]
    masks = set(pool[:FIRST])
    base, own, cache = work / f"first-{seed}", work / f"{strategy}-{seed}", work / "cache"
    shutil.rmtree(own, ignore_errors=True)
    prepared = prepare(full, plan_of(full, pool, base, one, masks), cache, 1, False)
    everything = {case.case: case for case in prepared.labelled if case.case in pool}
    pool = [case for case in pool if case in everything]  # a broken mask would be chosen in vain
    voxels = {case: int((open_npy(found.label) > 0).sum()) for case, found in everything.items()}
    points: list[dict[str, Any]] = []
    run = base / "run"
    for number in range(ROUNDS + 1):
        folder = base if number == 0 else own / f"round-{number}"
        shown(full, pool, masks, folder / "data")
        if number == 0 and not (run / "last.json").exists():
            train(base, run, one["first"], seed, cache, base, ())
        if number:
            train(folder, folder / "run", one["round"], seed, cache, base, (f"init={run}", *WARM))
            run = folder / "run"
        method, plan, _ = load_method(run)
        dice = validation_dice(method, plan, prepared.validation, "fp32")["dice"]
        points.append({"cases": len(masks), "foreground": sum(voxels[case] for case in masks), "dice": dice})
        print(name, strategy, seed, points[-1], flush=True)
        if number < ROUNDS:
            # A round has its own draws: else the strategies of chance would all go down one list.
            seeds = {"seed": 1000 * seed + number, "power": POWERS[number]}
            points[-1]["chosen"] = chosen(strategy, method, plan, everything, masks, **seeds)
            masks |= set(points[-1]["chosen"])
    shutil.rmtree(own)
    return {"cpu_seconds": round(time.process_time() - began, 1), "points": points}


def chosen(strategy: str, method: Any, plan: Any, cases: dict[str, Any], masks: set[str], **seeds: Any) -> list[str]:
    """The next cases of a strategy, from what the model makes of the others."""
    from ucseg.inference.predictor import Predictor, tensors_of
    from ucseg.labelling.measures import Measure, measure
    from ucseg.labelling.strategies import choose
    from ucseg.scans.npy import open_npy

    predictor = Predictor(method, plan, "cpu", precision="fp32", mirror=False)

    def measured(case: str) -> Measure:
        image = np.asarray(open_npy(cases[case].image), np.float32)
        return measure(case, tensors_of(predictor.predict_grid(image)), image, plan.always_present)

    free = sorted(cases.keys() - masks)
    if strategy == "random":
        candidates = [Measure(case, None, 0.0, 0.0, 0.0, (0.0,), (0,), ()) for case in free]
    else:
        candidates = [measured(case) for case in free]
    labelled = [measured(case) for case in sorted(masks)] if strategy == "diversity" else []
    return [one.measure.case for one in choose(strategy, candidates, MORE, labelled=labelled, **seeds)]


def plan_of(full: Any, pool: list[str], base: Path, one: dict[str, Any], masks: set[str]) -> Any:
    """The plan of the first cases, made once for each seed."""
    import ucseg
    from ucseg.planning.plan import read_plan

    if not (base / "data" / "plan.yaml").exists():
        shown(full, pool, masks, base / "data")
        ucseg.plan(base / "data", set=list(one["plan"]))
    return read_plan(base / "data" / "plan.yaml")


def train(folder: Path, run: Path, steps: int, seed: int, cache: Path, base: Path, more: Any) -> None:
    """Train with the plan of the first cases, in this process."""
    import ucseg

    shutil.rmtree(run, ignore_errors=True)
    plan = base / "data" / "plan.yaml"
    settings = [*SETTINGS, f"validate_every={steps}", *more]
    ucseg.train(
        folder / "data", out=run, method=METHOD, steps=steps, seed=seed, workers=0, cache=cache, plan=plan, set=settings
    )


def main() -> None:
    """See the module's docstring."""
    from ucseg.labelling.names import STRATEGIES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="dataset with all masks")
    parser.add_argument("--work", type=Path, required=True, help="folder for datasets and runs")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    words = parser.parse_args()
    work = words.work.absolute() / words.set
    KEPT.mkdir(parents=True, exist_ok=True)
    for seed in range(words.first_seed, words.seeds):
        for strategy in words.strategies.split(","):
            file = KEPT / f"{words.set}-{strategy}-{seed}.json"
            if file.exists():
                continue
            found = cell(words.set, strategy, seed, words.data.absolute(), work)
            known = {"set": words.set, "strategy": strategy, "seed": seed, "method": METHOD, **SETS[words.set]}
            text = json.dumps({**known, "settings": SETTINGS, "warm": WARM, **machine(), **found}, indent=1)
            file.write_text(text + "\n")


if __name__ == "__main__":
    main()
