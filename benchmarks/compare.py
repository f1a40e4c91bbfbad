"""The comparisons of methods on real data: `ucseg compare` with the options of each study, and its results kept here.

    OMP_NUM_THREADS=1 python benchmarks/compare.py hippocampus --data SCANS --work WORK --jobs 2

The dataset, all its masks visible, is made in WORK with `ucseg init`. Finished cells are copied to
benchmarks/results/compare/STUDY as they come, and taken from there when the command is given again, on this machine or
another one: a study of hours can be done in pieces. WORK holds the report (index.html).

In a study of equal time (NAME_time, NAME_time_plain) every run has the same CPU seconds, and its validation curve is
kept in curves/RUN.json as [CPU seconds, step, Dice]. NAME_time_triple is NAME_time with three times the seconds.

Runs of one study may be made on several machines. Where a step of supervised training takes R times the CPU seconds
that it takes in the kept runs, `--slower R` gives each run R times the seconds. Its curve is kept divided by R; note.md
of the study names such runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "compare"
KEPT = ("comparison.json", "summary.json", "table.csv")
ALL = "uc_seg,mean_teacher,ua_mt,cps,cross_teaching,urpc,mc_net,unimatch,bcp"
FEW = "uc_seg,mean_teacher,cps,unimatch,bcp"
# The supervised baseline with UC-Seg's calibration loss, which other methods have not.
CALIBRATED = "supervised:method.calibration_weight=1"
# What the default, bf16 where the processor has it, costs in Dice.
FLOAT32 = "uc_seg:precision=fp32"
# On hc18 UniMatch and BCP came out above UC-Seg: which of their parts does it, and which part of UC-Seg helps there?
PARTS = ",".join(
    [
        CALIBRATED,
        "uc_seg:method.strong_mixing=true",
        "uc_seg:method.subnets=[unet,unet]",
        "uc_seg:method.subnets=[unet,vnet_norm]",
        "unimatch:method.feature_weight=0",
        "unimatch:method.strong_weight=0",
        "unimatch:method.cutmix=0",
        "uc_seg:method.ife_weight=0:method.ic_weight=0",  # without CCP
        "uc_seg:method.ife_weight=0",
        "uc_seg:method.ic_weight=0",
        "uc_seg:method.upg=false",  # the mean of the two subnets
        "uc_seg:method.gate=none",  # fusion without uncertainty
        "uc_seg:method.mixing=false",
        "uc_seg:method.calibration_weight=0",
        FLOAT32,
        "bcp:method.pretraining=1",  # labelled images in each other to the end
        "bcp:method.pretraining=0",
        "bcp:method.unlabelled_weight=0",
        "bcp:method.decay=0",  # the student as its own teacher
        "bcp:method.component_filter=false",
    ]
)
HIPPOCAMPUS = ("--classes", "1=anterior,2=posterior", "--modality", "mri", "--validation", "20", "--test", "60")
# Anterior and posterior differ in where they lie: turns and flips along that axis would hide it.
HIPPOCAMPUS_PLAN = (
    *("patch=[32,48,32]", "strides=null", "labelled_batch=2", "unlabelled_batch=2"),
    *("augmentation.rotate90=0", "augmentation.flip_axes=[0]"),
)
# V-Net has no norm and learns too slowly at 0.01.
HIPPOCAMPUS_TRAINING = "--set lr=0.03 --set validate_every=200"
FLAT_PLAN = ("size=112", "strides=null", "labelled_batch=4", "unlabelled_batch=4")

TIME_PLAN = ("size=96", *FLAT_PLAN[1:])
PLAIN_PLAN = (*TIME_PLAN, "encoder=null")
ALL_TIME = "uc_seg,unimatch,bcp,cps,mean_teacher,mc_net,ua_mt,ad_mt"
EQUAL_TIME = f"--methods {ALL_TIME} --variants supervised:method.networks=[unet,unet_strided]"
EQUAL_TIME += ",uc_seg:method.preset=published --seeds 3 --set precision=fp32 --set workers=0 --hours-each "


@dataclass(frozen=True)
class Study:
    """Words of `ucseg init`, settings of the plan, and words of `ucseg compare`."""

    init: tuple[str, ...]
    plan: tuple[str, ...]
    compare: str


STUDIES = {
    "hippocampus": Study(
        HIPPOCAMPUS,
        HIPPOCAMPUS_PLAN,
        f"--methods {ALL} --variants {FLOAT32} --labelled 5%,10% --seeds 3 --steps 600 {HIPPOCAMPUS_TRAINING}",
    ),
    # URPC and BCP came out level with the supervised U-Net there: with their unlabelled images, and without them?
    "hippocampus_parts": Study(
        HIPPOCAMPUS,
        HIPPOCAMPUS_PLAN,
        f"--methods urpc,bcp --variants {CALIBRATED},urpc:method.consistency_weight=0,bcp:method.pretraining=1 "
        f"--labelled 10% --seeds 3 --steps 600 {HIPPOCAMPUS_TRAINING}",
    ),
    "kvasir": Study(
        (),
        FLAT_PLAN,
        f"--methods {ALL} --variants {FLOAT32} --labelled 10% --seeds 2 --steps 4000 --set validate_every=500",
    ),
    "isic": Study(
        ("--validation", "40", "--test", "120"),
        FLAT_PLAN,
        f"--methods {FEW} --variants {CALIBRATED} --labelled 5% --seeds 2 --steps 1200 --set validate_every=300",
    ),
    "hc18": Study(
        ("--fill-outlines", "--validation", "10%", "--test", "20%"),
        FLAT_PLAN,
        f"--methods {FEW} --variants {PARTS} --labelled 5% --seeds 2 --steps 600 --set validate_every=200",
    ),
    # Equal time. Photographs and ultrasound with the encoder of their plans, and without it (NAME_time_plain).
    # Do unlabelled images give more in longer runs (NAME_time_triple)?
    **{
        f"{name}_time{kind}": Study(init, plan, f"{EQUAL_TIME}{hours} --labelled {labelled}")
        for name, init, labelled in (
            ("hc18", ("--fill-outlines", "--validation", "25%", "--test", "20%"), "5%"),
            ("isic", ("--validation", "80", "--test", "120"), "5%"),
            ("kvasir", (), "10%"),
        )
        for kind, plan, hours in (
            ("", TIME_PLAN, 0.11),
            ("_plain", PLAIN_PLAN, 0.11),
            ("_triple", TIME_PLAN, 0.33),
        )
    },
    "hippocampus_time": Study(HIPPOCAMPUS, HIPPOCAMPUS_PLAN, f"{EQUAL_TIME}0.11 --labelled 5%,10%"),
}


def ucseg(*words: str | Path) -> None:
    """One verb in its own process; stops this one if it fails."""
    subprocess.run([sys.executable, "-m", "ucseg.cli.main", *map(str, words)], check=True)


def copy_new(source: Path, target: Path, changes: dict[str, str]) -> None:
    """Cells and summaries that `target` has not, or older ones, with words in them replaced: old -> new."""
    for file in [*(source / "cells").glob("*.json"), *(source / name for name in KEPT)]:
        copy = target / file.relative_to(source)
        if file.exists() and (not copy.exists() or copy.stat().st_mtime_ns < file.stat().st_mtime_ns):
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text()
            for old, new in changes.items():
                text = text.replace(old, new)
            copy.write_text(text)


def keep_curves(runs: Path, target: Path, slower: float) -> None:
    """The validation curves of the runs whose cells are kept: [CPU seconds / slower, step, Dice] of each validation."""
    for cell in (target / "cells").glob("*.json"):
        log, curve = runs / cell.stem / "metrics.jsonl", target / "curves" / cell.name
        if log.exists() and not curve.exists():
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            points = [
                [line["work"] / slower, line["step"], round(line["validation"]["dice"], 5)]
                for line in lines
                if "validation" in line and "work" in line
            ]
            if points:
                curve.parent.mkdir(parents=True, exist_ok=True)
                curve.write_text(json.dumps(points) + "\n")


def run_and_keep(command: list[str], out: Path, kept: Path, changes: dict[str, str], slower: float) -> int:
    """Run a comparison into `out`, copying finished cells to `kept` as they come; its exit code."""
    with subprocess.Popen(command) as running:
        try:
            while running.poll() is None:
                time.sleep(20)
                copy_new(out, kept, changes)
                keep_curves(out / "runs", kept, slower)
        except KeyboardInterrupt:
            running.wait()  # it has been interrupted too, and saves
    copy_new(out, kept, changes)
    keep_curves(out / "runs", kept, slower)
    return running.returncode


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")
    parser.add_argument("--jobs", default="2", help="runs at once")
    parser.add_argument("--methods", help="only these of the study's, to have them first; the others can follow")
    parser.add_argument("--variants", help="only these variants, or none; the others can follow")
    parser.add_argument("--labelled", help="only these amounts, to have them first; the others can follow")
    parser.add_argument("--seeds", help="only so many seeds, to have them first; the others can follow")
    parser.add_argument("--slower", type=float, default=1.0, help="how many times as long a supervised step takes here")
    words = parser.parse_args()
    study, work = STUDIES[words.study], words.work.absolute()
    dataset, out, kept = work / "data", work / "comparison", RESULTS / words.study
    if not (dataset / "cases.csv").exists():
        ucseg("init", words.data, "--out", dataset, *study.init, "--seed", "0", "--overwrite")
    compared = [*study.compare.split(), *(word for setting in study.plan for word in ("--set", f"plan.{setting}"))]
    asked = {f"--{name}": getattr(words, name) for name in ("methods", "variants", "labelled", "seeds")}
    for option, value in asked.items():
        if value == "none":
            del compared[compared.index(option) : compared.index(option) + 2]
        elif value:
            compared[compared.index(option) + 1] = value
    changes = {str(work): "WORK"}
    if words.slower != 1:
        place = compared.index("--hours-each") + 1
        hours, compared[place] = compared[place], f"{float(compared[place]) * words.slower:g}"
        changes[f'"hours": {compared[place]}'] = f'"hours": {hours}'
        changes[f"fit into {compared[place]} h"] = f"fit into {hours} h"
    if not out.exists() and kept.exists():
        copy_new(kept, out, {new: old for old, new in changes.items()})
    command = [
        sys.executable,
        "-m",
        "ucseg.cli.main",
        "compare",
        str(dataset),
        "--out",
        str(out),
        *compared,
    ]
    sys.exit(run_and_keep([*command, "--jobs", words.jobs], out, kept, changes, words.slower))


if __name__ == "__main__":
    main()
