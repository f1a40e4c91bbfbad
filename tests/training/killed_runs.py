"""Kills training runs with SIGKILL, again and again until they get through, and counts how often it did.

FOLDER/whole is one run without a stop, FOLDER/killed the other. Half of the kills come at a random time, from outside.
The others come just before or just after a counted call of fsync or replace: in the middle of saving. Runs are forked,
so that all they import is loaded once; nothing may be computed before in the process that does it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tiny import batches, train

from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.types import Batch

STEPS = 18
AHEAD = 2
"""Steps that a run makes at most before its kill from outside; then it waits for it, however busy the machine is."""


def forked(work: Callable[[], None]) -> int:
    """Process id of a child that does `work`."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def die_at(call: int, after: bool) -> None:
    """Let this process kill itself at the `call`-th fsync or replace."""
    count = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == call and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments)
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    os.fsync, os.replace = dying(os.fsync), dying(os.replace)


def killed(folder: Path, precision: str) -> dict[str, Any]:
    """Both runs of one precision: {"kills": n, "at": [steps saved at each kill]}."""
    config = TrainConfig(
        steps=STEPS, precision=precision, save_every=0, log_every=1, ema=0.9, device="cpu", validate_every=5
    )  # type: ignore[arg-type]
    assert _wait(forked(lambda: _go(folder / "whole", config, batches()))) == 0
    rng = random.Random(0)
    at = []
    while True:
        by_count = len(at) % 2 == 0
        call, after = rng.randint(1, 14), rng.random() < 0.5

        def work(by_count: bool = by_count, call: int = call, after: bool = after) -> None:
            if by_count:
                die_at(call, after)
            _go(folder / "killed", config, batches() if by_count else waiting)

        child = forked(work)
        code = _wait(child) if by_count else _kill_from_outside(child, folder / "killed", rng.uniform(0.0, 0.01))
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"the run failed by itself: {code}"
        at.append(_saved(folder / "killed"))
    return {"kills": len(at), "at": at}


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_from_outside(child: int, folder: Path, delay: float) -> int:
    """Kill a run `delay` seconds after it saved for the first time, so that it comes on at every kill."""
    state, started = RunFolder(folder).state_file, time.time_ns()
    while not (state.exists() and state.stat().st_mtime_ns > started):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return _wait(child)


def waiting(start: int) -> Iterator[Batch]:
    """Batches of the next steps; then this process waits to be killed, unless the run ends first."""
    for step, batch in enumerate(batches()(start), start):
        if step == start + AHEAD:
            signal.pause()
        yield batch


def _go(folder: Path, config: TrainConfig, loader: Any) -> None:
    train(folder, config, loader=loader, resume=RunFolder(folder).started)


def _saved(folder: Path) -> int:
    state = RunFolder(folder).state_file
    if not state.exists():
        return 0
    with safe_open(state, "pt") as file:
        return int(json.loads(file.metadata()["ucseg"])["step"])
