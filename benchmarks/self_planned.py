"""Self-planned runs against hand-set ones: the same cases, labels, steps and training settings, two plans a dataset.

    OMP_NUM_THREADS=1 python benchmarks/self_planned.py hippocampus --data SCANS --work WORK     # or kvasir, hc18, isic

Both plans are compared by `ucseg compare` as benchmarks/compare.py does: `hand` with that study's plan, `self`
with what `ucseg plan` chooses from the training images and the visible labels alone. Validation chooses the best
weights, test cases give the numbers. Finished cells are kept in WORK and in benchmarks/results/self_planned/STUDY, so
the command can be stopped and given again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compare import RESULTS, STUDIES, copy_new, run_and_keep, ucseg

AMOUNT = {"hippocampus": "5%", "kvasir": "10%", "hc18": "5%", "isic": "5%"}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=AMOUNT)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets and the runs")
    parser.add_argument("--seeds", default="1")
    words = parser.parse_args()
    study, amount = STUDIES[words.study], AMOUNT[words.study]
    compared = study.compare.split()
    settings = compared[compared.index("--steps") :]
    for kind, plan in (("self", ()), ("hand", study.plan)):
        work = words.work.absolute() / kind
        dataset, out, kept = work / "data", work / "comparison", RESULTS.parent / "self_planned" / words.study / kind
        if not (dataset / "plan.yaml").exists():
            # Planned with the labels of the amount alone; the dataset then shows all, of which compare hides the rest.
            ucseg(
                "init",
                words.data,
                "--out",
                work / "seen",
                *study.init,
                "--labelled",
                amount,
                "--seed",
                "0",
                "--overwrite",
            )
            chosen = [word for setting in plan for word in ("--set", setting)]
            ucseg("plan", work / "seen", "--explain", "--out", work / "plan.yaml", *chosen)
            ucseg("init", words.data, "--out", dataset, *study.init, "--seed", "0", "--overwrite")
            (work / "plan.yaml").rename(dataset / "plan.yaml")
        if not out.exists() and kept.exists():
            copy_new(kept, out, "WORK", str(work))
        command = [sys.executable, "-m", "ucseg.cli.main", "compare", str(dataset), "--out", str(out)]
        grid = ["--methods", "uc_seg", "--labelled", amount, "--seeds", words.seeds, *settings, "--jobs", "1"]
        if code := run_and_keep([*command, *grid], out, kept, work):
            sys.exit(code)


if __name__ == "__main__":
    main()
