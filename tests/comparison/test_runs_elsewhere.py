"""Cells on several workers: each ends once, a worker that dies costs one cell's time since its last save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refusals import refused
from ucseg.comparison import on_ray
from ucseg.comparison.on_ray import Runner, run_on_ray, wait_for
from ucseg.comparison.processes import Job, failure_reason
from ucseg.comparison.slurm import write_array
from ucseg.inference.on_ray import cluster
from ucseg.machine.lock import lock

NAMES = ("a", "b", "fails", "kills_its_worker")
HERE = Path(__file__).parent


def jobs(out: Path, names: tuple[str, ...] = NAMES) -> list[Job]:
    made = []
    for name in names:
        task = json.dumps({"name": name, "out": str(out), "caller": os.getpid()})
        command = [sys.executable, "-m", "on_this_machine", task]
        made.append(Job(name, command, out / "logs" / f"{name}.log", out / "runs" / name))
    return made


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    pytest.importorskip("ray", reason="the extra ucseg[ray] is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        with cluster("local", 2) as ray:
            yield ray


def ran(ray: Any, out: Path, names: tuple[str, ...]) -> tuple[bool, list[tuple[str, int]], list[str]]:
    (out / "plan.yaml").write_text("")
    ended: list[tuple[str, int]] = []
    told: list[str] = []
    whole = run_on_ray(
        ray,
        out,
        jobs(out, names),
        lambda job, code: ended.append((job.name, code)),
        lambda running: None,
        lambda kind, text: told.append(kind),
        device="cpu",
        workers=2,
    )
    return whole, ended, told


def test_each_run_ends_once_and_that_of_a_worker_that_dies_goes_on_elsewhere(two_workers: Any, tmp_path: Path) -> None:
    whole, ended, told = ran(two_workers, tmp_path, NAMES)
    assert whole
    assert sorted(ended) == [("a", 0), ("b", 0), ("fails", 3), ("kills_its_worker", 0)]
    assert told.count("worker-died") == 1
    assert (tmp_path / "kills_its_worker.done").read_text() == "half", "what it had saved is used"
    assert failure_reason(tmp_path / "logs" / "fails.log", 3).startswith("fails"), "logs are where others are"


def test_a_stop_lets_the_running_cell_save_and_starts_no_other(two_workers: Any, tmp_path: Path) -> None:
    whole, ended, _ = ran(two_workers, tmp_path, ("waits", "stops", "a"))
    assert not whole
    assert not ended, "stopped is not failed"
    assert {file.name for file in tmp_path.glob("*.*")} == {"plan.yaml", "waits.saved", "stops.saved"}


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    with refused("compare-ray-folder", naming=tmp_path / "elsewhere"):
        Runner(tmp_path / "elsewhere").load()


def test_a_run_waits_until_the_process_of_a_dead_worker_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "POLL", 0.02)
    held = lock(tmp_path)
    assert held is not None
    freed: list[float] = []

    def free() -> None:
        time.sleep(0.1)
        freed.append(time.monotonic())
        held.release()

    thread = threading.Thread(target=free)
    thread.start()
    wait_for(tmp_path)
    assert freed and time.monotonic() >= freed[0]
    thread.join()
    wait_for(tmp_path / "not there yet")


@pytest.mark.skipif(os.name != "posix", reason="SLURM runs on systems with bash")
def test_the_array_job_runs_each_cell_by_its_number_and_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    out = tmp_path / "it's a folder"
    out.mkdir()
    script = write_array(out, jobs(out, ("a", "fails")))
    assert "#SBATCH --array=0-1\n" in script.read_text()
    for number, code in ((0, 0), (1, 3), (1, 3)):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
        assert subprocess.run(["bash", script], check=False).returncode == code
    assert (out / "logs" / "a.log").read_text() == "a 2\n"
    assert (out / "logs" / "fails.log").read_text().splitlines() == ["fails 2", "", "--- started again", "fails 2"]
    assert (out / "a.done").exists()
