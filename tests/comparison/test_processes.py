"""Processes of a grid: one that fails ends only itself, a stop is passed on once, nobody works in the same folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refusals import refused
from ucseg.comparison import processes
from ucseg.comparison.grid import Cell, Variant
from ucseg.comparison.processes import Job, failure_reason, only_one, run_jobs
from ucseg.comparison.progress import cells_done, seconds_left, training_so_far


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLL", 0.02)


def job(folder: Path, name: str, script: str) -> Job:
    return Job(name, [sys.executable, "-S", "-E", "-c", script], folder / "logs" / f"{name}.log")


def test_a_failure_ends_only_itself_and_its_reason_is_known(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "good", "print('fine')"),
        job(tmp_path, "wrong", "print('ucseg: not finite.'); print('later'); raise SystemExit(2)"),
        job(tmp_path, "broken", "raise ValueError('a defect')"),
        job(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)"),
        job(tmp_path, "last", "print('fine')"),
    ]
    ended: dict[str, int] = {}
    assert run_jobs(jobs, 2, lambda one, code: ended.update({one.name: code}))
    assert ended == {"good": 0, "wrong": 2, "broken": 1, "killed": -9, "last": 0}
    reasons = {one.name: failure_reason(one.log, ended[one.name]) for one in jobs}
    assert reasons["wrong"] == "not finite."
    assert reasons["broken"] == "ValueError: a defect"
    assert "signal 9" in reasons["killed"]
    assert "memory" in reasons["killed"]


def test_what_an_earlier_start_said_stays_in_the_log_and_is_not_the_reason_of_a_later_failure(tmp_path: Path) -> None:
    for said in ("the first mistake", "the second mistake"):
        one = job(tmp_path, "one", f"print('ucseg: {said}.'); raise SystemExit(2)")
        run_jobs([one], 1, lambda *_: None)
    assert "the first mistake" in one.log.read_text()
    assert failure_reason(one.log, 2) == "the second mistake."


def test_no_more_run_at_once_than_asked_and_each_has_its_share_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in processes.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    seen: list[int] = []
    script = "import os, time; print(os.environ['OMP_NUM_THREADS']); time.sleep(0.1)"
    jobs = [job(tmp_path, str(number), script) for number in range(5)]
    run_jobs(jobs, 2, lambda one, code: None, lambda running: seen.append(len(running)))
    assert max(seen) == 2
    assert {one.log.read_text().strip() for one in jobs} == {"4"}


def test_a_limit_on_threads_holds_for_every_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch goes by MKL's number: a run that was to have one thread would have as many as there are cores."""
    monkeypatch.setattr(processes, "cores", lambda: 8)
    for name in processes.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = job(tmp_path, "one", f"import os; print(*(os.environ[name] for name in {processes.THREADS}))")
    run_jobs([one], 1, lambda one, code: None)
    assert one.log.read_text().strip() == "1 1 1"


def test_a_stop_is_passed_on_once_and_waited_for(tmp_path: Path) -> None:
    saving = """
import signal, time
def stop(number, frame):
    print("asked", flush=True); time.sleep(0.2); print("saved", flush=True); raise SystemExit(130)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(30)
"""
    jobs = [job(tmp_path, "first", saving), job(tmp_path, "second", "print('never')")]
    ended: list[str] = []
    stopped = False

    def wait(running: list[str]) -> None:
        nonlocal stopped
        if not stopped and jobs[0].log.exists() and "ready" in jobs[0].log.read_text():
            stopped = True
            signal.raise_signal(signal.SIGINT)

    assert not run_jobs(jobs, 1, lambda one, code: ended.append(one.name), wait)
    assert jobs[0].log.read_text().split() == ["ready", "asked", "saved"]
    assert not jobs[1].log.exists()
    assert ended == []  # stopped is not failed


def test_a_cell_stops_when_its_comparison_is_killed(tmp_path: Path) -> None:
    cell = """
import sys, time
import ucseg.comparison.cell as own
from pathlib import Path
from ucseg.cli import compare_cell
compare_cell.LOOK = 0.05
def work(task, train):
    Path("started").touch()
    time.sleep(60)
own.Task, own.run_cell = dict, work
code = compare_cell.run("{}")
Path("part").write_text(str(code))
Path("part").rename("ended")
"""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {cell!r}])"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, stderr=log) as comparison,
    ):
        assert within(60, (tmp_path / "started").exists)
        comparison.kill()
    assert within(20, (tmp_path / "ended").exists)
    assert (tmp_path / "ended").read_text() == "130"  # as on Ctrl-C, after which training has saved itself
    assert "command of the comparison" in (tmp_path / "log").read_text()  # not `ucseg train`


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_two_comparisons_in_one_folder_are_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), refused("comparison-busy", naming=tmp_path), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_files_that_are_links_are_neither_emptied_nor_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out").mkdir()
    for name in (".lock", "job.log"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    with refused("file-not-opened", naming=[tmp_path / "out/.lock", "link"]), only_one(tmp_path / "out"):
        pass
    job = Job("job", [sys.executable, "-c", "print('said')"], tmp_path / "out/job.log")
    with refused("file-not-opened", naming=[job.log, "link"]):
        run_jobs([job], 1, lambda job, code: None)
    assert (tmp_path / "precious").read_text() == "kept"


def test_time_left_counts_what_each_variant_takes(tmp_path: Path) -> None:
    slow, fast, new = (Variant(name, name) for name in ("slow", "fast", "new"))
    done = {
        Cell(slow, "5%", 0): {"training": {"seconds": 90.0}, "evaluation_seconds": 10.0},
        Cell(fast, "5%", 0): {"training": {"seconds": 20.0}, "evaluation_seconds": 0.0},
    }
    running = {Cell(slow, "10%", 0): (0.5, 40.0)}
    waiting = [Cell(fast, "10%", 0), Cell(new, "5%", 0)]
    assert seconds_left(waiting, running, done, 1) == pytest.approx(20 + 60 + 50)
    assert seconds_left([], running, {}, 1) == pytest.approx(40)
    assert seconds_left(waiting, {}, {}, 1) is None
    assert cells_done(2, running) == 2.5
    assert training_so_far(tmp_path, 100) == (0, 0)
    lines = ['{"step": 10, "seconds": 4.5}'] * 500 + ['{"step": 20, "seconds": 9.0}', '{"step": 3']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert training_so_far(tmp_path, 100) == (0.2, 9)
    (tmp_path / "metrics.jsonl").write_text('{"step": 20, "seconds": 9.0, "work": 15.0}\n')
    assert training_so_far(tmp_path, 60, "work") == (0.25, 9)
