"""Scans shared between workers: each is done, and once, whatever happens to the workers and to their caller."""

from __future__ import annotations

import csv
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deadly_scans import CALLER, LOG, deadly_from_run, log
from PIL import Image
from threshold_run import make_run, plan_2d

from refusals import refused
from ucseg.cli.main import main
from ucseg.cli.predict import predict
from ucseg.errors import UserError
from ucseg.inference.on_ray import Crew, Worker, cluster, share
from ucseg.inference.outputs import CaseFiles
from ucseg.inference.predictor import Predictor
from ucseg.training.checkpoint import save_weights
from ucseg.training.run_folder import RunFolder

NAMES = ("asks_to_stop", "awaits_others", "c", "d", "e", "f", "g", "h", "i", "kills_always", "kills_once")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    values = np.random.default_rng(1).integers(0, 255, (len(NAMES), 40, 30), np.uint8)
    for name, image in zip(NAMES, values, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    whole = (folder / "c.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster with room for two, in which scans are deadly."""
    pytest.importorskip("ray", reason="the extra ucseg[ray] is not installed")
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    monkeypatch.setenv(CALLER, str(os.getpid()))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    with cluster("local", 2):
        monkeypatch.setattr(Predictor, "from_run", deadly_from_run)
        yield


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.suffix not in (".csv", ".json")
    }


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["predict", *map(str, words)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_no_case_is_lost_and_none_done_twice(
    run: Path,
    scans: Path,
    tmp_path: Path,
    two_workers: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C while one worker is at its first scan, then --resume with two, of which scans kill three by SIGKILL."""
    monkeypatch.setattr("ucseg.inference.on_ray.ATTEMPTS", 2)  # a worker takes seconds to begin
    out, plain = tmp_path / "out", tmp_path / "plain"
    words = [run, scans, "--out", out, "--device", "cpu", "--members", "--ray", "auto"]
    assert command(*words, "--workers", 1) == 130
    assert f"1 of {len(NAMES) + 1} cases" in capsys.readouterr().err
    assert set(table(out)) == {"asks_to_stop"}, "what was under way is finished and kept"

    assert command(*words, "--workers", 2, "--resume") == 2
    said = capsys.readouterr().err
    assert f"2 of {len(NAMES) + 1} scans" in said
    assert Counter(name for name, _ in log()) == Counter(NAMES) + Counter(kills_once=1, kills_always=1)
    rows = table(out)
    assert "2 workers" in rows["kills_always"]["reason"]
    assert rows["kills_always"]["reason"] in said
    assert str(scans / "kills_always.png") in rows["kills_always"]["reason"]

    alone = [path for path in sorted(scans.iterdir()) if path.stem != "kills_always"]
    monkeypatch.undo()
    make_run(tmp_path / "again", plan_2d(), monkeypatch)  # knows the method here
    with refused("scans-failed", naming="1 of 11"):
        predict(run, alone, out=plain, device="cpu", members=True)
    assert files(out) == files(plain)
    del rows["kills_always"]
    assert list(rows.items()) == list(table(plain).items())


def test_a_worker_refuses_weights_and_folders_that_are_not_the_callers(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError):
        predict(run, [scans], out=out, device="cpu")  # one scan is broken
    make = partial(Predictor.from_run, run, device="cpu")
    weights = make().weights
    where = CaseFiles(out, plan_2d())
    Worker(make, weights, where).load()
    with refused("ray-folder", naming=tmp_path / "elsewhere"):
        Worker(make, weights, CaseFiles(tmp_path / "elsewhere", plan_2d())).load()
    method = make().method
    with torch.no_grad():
        next(method.parameters()).add_(1)
    save_weights(RunFolder(run), "last", method.state_dict(), {"step": 2})
    with refused("ray-weights", naming="--out"):
        Worker(make, weights, where).load()


def test_a_gpu_for_each_worker_and_else_ashare_of_the_cores() -> None:
    def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in resources]

    def shared(*arguments: Any) -> tuple[int, int, int]:
        number, options = share(*arguments)
        return number, options["num_cpus"], options["num_gpus"]

    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    assert shared([*nodes({"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}), gone], "GPU", None, 100) == (4, 4, 1)
    assert shared(nodes({"CPU": 16.0}, {"CPU": 16.0}), "CPU", None, 100) == (8, 4, 0)
    assert shared(nodes({"CPU": 16.0}, {"CPU": 16.0}), "CPU", 3, 100) == (3, 8, 0)
    assert shared(nodes({"CPU": 2.0}), "CPU", None, 100) == (2, 1, 0)
    assert shared(nodes({"CPU": 8.0}), "CPU", None, 1) == (1, 8, 0)
    assert shared(nodes({"CPU": 2.0}), "CPU", 8, 100) == (8, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers"),
        (["--ray", "local", "--device", "cuda:1"], "--device cuda:1"),
        (["--ray", "local"], 'pip install "ucseg[ray]"'),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    run: Path,
    scans: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert command(run, scans, "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_address_where_nothing_answers_is_said_at_once() -> None:
    """Ray itself asks again for minutes, in which Ctrl-C does nothing."""
    pytest.importorskip("ray", reason="the extra ucseg[ray] is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with refused("ray-unreachable", naming=f"--ray {address}"), cluster(address):
            pass


def test_a_cluster_that_answers_but_wants_its_token_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_given: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")  # all that Ray says of a wrong token

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with refused("ray-refused", naming=[f"--ray {address}", "RAY_AUTH_TOKEN"]), cluster(address):
            pass


def test_a_cluster_that_has_lost_all_its_machines_is_not_waited_for() -> None:
    lost = SimpleNamespace(wait=lambda answers, timeout: ([], answers), nodes=lambda: [{"Alive": False}])
    with refused("ray-gone", naming="--resume"):
        list(Crew(lost, lambda: None, lambda kind, text: None).ended())


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without looking for one: that of a test in another process would be found."""
    ray = pytest.importorskip("ray", reason="the extra ucseg[ray] is not installed")

    def init(address: str, **_: Any) -> None:
        raise ConnectionError(f"no running Ray instance at {address}")

    monkeypatch.setattr(ray, "init", init)
    with (
        refused("ray-unreachable", naming=["--ray auto", "--ray local", "no running Ray instance"]),
        cluster("auto"),
    ):
        pass
