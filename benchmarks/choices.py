"""Which defaults are better? One change at a time, on validation cases alone.

    OMP_NUM_THREADS=1 python benchmarks/choices.py hc18 --data SCANS --work WORK --variants before@190,new@330 --seeds 3

Each cell trains one variant with one seed, for the steps after its @, and measures the last weights on the validation
cases, with and without mirrored prediction. Finished cells are kept in benchmarks/results/choices/SET; the same command
goes on after them. No test case is read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import FLAT_PLAN, HIPPOCAMPUS_PLAN, ucseg
from provenance import machine

RESULTS = Path(__file__).parent / "results" / "choices"
FLAT_STEPS = 240
# Variants name their encoder.
FLAT = ("size=96", *FLAT_PLAN[1:], "encoder=null")
SETS: dict[str, dict[str, Any]] = {
    "hc18": {
        "init": ("--fill-outlines", "--validation", "25%", "--test", "20%"),
        "plan": FLAT,
        "labelled": "5%",
        "steps": FLAT_STEPS,
    },
    "isic": {
        "init": ("--validation", "80", "--test", "120"),
        "plan": FLAT,
        "labelled": "5%",
        "steps": FLAT_STEPS,
    },
    "kvasir": {"init": (), "plan": FLAT, "labelled": "10%", "steps": FLAT_STEPS},
    "hippocampus": {
        "init": ("--classes", "1=anterior,2=posterior", "--modality", "mri", "--validation", "40", "--test", "60"),
        "plan": HIPPOCAMPUS_PLAN,
        "labelled": "5%",
        "steps": 100,
    },
}
PUBLISHED = "published augmentation"
BEFORE = [
    *(PUBLISHED, "plan.norm=batch", "method.preset=published", "method.lambda_max=1", "method.lambda_ramp=0.2"),
    *("method.mixing_start=0.1", "method.residual=true", "lr=0.01"),
]
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "before": ("uc_seg", BEFORE),
    "before-augmented": ("uc_seg", BEFORE[1:]),
    "supervised-before": ("supervised", [PUBLISHED, "plan.norm=batch", "lr=0.01"]),
    "supervised-augmented": ("supervised", ["plan.norm=batch", "lr=0.01"]),
    **{f"{name}-lr01": (name, ["plan.norm=instance", "lr=0.01"]) for name in ("supervised", "cps", "unimatch", "bcp")},
    **{
        f"{name}-{norm}": (name, [f"plan.norm={norm}", "lr=0.03"])
        for name in ("supervised", "mean_teacher", "cps", "unimatch", "bcp")
        for norm in ("batch", "instance")
    },
}
# The defaults before images were small at first.
NEW = {
    "plan.norm": "instance",
    "method.subnets": "[unet,unet_strided]",
    "method.strong_mixing": "true",
    "method.plain_terms": "false",
    "method.unlabelled_start": "0.4",
    "method.calibration_detached": "true",
    "method.unlabelled_steps": "1",
    "method.fusion_widths": "[16,32,64,32,16]",
    "method.attention_width": "null",
    "lr": "0.03",
}
# What the new settings would be without one of them, or with one more.
CHANGES: dict[str, dict[str, str]] = {
    "new": {},
    "new-batch_norm": {"plan.norm": "batch"},
    "new-vnet_norm": {"method.subnets": "[unet,vnet_norm]"},
    "new-weak": {"method.strong_mixing": "false"},
    "new-plain_terms": {"method.plain_terms": "true"},
    "new-early": {"method.unlabelled_start": "0"},
    "new-published_calibration": {"method.calibration_detached": "false"},
    "new-uncalibrated": {"method.calibration_weight": "0"},
    "new-lr01": {"lr": "0.01"},
    "new-teacher": {"method.decay": "0.99"},
    "new-evaluation": {"method.pseudo_label_mode": "evaluation"},
    "new-confidence": {"method.confidence": "vacuity"},
    "new-no_ccp": {"method.ife_weight": "0", "method.ic_weight": "0"},
    "new-no_upg": {"method.upg": "false"},
    "new-no_consistency": {"method.consistency_weight": "0"},
    "new-no_boxes": {"plan.augmentation.dropout": "0"},
    "new-wide": {"plan.width": "32"},
}
# An encoder that knows ImageNet: with the baseline's loss at several rates, and as one subnet or both.
for name, start, rate in (("", "", 0.01), ("-random", ":random", 0.01), ("-lr03", "", 0.03), ("-lr003", "", 0.003)):
    settings = [f"method.networks=[effnet_lite0{start}]", f"lr={rate}"]
    VARIANTS[f"supervised-effnet{name}"] = ("supervised", settings)
for name, pair in (
    ("first", "effnet_lite0,unet_strided"),
    ("second", "unet,effnet_lite0"),
    ("both", "effnet_lite0,effnet_lite0"),
):
    CHANGES[f"new-effnet-{name}"] = {"method.subnets": f"[{pair}]"}
for name, changed in CHANGES.items():
    VARIANTS[name] = ("uc_seg", [f"{key}={value}" for key, value in (NEW | changed).items()])
VARIANTS["supervised-unet_strided"] = (
    "supervised",
    ["method.networks=[unet_strided]", "plan.norm=instance", "lr=0.03"],
)
VARIANTS = {name: (method, ["small_first=0", *settings]) for name, (method, settings) in VARIANTS.items()}
# Today's defaults, of any method; of UC-Seg those before its second network was thin.
VARIANTS |= {f"{name}-today": (name, ["plan.norm=instance"]) for name in ("supervised", "unimatch", "bcp", "cps")}
VARIANTS["both-today"] = ("supervised", ["plan.norm=instance", "method.networks=[unet,unet_strided]"])
VARIANTS["uc_seg-today"] = (
    "uc_seg",
    [
        *("plan.norm=instance", "method.subnets=[unet,unet_strided]", "method.ic_weight=0.1"),
        "method.attention_width=null",
    ],
)
# Its second network thin in 3D too, and wide tokens there.
VARIANTS["uc_seg-thin"] = (
    "uc_seg",
    ["plan.norm=instance", "method.subnets=[unet_strided,unet_thin]", "method.attention_width=null"],
)


def settings_of(name: str) -> tuple[str, list[str]]:
    """Method and settings of VARIANT+KEY=VALUE+...@STEPS."""
    variant, *more = name.split("@", maxsplit=1)[0].split("+")
    method, settings = VARIANTS[variant]
    return method, [*settings, *more]


def cell(data: Path, name: str, seed: int, run: Path, steps: int) -> dict[str, Any]:
    """Train and measure; the cell's figures."""
    import ucseg
    from ucseg.batches.prepare import prepare
    from ucseg.dataset.manifest import load_dataset
    from ucseg.inference.validation import validation_dice
    from ucseg.planning.augmentation import AugmentationConfig
    from ucseg.planning.plan import read_plan
    from ucseg.training.checkpoint import load_method

    method, settings = settings_of(name)
    plan = read_plan(data / "plan.yaml")
    if PUBLISHED in settings:
        old = AugmentationConfig.published(plan.dims, "mri")
        keep = {"flip_axes": plan.augmentation.flip_axes, "rotate90": plan.augmentation.rotate90}
        changed = {**old.model_dump(), **keep}
        settings = [s for s in settings if s != PUBLISHED]
        settings += [
            f"plan.augmentation.{key}={json.dumps(value)}" for key, value in changed.items() if value is not None
        ]
    start = time.process_time()
    made = ucseg.train(
        data, out=run, method=method, steps=steps, seed=seed, workers=0, resume=(run / "config.json").exists(),
        set=list({s.split("=")[0]: s for s in ["precision=fp32", f"validate_every={steps}", *settings]}.values()),
    )  # fmt: skip
    seconds = time.process_time() - start
    trained, plan, _ = load_method(run, "last")
    cases = prepare(load_dataset(data), plan, None, 1, progress=False).validation
    mirrored = validation_dice(trained, plan, cases, "fp32", mirror=True)
    return {"cpu_seconds": round(seconds, 1), "plain": made.last, "mirrored": mirrored}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--variants", required=True, help="names, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    words = parser.parse_args()
    one, work = SETS[words.set], words.work.absolute() / words.set
    data = work / "shown"
    if not data.exists():
        from ucseg.comparison.datasets import labelled_amounts, write_amount
        from ucseg.dataset.manifest import load_dataset

        ucseg("init", words.data, "--out", work / "data", *one["init"], "--seed", "0", "--overwrite")
        amounts, _ = labelled_amounts(load_dataset(work / "data"), [one["labelled"]])
        write_amount(amounts[0], work).rename(data)
        ucseg("plan", data, *(word for setting in one["plan"] for word in ("--set", setting)))
    if words.cell:
        name, seed = words.cell.rsplit("-", 1)
        steps = int(name.split("@")[1]) if "@" in name else one["steps"]
        found = cell(data, name, int(seed), work / "runs" / words.cell, steps)
        (RESULTS / words.set).mkdir(parents=True, exist_ok=True)
        known = {
            "variant": name,
            "seed": int(seed),
            "settings": settings_of(name)[1],
            "steps": steps,
            **machine(),
        }
        (RESULTS / words.set / f"{words.cell}.json").write_text(json.dumps(known | found, indent=1) + "\n")
        return
    failed = []
    for seed in range(words.seeds):
        for name in words.variants.split(","):
            if not (RESULTS / words.set / f"{name}-{seed}.json").exists():
                command = [sys.executable, __file__, words.set, "--data", str(words.data), "--work", str(words.work)]
                done = subprocess.run([*command, "--variants", name, "--cell", f"{name}-{seed}"], check=False)
                failed += [f"{name}-{seed}"] if done.returncode else []
    if failed:
        sys.exit(f"These cells failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
