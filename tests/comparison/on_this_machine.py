"""Stands for `ucseg.cli.compare_cell` in tests: a run that notes that it was here, and saves; one kills its worker."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    out, name = Path(task["out"]), task["name"]
    print(name, os.environ.get("OMP_NUM_THREADS"), flush=True)
    saved = out / f"{name}.saved"
    if name == "kills_its_worker" and not saved.exists():
        saved.write_text("half")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    if name in ("stops", "waits"):
        signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
        saved.write_text("half")
        while not (out / "waits.saved").exists():
            time.sleep(0.05)
        if name == "stops":
            os.kill(task["caller"], signal.SIGINT)
        time.sleep(60)
    (out / f"{name}.done").write_text(saved.read_text() if saved.exists() else "whole")
    sys.exit(3 if name == "fails" else 0)
