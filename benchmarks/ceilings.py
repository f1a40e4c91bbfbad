"""Do labelled masks survive the network's grid, and what does it cost to know?

    OMP_NUM_THREADS=1 python benchmarks/ceilings.py --data SCANS

SCANS holds the folders kvasir, isic, hc18 and hippocampus. Each becomes a dataset in a temporary folder. Writes
benchmarks/results/ceilings.json: the grid of the default plan, its ceilings, and those of a grid of 112 pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ucseg
from provenance import RESULTS, machine
from ucseg.planning.ceiling import NetworkGrid, ceilings
from ucseg.planning.choosing import plan_with_reasons
from ucseg.planning.fingerprint import take_fingerprint

SETS = ("hippocampus", "hc18", "isic", "kvasir")


def measure(scans: Path, work: Path) -> dict[str, Any]:
    data = ucseg.init(scans, out=work / scans.name)
    begun = time.perf_counter()
    seen = take_fingerprint(data)
    read = time.perf_counter()
    planned = plan_with_reasons(data, fingerprint=seen)
    done = time.perf_counter()
    row: dict[str, Any] = {
        "labelled": len(seen.labelled),
        "size": planned.plan.size,
        "spacing": planned.plan.spacing,
        "ceilings": planned.ceilings.by_class(),
        "lost": planned.ceilings.lost(),
        "lowest_of_a_mask": min(dice for one in planned.ceilings.dice.values() for dice in one.values()),
        "seconds_fingerprint": round(read - begun, 2),
        "seconds_choosing": round(done - read, 2),
    }
    if planned.plan.size is not None:
        small = ceilings(data, seen, NetworkGrid(planned.plan.spacing, (112, 112), None))
        row["ceilings_at_112"] = small.by_class()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    command = "OMP_NUM_THREADS=1 python benchmarks/ceilings.py --data SCANS"
    with tempfile.TemporaryDirectory() as work:
        results = {"made_by": command, **machine(), "sets": {name: measure(data / name, Path(work)) for name in SETS}}
    out = RESULTS / "ceilings.json"
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {out}\n")


if __name__ == "__main__":
    main()
