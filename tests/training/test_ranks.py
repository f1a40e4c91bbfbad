"""Two processes that share a batch do what one does with all of it, stop together, and end when one of them dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from joined import by_srun
from shared_batches import JOBS, PATCH, Outcome, batch, be_killed, piece, together, updates
from test_resume import assert_same_run

from refusals import refused
from ucseg.cli.launch import Lost, _outcome, launch
from ucseg.errors import Interrupted, UserError
from ucseg.methods import build_method
from ucseg.training.checkpoint import State
from ucseg.training.device import make_fabric
from ucseg.training.optim import learning_rate
from ucseg.training.run_folder import RunFolder
from ucseg.types import Problem, Progress


@pytest.fixture(scope="module")
def from_one_import(forkserver: BaseContext) -> Iterator[BaseContext]:
    """Processes of `launch`, too, are forked from one that has imported what they need.

    `train --devices 2` is tested with processes as they are for users.
    """
    spawn = import_module("torch.multiprocessing.spawn")  # the package has a function of this name
    start = spawn.start_processes

    def forked(*given: Any, **more: Any) -> Any:
        return start(*given, **{**more, "start_method": "forkserver"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spawn, "start_processes", forked)
        yield forkserver


@pytest.fixture(scope="module")
def shared(from_one_import: BaseContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    launch(partial(together, folder), 2, 1, "cpu")
    return folder


@pytest.mark.parametrize("number", range(len(JOBS)), ids=[f"{job[0]}-{job[1]}" for job in JOBS])
def test_two_processes_are_one_with_the_whole_batch(shared: Path, number: int) -> None:
    """All that differs is the order of float32 sums.

    It is of the size of 1e-7 in the terms and grows from step to step, in 3D most: the instance norms of the lowest
    level, which has two voxels here, amplify it.
    """
    two: Outcome = torch.load(shared / "outcomes.pt")[number]
    one = updates(*JOBS[number])
    for figures, others in zip(one[1], two[1], strict=True):
        norm, other = figures.pop("gradient norm"), others.pop("gradient norm")
        assert other == pytest.approx(norm, rel=1e-2)
        assert others == pytest.approx(figures, rel=1e-4, abs=1e-6)
    start, _ = updates(*JOBS[number][:4], steps=0)
    for state, tolerance in ((lambda key: "memories" not in key, 1e-2), (lambda key: "memories" in key, 5e-2)):
        keys = [key for key, value in start.items() if state(key) and value.is_floating_point() and value.numel()]
        if keys:
            moved, apart = (
                sum(float((a[key] - b[key]).square().sum()) for key in keys) ** 0.5
                for a, b in ((start, one[0]), (one[0], two[0]))
            )
            assert apart < tolerance * moved
    counters = [key for key, value in start.items() if not value.is_floating_point()]
    assert all(torch.equal(one[0][key], two[0][key]) for key in counters)
    if JOBS[number][0] == "uc_seg":
        assert all(int(one[0][key].sum()) for key in counters if key.endswith("written"))


def test_ctrl_c_on_one_process_stops_all_and_the_run_goes_on_bit_identical(shared: Path) -> None:
    assert_same_run(shared / "whole", shared / "stopped")


def test_a_loss_that_is_not_finite_on_one_process_saves_nothing_of_the_step(shared: Path) -> None:
    state = State.load(shared / "failed/state.safetensors")
    assert state.step == 2
    assert all(torch.isfinite(value).all() for value in state.weights.values())
    assert [line["step"] for line in RunFolder(shared / "failed").metrics()] == [1, 2]


def test_a_script_without_a_guard_hears_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('from ucseg.cli.launch import launch\nlaunch(print, 2, 1, "cpu")\n')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1  # the script's own
    assert "if __name__ == '__main__':" in done.stderr


def test_a_killed_process_ends_the_others_and_is_named(from_one_import: BaseContext) -> None:
    with refused("process-killed", naming=["process 1", "signal 9", "--resume"]):
        launch(be_killed, 2, 1, "cpu")


def test_the_error_of_the_process_that_failed_first_hand_is_reported() -> None:
    lost, own, stop = Lost("lost", "lost"), UserError("own", "own"), Interrupted("stop")
    assert _outcome({0: "result"}, [0, 0]) == "result"
    for said, codes, error in (
        ({0: lost, 1: own}, [2, 2], own),
        ({0: stop, 1: stop}, [0, 0], stop),
        ({0: lost}, [2, 0], lost),
    ):
        with pytest.raises(type(error), match=str(error)):
            _outcome(said, codes)
    with pytest.raises(KeyboardInterrupt):
        _outcome({}, [0, 0])


@pytest.mark.parametrize(
    ("words", "variables", "kind", "names"),
    [
        ((2, 2, "cpu"), {}, "nodes-not-started", ["--nodes 2"]),
        (
            (2, 1, "cpu"),
            {"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"},
            "processes-number",
            ["4 processes", "--devices 2"],
        ),
        ((2, 1, "cuda:1"), {}, "devices-kind", ["cuda:1"]),
        ((2, 1, "cpu"), {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}, "srun-ntasks", ["--ntasks-per-node"]),
    ],
)
def test_what_cannot_be_launched(
    words: tuple[int, int, str], variables: dict[str, str], kind: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with refused(kind, naming=names):
        launch(lambda: None, *words)


def test_one_process_in_a_job_of_several_tasks_looks_for_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch script with --ntasks 2 sees these variables, and `ucseg train` in it without srun is one process."""
    for name, value in {"NTASKS": "2", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert make_fabric(torch.device("cpu"), "fp32").world_size == 1


def test_processes_that_torchrun_or_srun_began_find_each_other(forkserver: BaseContext) -> None:
    """torchrun: two processes of one machine; srun, by its variables: one on each of two."""
    slurm = {"JOB_ID": str(20000 + os.getpid() % 10000), "NTASKS": "2", "STEP_NUM_TASKS": "2", "NNODES": "2"}
    slurm |= {"NTASKS_PER_NODE": "1", "LOCALID": "0", "NODELIST": "localhost,other", "JOB_NODELIST": "localhost,other"}
    script = str(Path(__file__).parent / "joined.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, "2", "1"]
    with ProcessPoolExecutor(2, forkserver) as processes:
        of_srun = [processes.submit(by_srun, slurm | {"PROCID": rank, "NODEID": rank}) for rank in "01"]
        done = subprocess.run(torchrun, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
        assert done.stdout.count("[0, 1]") == 2
        assert [one.result(timeout=900) for one in of_srun] == [[0, 1]] * 2


def test_accumulated_gradients_are_the_mean_over_the_smaller_batches() -> None:
    settings = {"networks": ["vnet"]}
    whole, _ = updates("supervised", 2, settings, 4, steps=1, accumulate=2)
    problem = Problem(2, 1, 3, PATCH[2], (8, 8))
    torch.manual_seed(0)
    method = build_method("supervised", settings, problem)
    optimizer = torch.optim.SGD(method.parameters(), lr=learning_rate(0.02, "linear", 50, 100), weight_decay=1e-5)
    images = batch({}, problem, 4, 50)
    for part in (0, 1):
        method.step(piece(images, part, 2), Progress(50, 100, part=part)).loss.div(2).backward()
    torch.nn.utils.clip_grad_norm_(method.parameters(), 12.0)
    optimizer.step()
    for name, value in method.state_dict().items():
        assert torch.allclose(whole[name], value, rtol=1e-4, atol=1e-7), name
