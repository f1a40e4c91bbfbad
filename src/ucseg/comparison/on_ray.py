"""Cells shared between the machines of a Ray cluster (the extra `ucseg[ray]`).

A worker runs one cell at a time, in a process beside it. The folder of the comparison lies where all machines
see it: so a cell whose worker died goes on from its last save on another one.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ucseg.comparison.processes import POLL, Job, start
from ucseg.errors import UserError
from ucseg.inference.on_ray import ATTEMPTS, Crew, share
from ucseg.machine.lock import lock
from ucseg.training.stopping import RUNS_FIRST, StopSignal

PATIENCE = 120.0
"""Seconds that a new worker leaves the process of a dead one to save and end."""
KILLED = -signal.SIGTERM if sys.platform == "win32" else -signal.SIGKILL


class Runner:
    """Runs cells on its machine, one at a time, each as a process."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def load(self) -> None:
        """Raise a UserError if this machine does not see the folder of the comparison."""
        if not (self._out / "plan.yaml").exists():
            raise UserError(
                "compare-ray-folder",
                f"{socket.gethostname()}: this machine does not see {self._out}; "
                "the dataset and --out must lie where all machines see them.",
            )

    def do(self, job: Job) -> int:
        """Run a cell to its end; its exit code (negative: killed by that signal)."""
        wait_for(job.folder)
        if hasattr(signal, "pthread_sigmask"):  # a process blocks what the thread that starts it blocks: all, in Ray's
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        # Python may lie elsewhere on this machine. Ray has set how many threads each library may start.
        self._process = start(replace(job, command=[sys.executable, *job.command[1:]]), 1, ())
        if self._stopped:
            self.stop()
        while (code := self._process.poll()) is None:
            time.sleep(POLL)
        return code

    def stop(self) -> None:
        """Have the running cell save and end, once."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


def wait_for(folder: Path | None) -> None:
    """Until no other process works in a run's folder: that of a dead worker notices it within seconds, and saves."""
    end = time.monotonic() + PATIENCE
    while folder is not None and folder.is_dir() and time.monotonic() < end:
        held = lock(folder)
        if held is not None:
            held.release()
            return
        time.sleep(POLL)


def run_on_ray(
    ray: Any,
    out: Path,
    jobs: Sequence[Job],
    on_end: Callable[[Job, int], None],
    on_wait: Callable[[list[str]], None],
    say: Callable[[str, str], None],
    *,
    device: str = "auto",
    workers: int | None = None,
) -> bool:
    """Run all jobs on the workers of a Ray cluster: as `run_jobs`, on many machines.

    Args:
        ray: connected, see `cluster`.
        out: folder of the comparison, absolute.
        device: unless "cpu", each worker has its own GPU where the cluster has any.
        workers: how many; by default one for each GPU, or for four cores.

    Returns:
        False if it was stopped.

    Raises:
        UserError: workers cannot start.
    """
    if not jobs:
        return True
    gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    number, options = share(ray.nodes(), "GPU" if gpu else "CPU", workers, len(jobs))
    actor = ray.remote(Runner).options(max_concurrency=2, **options)  # it can be stopped while it runs a cell
    waiting, costs, passed_on = deque(jobs), Counter[str](), False
    with StopSignal(RUNS_FIRST) as stop:
        crew = Crew(ray, lambda: actor.remote(out), say)
        try:
            while crew.busy or (waiting and not stop.asked):
                if stop.asked and not passed_on:
                    passed_on = True
                    ray.get([worker.stop.remote() for worker in crew.at_work])
                while waiting and crew.ready and not stop.asked:
                    crew.give(waiting.popleft())
                crew.grow_to(min(number, crew.busy + len(waiting)))
                for job, code in crew.ended():
                    if code is None and not stop.asked:
                        costs[job.name] += 1
                        if costs[job.name] < ATTEMPTS:
                            say("worker-died", f"{job.name}: its worker died; another one goes on from the last save.")
                            waiting.appendleft(job)
                            continue
                    if not stop.asked or code == 0:
                        on_end(job, KILLED if code is None else code)
                on_wait([job.name for job in crew.doing])
        finally:
            crew.end()
    return not stop.asked
