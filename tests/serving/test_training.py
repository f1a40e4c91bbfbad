"""Trainings that a client starts: from the current weights, with today's labels; stopped, killed, and gone on with."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.demonstration.scans import draw_dataset
from ucseg.serving.training import Trainings
from ucseg.training.run_folder import RunFolder

Data = tuple[Path, Path]
SMALL = ["workers=0", "plan.encoder=null", "plan.labelled_batch=1", "plan.unlabelled_batch=1", "plan.width=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A dataset of drawn images, most without a mask, and a run of two steps."""
    import ucseg

    folder = tmp_path_factory.mktemp("trained")
    draw_dataset(folder / "SCANS", "ultrasound", 6, (32, 32), 0)
    for number in range(3, 6):
        (folder / "SCANS" / "masks" / f"synthetic{number:03d}.png").unlink()
    ucseg.init(folder / "SCANS", out=folder / "DATA", modality="ultrasound", validation="1", test="0")
    ucseg.train(folder / "DATA", out=folder / "RUN", method="supervised", steps=2, set=SMALL)
    return folder / "DATA", folder / "RUN"


@pytest.fixture
def data(trained: Data, tmp_path: Path) -> Data:
    """A copy of the dataset of its own for each test."""
    made = tmp_path / "DATA"
    made.mkdir()
    (made / "cases.csv").write_bytes((trained[0] / "cases.csv").read_bytes())
    text = (trained[0] / "dataset.yaml").read_text()
    root = next(line for line in text.splitlines() if line.startswith("root:"))
    (made / "dataset.yaml").write_text(text.replace(root, f"root: {trained[0].parent / 'SCANS'}"))
    return made, trained[1]


def wait(until: Callable[[], Any], seconds: float = 480) -> Any:
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    return found


def test_a_training_starts_from_the_weights_and_its_weights_answer(served: Any, data: Data) -> None:
    folder, run = data
    client, session = served(*data, trained={"steps": 2, "settings": ["workers=0"]})
    out = io.BytesIO()
    Image.fromarray(np.pad(np.ones((8, 8), np.uint8), 12)).save(out, "PNG")
    before = session.model.origin
    case = session.dataset.unlabelled[0].case
    client.send("PUT", f"/datastore/label?image={case}", {}, label=("x.png", out.getvalue()))
    first = client("POST", "/train/ucseg", {"client_id": "a", "name": "ucseg"}).json
    again = client("POST", "/train/", {}).json
    assert first["status"] in ("SUBMITTED", "RUNNING")
    assert int(again["id"]) - int(first["id"]) in (0, 1), "a second one waits, or is the one that waits"
    session.trainings.jobs[1:] = []
    wait(lambda: client("GET", "/train/?check_if_running=true").status == 404)
    status = client("GET", "/train/").json
    assert (status["status"], status["id"]) == ("DONE", "0001"), status
    assert status["details"]
    config = RunFolder(folder / "trainings" / "0001" / "run").config
    assert config["init"]["file"] == str(run / "last.safetensors")
    assert case in config["cases"]["labelled"]
    assert config["method"] == RunFolder(run).config["method"]
    assert session.model.origin != before
    assert client("GET", "/info/").json["train_stats"]["ucseg"]["epoch"] == 2
    assert Trainings(folder, run.absolute()).current == folder / "trainings" / "0001" / "run"
    assert Trainings(folder, folder / "OTHER").current == folder / "OTHER"


def test_a_training_keeps_its_place_when_the_server_ends(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second process only waits: what `ucseg train --resume` does is tested there."""
    folder, run = data
    first = Trainings(folder, run.absolute(), ["workers=0", "log_every=1", "save_every=0"], steps=3000)
    first.start()
    first.submit({})
    wait(lambda: first.progress().get("step", 0) > 1)
    first.close()
    assert json.loads((folder / "trainings" / "0001" / "job.json").read_text())["status"] == "RUNNING"
    saved = RunFolder(folder / "trainings" / "0001" / "run")
    assert saved.unfinished
    assert first.progress()["step"] > 1
    second = Trainings(folder, run.absolute())
    assert second.running is not None
    started, words = [], second._words
    monkeypatch.setattr(second, "_words", lambda *given: started.append(words(*given)) or ["sleep", "600"])
    second.start()
    wait(lambda: second._process is not None)
    assert [one[-1] for one in started] == ["--resume"]
    assert str(saved.path) in started[0]
    assert second.stop()["id"] == "0001"
    wait(lambda: second._process is None)
    assert second.last["status"] == "STOPPED"
    second.close()
    third = Trainings(folder, run.absolute())
    assert third.submit({})["id"] == "0001", "no label has come: it goes on"
    third.stop()
    old, new = (f"images/synthetic005.png,{mask}," for mask in ("", "masks/synthetic000.png"))
    table = folder / "cases.csv"
    table.write_text(table.read_text().replace(old, new))
    assert third.submit({})["id"] == "0002", "the labels have changed"


def test_a_training_of_a_killed_server_is_waited_for(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process may live on: two may not train in one folder."""
    folder, run = data
    first = Trainings(folder, run.absolute())
    first.submit({})
    home = folder / "trainings" / "0001"
    held = RunFolder(home / "run")
    held.hold()
    first.jobs[0]["status"] = "RUNNING"
    started: list[list[str]] = []
    monkeypatch.setattr(first, "_words", lambda *given: started.append([]) or ["false"])
    first.start()
    time.sleep(0.2)
    assert not started
    held.let_go()
    wait(lambda: started)
    wait(lambda: first.jobs[0]["status"] == "ERROR")
    first.close()


def test_what_goes_wrong_in_a_training_is_kept(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = data
    trainings = Trainings(folder, run.absolute(), ["nonsense=1"])
    words = trainings._words

    def failing(*given: Any) -> list[str]:
        """A process that says its settings and fails, as `ucseg train` does, which takes seconds to begin."""
        return ["bash", "-c", f"echo 'ucseg: no {words(*given)[-1]}' >&2; exit 2"]

    monkeypatch.setattr(trainings, "_words", failing)
    trainings.start()
    trainings.submit({})
    wait(lambda: trainings.jobs[0]["status"] == "ERROR")
    assert "no nonsense=1" in trainings.last["error"]
    assert trainings.current == run.absolute()
    with refused("train-steps", naming="0"):
        trainings.submit({"steps": 0})
    trainings.close()


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"id": 1, "status": "RUNNING", "request": {}},
        {"id": "../0001", "status": "SUBMITTED", "request": {}},
        {"id": "0001", "status": "?", "request": {}},
        {"id": "0001", "status": "DONE", "request": []},
        {"id": "0001", "status": "DONE", "request": {}, "init": 1},
    ],
)
def test_a_note_that_ucseg_did_not_write(tmp_path: Path, note: dict[str, Any]) -> None:
    file = tmp_path / "trainings" / "0001" / "job.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(note))
    with refused("training-note", naming=["job.json"]):
        Trainings(tmp_path, tmp_path / "RUN")


def test_progress_passes_over_damaged_lines(tmp_path: Path) -> None:
    run = tmp_path / "trainings" / "0001" / "run"
    run.mkdir(parents=True)
    (run.parent / "job.json").write_text(json.dumps({"id": "0001", "status": "DONE", "request": {}}))
    lines = ["[1]", '{"step": null}', '{"validation": null}', '{"step": 7, "validation": {"dice": 0.5}}', '{"st']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    progress = Trainings(tmp_path, tmp_path / "RUN").progress()
    assert (progress["step"], progress["best"]) == (7, 0.5)
