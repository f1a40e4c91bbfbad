"""Who may ask: hosts, origins, tokens, and how much a body may hold."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from PIL import Image

from refusals import refused
from ucseg.cli import serve as verb
from ucseg.cli.serve import is_loopback, serve
from ucseg.serving.labels import Labels

Data = tuple[Path, Path]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "scanner.example"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost:x"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_hosts_and_origins(served: Any, pictures: Data, headers: dict[str, str], status: int) -> None:
    client, _ = served(*pictures, hosts=["scanner.example"], origins=["http://localhost:3000"])
    reply = client("GET", "/info/", **headers)
    assert reply.status == status
    allowed = reply.headers.get("access-control-allow-origin")
    assert allowed == (headers["Origin"] if headers.get("Origin", "").endswith("3000") else None)
    assert client("OPTIONS", "/train/", Origin="http://localhost:3000").status == 200
    assert "access-control-allow-origin" not in client("OPTIONS", "/train/", Origin="http://evil.example").headers


@pytest.mark.parametrize("number", ["%C2%B2", "9" * 5000, "-1", "1e3", ""])
def test_what_looks_like_a_number_and_is_none(served: Any, pictures: Data, number: str) -> None:
    client, _ = served(*pictures)
    assert client("GET", f"/page/slice?image=case0&index={number}").status == 404
    assert client("GET", f"/logs/?lines={number}").status == 200


def test_a_token_in_letters_that_no_header_holds(served: Any, pictures: Data) -> None:
    client, _ = served(*pictures, token="secret")
    reply = client("GET", "/enter?token=%E6%BC%A2")
    assert (reply.status, reply.headers.get("set-cookie")) == (303, None)
    with refused("serve-token-letters"):
        serve(pictures[1], pictures[0], token="ü" * 20)


def test_without_the_token_nothing_is_said(served: Any, pictures: Data) -> None:
    client, _ = served(*pictures, token="secret")
    paths = ("/", "/info/", "/datastore/", "/datastore/image?image=case0", "/logs/", "/train/", "/auth/token/valid")
    assert [client("GET", path).status for path in paths] == [401] * len(paths)
    assert client("GET", "/info/", Authorization="Bearer wrong").status == 401
    assert client("GET", "/auth/").json["enabled"] is True
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert client("POST", "/auth/token", "username=a&password=wrong", **form).status == 401
    found = client("POST", "/auth/token", "username=a&password=secret&grant_type=password", **form).json
    signed = {"Authorization": f"{found['token_type']} {found['access_token']}"}
    assert client("GET", "/info/", **signed).status == 200
    assert client("POST", "/activelearning/random", {}, **signed).json["path"] == "", "paths stay on this machine"


def test_a_body_has_an_end(served: Any, pictures: Data) -> None:
    client, session = served(*pictures, longest=3000)
    noise = np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    assert client.send("PUT", "/datastore/label?image=case4", {}, label=("x.png", out.getvalue())).status == 413
    pieces = iter([b"x" * 1000] * 5)
    kind = {"content_type": "multipart/form-data; boundary=x", "transfer_encoding": "chunked"}
    chunked = b"".join(b"3e8\r\n" + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
    assert client("PUT", "/datastore/label?image=case4", chunked, **kind).status == 413
    assert session.labels.versions == []


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_small_file_may_not_claim_to_be_large(served: Any, volumes: Data, tmp_path: Path, ending: str) -> None:
    client, _ = served(*volumes)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((100, 100, 100), np.uint8)), str(tmp_path / f"x{ending}"), True)
    content = (tmp_path / f"x{ending}").read_bytes()
    reply = client.send("PUT", "/datastore/label?image=case1", {}, label=(f"x{ending}", content))
    assert (reply.status, reply.json["kind"]) == (400, "upload-large")


def test_a_label_cannot_name_a_file_of_this_machine(served: Any, volumes: Data, tmp_path: Path) -> None:
    client, session = served(*volumes)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(2)) * (18 * 17 * 16 // 2))
    header = (
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 18 17 16\nencoding: raw\nspace: left-posterior-superior\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,3)\nspace origin: (0,0,0)\ndata file: {secret}\n\n"
    )
    reply = client.send("PUT", "/datastore/label?image=case1", {}, label=("x.nrrd", header.encode()))
    assert (reply.status, reply.json["kind"]) == (400, "upload-detached")
    assert session.labels.versions == []


def test_others_need_a_token(
    packages: None, pictures: Data, said: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def stop(session: Any, **options: Any) -> Any:
        made.append(options)
        raise RuntimeError("enough")

    monkeypatch.setattr("ucseg.serving.app.make_app", stop)
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(RuntimeError, match="enough"):
            serve(pictures[1], pictures[0], host=host, port=0)
    assert made[0]["token"] == ""
    assert re.fullmatch(r"[\w-]{32}", made[1]["token"])
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "scanner")] == [
        True
    ] * 3 + [False] * 3
    with refused("serve-token"):
        serve(pictures[1], pictures[0], host="0.0.0.0", port=0, token="short")


def test_a_port_that_is_taken_is_refused(packages: None, pictures: Data) -> None:
    taken = verb._listening("127.0.0.1", 0)
    with taken, refused("serve-port", naming=taken.getsockname()[1]):
        serve(pictures[1], pictures[0], port=taken.getsockname()[1])
    assert not (pictures[0] / "labels").exists()


def test_what_is_missing_is_named(pictures: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with refused("serve-extra", naming="ucseg[serve]"):
        serve(pictures[1], pictures[0])


def test_a_signal_ends_it_well_and_others_get_an_address_that_they_can_use(packages: None, pictures: Data) -> None:
    """Of its process nothing is left that would keep the next server out."""
    heard: list[str] = []
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from ucseg.methods import METHODS\nfrom threshold_run import Threshold\nMETHODS['threshold'] = Threshold\n"
        "from ucseg.cli.main import main\n"
        "main(['serve', sys.argv[1], sys.argv[2], '--host', '0.0.0.0', '--port', '0', '--no-look-ahead'])\n"
    )
    tests = Path(__file__).parents[1]
    words = [sys.executable, "-c", code, str(pictures[1]), str(pictures[0]), str(tests), str(tests / "inference")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            heard.append(line)
            if sum("Slicer" in one for one in heard) == 1 and "Slicer" in line:
                process.terminate()  # once: a signal while the line is printed has it printed again
    assert process.returncode == 0, heard
    address = next(line for line in heard if "browser" in line)
    assert re.search(rf"http://{re.escape(socket.gethostname())}:\d+/enter\?token=[\w-]{{32}}", address)
    Labels(pictures[0]).close()
