"""A server on this machine, with a model that takes what is bright as the foreground, and a small dataset."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_scans import save, volume

sys.path.append(str(Path(__file__).parents[1] / "inference"))  # threshold_run

from threshold_run import make_run, plan_2d, plan_3d

from ucseg.cli.init import init
from ucseg.serving.session import Session

BOUNDARY = "one-boundary"


@dataclass
class Reply:
    """An answer: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Plain HTTP, one connection a call."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {**self.headers, **{key.replace("_", "-"): value for key, value in headers.items()}}
        if isinstance(body, dict):
            body, sent["content-type"] = json.dumps(body), "application/json"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, sent)
        return reply(connection.getresponse())

    def send(self, method: str, path: str, params: Any = None, **files: tuple[str, bytes]) -> Reply:
        """A multipart body: `params` and files, each with its name."""
        return self(
            method, path, multipart(params or {}, **files), content_type=f"multipart/form-data; boundary={BOUNDARY}"
        )


def reply(response: HTTPResponse) -> Reply:
    return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


def multipart(params: Any, **files: tuple[str, bytes]) -> bytes:
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n'.encode()]
    for name, (file, content) in files.items():
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


Served = Callable[..., tuple[Client, Session]]


@pytest.fixture
def packages() -> None:
    """Skips the test where the packages of `ucseg serve` are not installed."""
    for name in ("uvicorn", "starlette", "python_multipart"):
        pytest.importorskip(name, reason="pip install 'ucseg[serve]'")


@pytest.fixture
def served(packages: None) -> Iterator[Served]:
    """Start a server: give it a dataset and a run, and what `make_app` takes."""
    import uvicorn

    from ucseg.serving.app import make_app

    running = []

    def start(data: Path, run: Path, trained: Any = None, **app: Any) -> tuple[Client, Session]:
        session = Session(data, run, predicting={"device": "cpu"}, look_ahead=False, **(trained or {}))
        config = uvicorn.Config(make_app(session, **app), port=0, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        session.start()
        running.append((server, thread, session))
        return Client(server.servers[0].sockets[0].getsockname()[1]), session

    yield start
    for server, thread, session in running:
        server.should_exit = True
        thread.join(20)
        session.close()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A dataset of small pictures, two of six with a mask, and a run."""
    scans = tmp_path / "SCANS"
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.integers(0, 60, (20, 24), np.uint8)
        image[5:12, 6 + number : 16 + number] = 220
        save(scans / "images" / f"case{number}.png", image)
        if number < 2:
            save(scans / "masks" / f"case{number}.png", ((image > 100) * 255).astype(np.uint8))
    init(scans, out=tmp_path / "DATA", validation="0", test="0", labelled=None)
    run = make_run(tmp_path / "RUN", plan_2d(classes={0: "background", 1: "foreground"}), monkeypatch)
    return tmp_path / "DATA", run


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A dataset of small volumes, one of three with a mask, and a run."""
    scans = tmp_path / "SCANS"
    for number in range(3):
        image = np.zeros((18, 17, 16), np.float32)
        image[4:9, 5:11, 3 + number : 9] = 1
        volume(scans / "images" / f"case{number}.nii.gz", image)
        if number == 0:
            volume(scans / "masks" / f"case{number}.nii.gz", image.astype(np.uint8))
    init(scans, out=tmp_path / "DATA", validation="0", test="0")
    plan = plan_3d(spacing=(1.0, 1.0, 3.0), classes={0: "background", 1: "foreground"})
    return tmp_path / "DATA", make_run(tmp_path / "RUN", plan, monkeypatch)
