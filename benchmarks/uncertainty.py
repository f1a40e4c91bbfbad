"""Which score finds bad masks best, and what are uncertainty maps and the predicted Dice worth?

    OMP_NUM_THREADS=1 python benchmarks/uncertainty.py hc18 --data WORK/hc18/shown --run WORK/hc18/runs/NAME \
        --test WORK/hc18/data --work WORK

DATA is a dataset with some masks hidden, as `benchmarks/choices.py` makes it, and TEST the whole one. A run that is not
there is trained first, with the defaults. Scores are ranked on validation cases, so that they may choose the default.
The calibration is made of the same cases, and measured on test cases, which chose nothing.
What is done is kept in WORK, and results in benchmarks/results/uncertainty; the same command goes on after it.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from choices import SETS
from provenance import machine
from ucseg.types import Array

RESULTS = Path(__file__).parent / "results" / "uncertainty"
MAPS = ("uncertainty", "entropy", "mirror_variance")


def validation(run: Path, data: Path, work: Path) -> dict[str, Any]:
    """Scores and Dice of every validation case, how well maps find wrong voxels, and the run's calibration."""
    from ucseg.batches.prepare import prepare
    from ucseg.dataset.manifest import load_dataset
    from ucseg.evaluation.ranking import ranked_voxels
    from ucseg.evaluation.uncertainty import of_score
    from ucseg.inference.calibration import Keeper, calibrate, record_of
    from ucseg.inference.case_scores import RunningScores, missing
    from ucseg.inference.class_means import mean_of_class_means
    from ucseg.inference.disagreement import foreground_dice
    from ucseg.inference.predictor import Predictor
    from ucseg.scans.npy import open_npy

    predictor = Predictor.from_run(run, "last", "cpu", precision="fp32")
    plan = predictor.plan
    cases = prepare(load_dataset(data), plan, None, 1, progress=False).validation
    rows, records, ranked = [], [], {}
    work.mkdir(parents=True, exist_ok=True)
    for case in cases:
        kept = work / f"{case.case.replace('/', '_')}.npz"
        if kept.exists():
            known = np.load(kept, allow_pickle=False)
            found = _as_maps({name: known[name] for name in known.files})
        else:
            found = predictor.predict_grid(np.asarray(open_npy(case.image), np.float32))
            np.savez(kept, **_as_arrays(found))
        assert case.label is not None
        true, probabilities = np.asarray(open_npy(case.label)), found.probabilities[0]
        label = predictor.keep_components(probabilities.argmax(axis=0).astype(np.uint8))
        dice = mean_of_class_means(foreground_dice(label, true, len(probabilities))[None])
        doubt = found.uncertainty[0, 0]
        running = RunningScores(doubt, predictor.silent)
        running.add(slice(0, len(doubt)), found)
        scores = running.of(label, missing(label, plan.always_present))
        scores["mean_uncertainty"] = float(doubt.mean())
        rows.append({"case": case.case, "dice": dice, **scores})
        records.append(record_of(probabilities, doubt, (label, true), scores["failure_score"], dice, len(cases)))
        maps = (doubt, _entropy(found.probabilities), _spread(found))
        for name, values in zip(MAPS, maps, strict=True):
            if values is not None:
                one = ranked_voxels(np.maximum(values, 0), label != true)
                ranked[name] = ranked[name] + one if name in ranked else one
    calibration = calibrate(records, predictor.weights, len(predictor.mirrors) > 1)
    assert calibration is not None
    Keeper(run, writes=True)(calibration)
    names = [name for name in rows[0] if name not in ("case", "dice")]
    return {
        "dice": float(np.nanmean([row["dice"] for row in rows])),
        "maps": {name: {"auroc": one.auroc, "aupr": one.aupr} for name, one in ranked.items()},
        "scores": {n: asdict(of_score([row[n] for row in rows], [row["dice"] for row in rows], 0.8)) for n in names},
        "calibration": calibration.model_dump(mode="json"),
        "cases": rows,
    }


def _entropy(probabilities: Array) -> Array:
    """Of 1 x C x S, between 0 and 1."""
    import torch

    from ucseg.method_parts.uncertainty import entropy

    return (entropy(torch.from_numpy(probabilities)) / math.log(probabilities.shape[1]))[0, 0].numpy()


def _as_arrays(found: Any) -> dict[str, Array]:
    arrays = {"probabilities": found.probabilities, "uncertainty": found.uncertainty}
    arrays |= {f"member {name}": one for name, one in found.members.items()}
    return arrays if found.spread is None else arrays | {"spread": found.spread}


def _as_maps(arrays: dict[str, Array]) -> Any:
    from ucseg.inference.maps import Maps

    members = {name.removeprefix("member "): one for name, one in arrays.items() if name.startswith("member ")}
    return Maps(arrays["probabilities"], arrays["uncertainty"], members, arrays.get("spread"))


def _spread(found: Any) -> Array | None:
    return None if found.spread is None else found.spread[0, 0]


def test(run: Path, data: Path, work: Path) -> dict[str, Any]:
    """The same of test cases, by the verbs, with the calibration."""
    import ucseg

    masks = work / "masks"
    ucseg.predict(run, [data], out=masks, probabilities=True, precision="fp32", device="cpu", resume=masks.exists())
    found = ucseg.evaluate(masks, data, out=work / "numbers", uncertainty=True, overwrite=True, workers=1)
    assert found.uncertainty is not None
    kept = found.uncertainty.content()
    return {"dice": found.mean("dice"), "cases": len(found.cases), **{k: kept[k] for k in KEPT}}


KEPT = ("all", "mean_over_cases", "scores", "predicted_dice", "settings")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="dataset to train on")
    parser.add_argument("--run", type=Path, required=True, help="run to measure, trained if it is not there")
    parser.add_argument("--test", type=Path, help="dataset whose test cases are measured")
    parser.add_argument("--work", type=Path, required=True, help="folder for predictions")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0, help="of the run, where it has to be trained")
    words = parser.parse_args()
    if not (words.run / "last.safetensors").exists():
        import ucseg

        ucseg.train(words.data, out=words.run, steps=words.steps, seed=words.seed, workers=0, resume=words.run.exists())
    RESULTS.mkdir(parents=True, exist_ok=True)
    known = json.loads((words.run / "config.json").read_text())
    name = f"{words.set}-{known['train']['seed']}"
    file, work = RESULTS / f"{name}.json", words.work / name
    result = json.loads(file.read_text()) if file.exists() else {"set": words.set, **machine()}
    result |= {"method": known["method"]["name"], "steps": known["train"]["steps"], "seed": known["train"]["seed"]}
    result["labelled"] = len(known["cases"]["labelled"])
    if "validation" not in result:
        result["validation"] = validation(words.run, words.data, work / "validation")
        file.write_text(json.dumps(result, indent=1) + "\n")
    if "test" not in result and words.test is not None:
        result["test"] = test(words.run, words.test, work)
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
