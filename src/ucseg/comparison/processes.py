"""Cells as processes: so many at once, each with its log; a failure ends only itself, Ctrl-C ends all in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ucseg.errors import UserError
from ucseg.machine.cores import cores
from ucseg.machine.lock import lock, open_to_append
from ucseg.machine.writing import make_folder
from ucseg.training.stopping import RUNS_FIRST, StopSignal

POLL = 0.2  # seconds
PATIENCE = 60.0  # seconds that processes get to save themselves when this one has to end
AGAIN = "--- started again"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


Process: TypeAlias = "subprocess.Popen[bytes]"


@dataclass(frozen=True, eq=False)
class Job:
    """A process to run: its command, the file that takes all it prints, and the folder that it alone writes into."""

    name: str
    command: list[str]
    log: Path
    folder: Path | None = None


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    on_end: Callable[[Job, int], None],
    on_wait: Callable[[list[str]], None] = lambda running: None,
    keep_open: Sequence[int] = (),
) -> bool:
    """Run all jobs, `at_once` of them at a time.

    The first Ctrl-C or SIGTERM is passed on once, so that they can save themselves, and is waited for; after a second
    one they are killed.

    Args:
        at_once: each gets this share of the cores as threads.
        on_end: called with each job that has ended by itself and its exit code (negative: killed by that signal).
        on_wait: called a few times a second with the names of the jobs that run.
        keep_open: file descriptors that the processes hold too.

    Returns:
        False if it was stopped.
    """
    waiting, running = list(jobs), dict[Job, Process]()
    passed_on = False
    with StopSignal(RUNS_FIRST) as stop:
        try:
            while waiting or running:
                ended = {job: code for job, process in running.items() if (code := process.poll()) is not None}
                running = {job: process for job, process in running.items() if job not in ended}
                while waiting and len(running) < at_once and not stop.asked:
                    job = waiting.pop(0)
                    running[job] = start(job, at_once, keep_open)
                for job, code in ended.items():  # after the next one was started: what is done here takes a moment
                    if not stop.asked or code == 0:
                        on_end(job, code)
                if stop.asked:
                    waiting.clear()
                    if not passed_on:
                        _interrupt(running)
                        passed_on = True
                on_wait([job.name for job in running])
                if running:
                    time.sleep(POLL)
        except KeyboardInterrupt:
            raise  # the second one: no more patience
        except BaseException:
            _interrupt(running)
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and any(process.poll() is None for process in running.values()):
                time.sleep(POLL)
            raise
        finally:
            for process in running.values():
                process.kill()  # nothing, if it has ended
                process.wait()
    return not stop.asked


def failure_reason(log: Path, code: int) -> str:
    """Why a job failed, in one line: its own last words, or the signal that killed it."""
    if code < 0:
        likely = ", probably because memory ran out" if -code == 9 else ""
        return f"was killed by signal {-code}{likely}"
    last = log.read_text(errors="replace").rpartition(f"\n{AGAIN}\n")[2]
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    own = [line.removeprefix("ucseg: ") for line in lines if line.startswith("ucseg: ")]
    return " ".join(own) or (lines or [f"ended with exit code {code} and printed nothing"])[-1]


@contextmanager
def only_one(out: Path) -> Iterator[list[int]]:
    """Hold the comparison's folder; yields descriptors that its cells keep open too: they may outlive this process.

    Raises:
        UserError: another process holds it.
    """
    make_folder(out, "--out")
    held = lock(out)
    if held is None:
        raise UserError(
            "comparison-busy", f"{out}: another 'ucseg compare' or one of its cells runs here; wait or stop it."
        )
    try:
        yield held.descriptors
    finally:
        held.release()


def python(module: str, *words: str) -> list[str]:
    """The command that runs a module with this very interpreter."""
    return [sys.executable, "-m", module, *words]


def start(job: Job, at_once: int, keep_open: Sequence[int]) -> Process:
    """The process of a job, with its share of the cores as threads."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    # A limit of one kind is one of all: torch would take MKL's.
    given = [int(environment[name]) for name in THREADS if environment.get(name, "").isdigit()]
    share = min([max(1, cores() // at_once), *(threads for threads in given if threads)])
    environment.update(dict.fromkeys(THREADS, str(share)))
    with open_to_append(job.log) as log:  # what an earlier start of the job said stays
        if log.tell():
            log.write(f"\n{AGAIN}\n".encode())
            log.flush()
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # In its own session: the terminal's Ctrl-C reaches only this process, which passes it on once.
            start_new_session=os.name == "posix",
            pass_fds=keep_open,
        )


def _interrupt(running: Mapping[Job, Process]) -> None:
    for process in running.values():
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
