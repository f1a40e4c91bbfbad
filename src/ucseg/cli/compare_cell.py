"""The process of one cell of `ucseg compare`: joins the verb that trains with what measures. Not a verb itself.

python -m ucseg.cli.compare_cell TASK, where TASK is a `Task` as JSON. Exit codes as of every verb.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from threading import Thread

from ucseg.cli.main import EXIT_INTERRUPTED, EXIT_USER
from ucseg.errors import Interrupted, UserError

LOOK = 2.0  # seconds


def run(text: str) -> int:
    """Run the cell; what is wrong is the last thing printed."""
    # A cell is stopped by Ctrl-C, which programs that a shell starts in the background ignore.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()
    try:
        from ucseg.cli.train import train
        from ucseg.comparison.cell import Task, run_cell

        run_cell(Task(**json.loads(text)), train)
    except UserError as error:
        print("\n".join(f"ucseg: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return EXIT_USER
    except (Interrupted, KeyboardInterrupt):
        # The message of Interrupted names `ucseg train`, which is the wrong command here.
        print("ucseg: stopped and saved; give the command of the comparison again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _stop_with(parent: int) -> None:
    """A comparison that is killed cannot end its cells: they save themselves and stop, as on Ctrl-C."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
