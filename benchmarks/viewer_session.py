"""A session of `ucseg serve` with a client that others wrote: MONAI Label's, which its plug-in for 3D Slicer uses.

    python -m venv CLIENT
    CLIENT/bin/pip install requests
    CLIENT/bin/pip install --no-deps monailabel==0.8.5
    python benchmarks/viewer_session.py --client CLIENT/bin/python --session NAME RUN DATA

The client uses `cgi`, so it needs Python 3.11 or 3.12. Of each dataset a few cases are served, from a copy of its
tables. One expert goes through what the plug-in does; then four save at once, an upload breaks off, and the server is
killed while four save. After each of these, every label that the server had confirmed is read back and compared.
Writes benchmarks/results/viewer_session.json: each call with its answer, and what was compared.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HEADER = 352
"""Bytes of a NIfTI before its voxels."""
CLIENTS = 4
BEFORE_THE_KILL = 10
"""Labels that are confirmed when the server is killed; more are on their way."""


# ------------------------------------------------------------------------------------ in the client's environment


def corrected(file: str, voxel: int) -> str:
    """A copy of a mask (.nii.gz of bytes) in which one voxel is of class 1."""
    content = bytearray(gzip.decompress(Path(file).read_bytes()))
    content[HEADER + voxel % (len(content) - HEADER)] = 1
    out = Path(file).with_name(
        f"{Path(file).name.partition('.')[0].partition('-corrected')[0]}-corrected{voxel}.nii.gz"
    )
    out.write_bytes(gzip.compress(bytes(content), 1))
    return str(out)


def voxels_of(file: str) -> str:
    content = Path(file).read_bytes()
    plain = gzip.decompress(content) if file.endswith(".gz") else content
    return hashlib.blake2b(plain[HEADER:], digest_size=8).hexdigest()


class Expert:
    """One client; every call is printed as a line of JSON."""

    lock = threading.Lock()

    def __init__(self, url: str, name: str, folder: str) -> None:
        from monailabel.client import MONAILabelClient

        home = Path(folder) / name
        home.mkdir(parents=True, exist_ok=True)
        self.name, self.client = name, MONAILabelClient(url, str(home), name)

    def call(self, what: str, *given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            answer = getattr(self.client, what)(*given, **named)
        except Exception as error:  # the client's own kinds and those of sockets: all are the answer
            self.note(what, given, named, start, error=f"{type(error).__name__}: {getattr(error, 'msg', error)}")
            raise
        self.note(what, given, named, start, answer=answer)
        return answer

    def note(self, what: str, given: Any, named: Any, start: float, **found: Any) -> None:
        line = {"expert": self.name, "call": what, "given": [*given, named], "seconds": time.perf_counter() - start}
        with self.lock:
            print(json.dumps({**line, **found}), flush=True)


def as_plug_in(url: str, folder: str, steps: int) -> None:
    """What the module in 3D Slicer calls, in its order; and a training."""
    expert = Expert(url, "expert", folder)
    expert.call("auth_enabled")
    info = expert.call("info")
    sample = expert.call("next_sample", next(iter(info["strategies"])), {})
    expert.call("datastore")
    image = sample["id"]
    expert.call("infer", "ucseg", image, {"result_extension": ".nrrd", "result_dtype": "uint8"})
    mask, _ = expert.call("infer", "ucseg", image, {"result_extension": ".nii.gz", "result_dtype": "uint8"})
    segments = [{"name": name, "idx": number} for number, name in enumerate(info["labels"], start=1)]
    for voxel in (1000, 2000):  # a second, better version
        expert.call("save_label", image, corrected(mask, voxel), params={"label_info": segments})
    expert.call("download_label", image, "final")
    for wrong in (("no such image", mask), (image, __file__)):
        try:
            expert.call("save_label", *wrong, params={"label_info": segments})
        except Exception as error:  # it is printed already
            print(json.dumps({"refused": type(error).__name__}), flush=True)
    expert.call("train_start", "ucseg", {"steps": steps})
    while expert.client.train_status(check_if_running=True):
        time.sleep(1)
    expert.call("train_status")
    expert.call("infer", "ucseg", image, {"result_extension": ".nrrd"})
    expert.call("train_stop")
    expert.call("info")


def saving(url: str, folder: str, many: int) -> None:
    """Several experts save labels: of new images with the model's masks; those beyond `many` of what they have saved.

    They go on until the server is gone, if `many` is 0.
    """

    def work(number: int) -> None:
        expert = Expert(url, f"expert{number}", folder)
        try:
            for turn in range(many or 10**6):
                if many:
                    image = expert.call("next_sample", "random", {})["id"]
                    mask, _ = expert.call("infer", "ucseg", image, {"result_extension": ".nii.gz"})
                else:
                    known = sorted(Path(folder, expert.name).glob("*-corrected*.nii.gz"))
                    mask = str(known[turn % len(known)])
                    image = Path(mask).name.partition("-corrected")[0]
                label = corrected(mask, 500 + 97 * number + turn)
                saved = expert.call("save_label", image, label)
                with expert.lock:
                    line = {"saved": image, "version": saved["version"], "voxels": voxels_of(label)}
                    print(json.dumps(line), flush=True)
        except Exception as error:  # the server was killed
            with expert.lock:
                print(json.dumps({"ended": type(error).__name__}), flush=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ------------------------------------------------------------------------------------ in the environment of ucseg


@contextmanager
def server(run: Path, data: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server in a process; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ucseg.cli.main", "serve", str(run), str(data), "--port", str(port)]
    words += ["--no-look-ahead", "--device", "cpu", "--set", "workers=0"]
    with log.open("ab") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        try:
            until = time.monotonic() + 120
            while f":{port}" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}", process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(120)


def few_cases(data: Path, folder: Path, unlabelled: int) -> None:
    """A copy of a dataset's tables with a few of its cases."""
    from ucseg.dataset.manifest import Dataset, load_dataset, save_dataset

    found = load_dataset(data)
    cases = [*found.labelled[:3], *found.unlabelled[:unlabelled], *found.validation[:2]]
    folder.mkdir()
    config = found.config.model_copy(update={"root": str(found.root)})
    save_dataset(Dataset(folder, config, cases))


def compared(data: Path, saved: list[dict[str, Any]]) -> int:
    """How many confirmed labels lie in DATA/labels as they were sent; an error if one does not."""
    from ucseg.dataset.manifest import load_dataset
    from ucseg.dataset.masks import read_label
    from ucseg.scans.address import Address
    from ucseg.scans.reading import read_scan
    from ucseg.serving.frame import Frame

    dataset = load_dataset(data)
    cases = {case.case: case for case in dataset.cases}
    newest: dict[str, int] = {}
    for one in saved:
        case = cases[one["saved"]]
        note = json.loads((data / "labels" / f"{case.case}.v{one['version']:04d}.json").read_text())
        scan = read_scan(case.image)
        label = read_label(
            Address.of(data / "labels" / note["mask"]), scan.array.shape[1:], dataset.config, scan.geometry
        )
        bytes_ = Frame.of(scan, case.image.plain).to_viewer(label).tobytes(order="F")
        assert hashlib.blake2b(bytes_, digest_size=8).hexdigest() == one["voxels"], one
        newest[case.case] = max(newest.get(case.case, 0), one["version"])
    for name, version in newest.items():
        mask = cases[name].mask
        assert mask is not None
        found = re.search(r"\.v(\d+)\.", mask.name)
        assert found is not None, mask
        assert int(found[1]) >= version, (mask, version)
    return len(saved)


def one_session(run: Path, data: Path, client: str, steps: int, unlabelled: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        served, log = folder / "DATA", folder / "log.txt"
        few_cases(data, served, unlabelled)

        def speak(url: str, *words: Any, seen: Callable[[int], None] = lambda saved: None) -> list[dict[str, Any]]:
            asked = [client, __file__, "--as-client", url, str(folder / "client"), *map(str, words)]
            lines = []
            with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(json.loads(line))
                    seen(sum("saved" in one for one in lines))
            assert process.returncode == 0, lines
            return lines

        with server(run, served, log) as (url, _):
            calls = speak(url, "plug-in", steps)
            together = speak(url, "saving", 2)
            host, port = url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as half:
                half.sendall(b"PUT /datastore/label?image=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n")
                half.sendall(b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nhalf a label")
            confirmed = [one for one in together if "saved" in one]
            at_once = compared(served, confirmed)
        with server(run, served, log) as (url, process):
            killed = speak(url, "saving", 0, seen=lambda saved: process.kill() if saved == BEFORE_THE_KILL else None)
        survived = [one for one in killed if "saved" in one]
        with server(run, served, log) as (url, _):
            after = compared(served, [*confirmed, *survived])
            again = speak(url, "saving", 1)
            compared(served, [*confirmed, *survived, *(one for one in again if "saved" in one)])
        hide = {str(run): "RUN", str(served): "DATA", str(folder): "TMP", str(Path(__file__).parent): "."}
        return {
            "calls": [shortened(one, hide) for one in calls],
            "saved by four at once, compared": at_once,
            "saved by four until the server was killed": len(survived),
            "of all, compared after the kill": after,
            "saved after the kill": sum("saved" in one for one in again),
            "seconds": {
                name: round(sorted(found)[len(found) // 2], 3)
                for name in ("next_sample", "infer", "save_label")
                if (found := [one["seconds"] for one in together if one.get("call") == name])
            },
        }


def shortened(line: dict[str, Any], hide: dict[str, str]) -> dict[str, Any]:
    """Without the paths of this machine, and without long lists."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            first = dict(list(value.items())[:12])
            return {key: short(one) for key, one in first.items()} | ({"...": len(value)} if len(value) > 12 else {})
        if isinstance(value, list | tuple):
            return [short(one) for one in value[-3:]]
        if isinstance(value, float):
            return round(value, 3)
        if isinstance(value, str):
            for path, name in sorted(hide.items(), key=lambda one: -len(one[0])):
                value = value.replace(path, name)
            return re.sub(r"/(?:work|tmp|root|home)/\S*?/(?=[^/\s]+(?:\s|$|'|\"))", "SCANS/", value)[:400]
        return value

    return {key: short(value) for key, value in line.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--client", required=True, help="interpreter of the client's environment")
    parser.add_argument("--session", nargs=3, action="append", required=True, metavar=("NAME", "RUN", "DATA"))
    parser.add_argument("--steps", type=int, default=5, help="of the training")
    parser.add_argument("--unlabelled", type=int, default=12, help="cases that are served without a mask")
    given = parser.parse_args()
    from provenance import RESULTS, machine

    sessions = {
        name: one_session(Path(run).absolute(), Path(data).absolute(), given.client, given.steps, given.unlabelled)
        for name, run, data in given.session
    }
    command = "python benchmarks/viewer_session.py --client CLIENT/bin/python" + "".join(
        f" --session {name} RUN DATA" for name in sessions
    )
    record = {"command": command, "client": "monailabel 0.8.5", **machine(), "sessions": sessions}
    (RESULTS / "viewer_session.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-client"]:
        url, folder, what, number = sys.argv[2:]
        work: Callable[[str, str, int], None] = as_plug_in if what == "plug-in" else saving
        work(url, folder, int(number))
    else:
        main()
