"""Downloads from a server on this machine: ranges, interruptions, checksums, licences, archives that mean harm."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import ucseg
from refusals import refused
from ucseg.catalogue import DATASETS
from ucseg.catalogue.download import CHECKSUMS, fetch, unpack
from ucseg.catalogue.layout import Download


class Server:
    """Serves `files`; stops an answer after `cut` bytes; remembers the ranges that it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = outer.files.get(self.path.lstrip("/"))
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                if content is None:
                    self.send_error(404)
                    return
                tag = f'"{hashlib.md5(content).hexdigest()}"'
                start = 0
                if asked and self.headers.get("If-Range") == tag:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start and start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: outer.cut])

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def file(self, name: str, checksum: str = "") -> Download:
        return Download(f"{self.url}/{name}", checksum)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()
    one.thread.join()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


CONTENT = bytes(range(256)) * 40


def test_a_stopped_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"], server.cut = CONTENT, 4000
    file = server.file("a.bin", sha256(CONTENT))
    with refused("download-stopped", naming=[file.url, "4000 bytes"]):
        fetch(file, tmp_path)
    server.cut = None
    path = fetch(file, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=4000-"]
    fetch(file, tmp_path)
    assert len(server.ranges) == 2, "the right file is there"
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


def test_two_versions_of_a_file_are_never_joined(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"], server.cut = CONTENT, 4000
    with refused("download-stopped"):
        fetch(server.file("a.bin"), tmp_path)
    server.files["a.bin"], server.cut = CONTENT[::-1], None
    assert fetch(server.file("a.bin"), tmp_path).read_bytes() == CONTENT[::-1]


def test_a_part_that_is_complete_only_gets_its_name(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    (tmp_path / "a.bin.part.tag").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert fetch(server.file("a.bin", sha256(CONTENT)), tmp_path).read_bytes() == CONTENT


def test_wrong_checksums(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    with refused("download-checksum", naming=["a.bin", "0" * 32]):
        fetch(server.file("a.bin", f"md5:{'0' * 32}"), tmp_path)
    assert not list(tmp_path.iterdir()), "nothing wrong stays"


def test_without_a_published_checksum_the_first_download_counts(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    path = fetch(server.file("a.bin"), tmp_path)
    assert (tmp_path / CHECKSUMS).read_text() == f"{sha256(CONTENT)} a.bin\n"
    path.write_bytes(b"damaged")
    assert fetch(server.file("a.bin"), tmp_path).read_bytes() == CONTENT
    path.unlink()
    server.files["a.bin"] = b"changed by its makers"
    with refused("download-checksum", naming=tmp_path / CHECKSUMS):
        fetch(server.file("a.bin"), tmp_path)


def test_an_address_that_is_no_more(server: Server, tmp_path: Path) -> None:
    with refused("download-refused", naming=["gone.zip", "404"]):
        fetch(server.file("gone.zip"), tmp_path)
    with refused("download-stopped", naming=["ConnectionError", " 0 bytes"]):
        fetch(Download("http://127.0.0.1:1/a.zip"), tmp_path)


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes], link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
        if link:
            one = tarfile.TarInfo("link")
            one.type, one.linkname = tarfile.SYMTYPE, link
            archive.addfile(one)
    return out.getvalue()


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "a\\..\\evil.txt", "C:/evil.txt"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_that_would_write_elsewhere_are_refused_whole(tmp_path: Path, name: str, pack: object) -> None:
    archive = tmp_path / "a.archive"
    archive.write_bytes(pack({"good.txt": b"1", name: b"2"}))  # type: ignore[operator]
    with refused("archive-outside", naming=[archive, name]):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_and_damage_in_archives(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"good.txt": b"1"}, link="/etc/passwd"))
    with refused("archive-link", naming=["a.tar", "'link'"]):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    (tmp_path / "b.tar").write_bytes(b"no archive at all")
    with refused("archive-damaged", naming="b.tar"):
        unpack(tmp_path / "b.tar", tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_differ_in_case_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: object) -> None:
    archive = tmp_path / "a.archive"
    archive.write_bytes(pack({"data/Case.png": b"1", "DATA/case.png": b"2"}))  # type: ignore[operator]
    unpack(archive, tmp_path / "out")  # where these are two files
    assert (tmp_path / "out/data/Case.png").read_bytes() == b"1"
    monkeypatch.setattr("ucseg.catalogue.download._knows_case", lambda folder: False)
    with refused("archive-names-alike", naming=["data/Case.png", "DATA/case.png"]):
        unpack(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_very_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: object) -> None:
    monkeypatch.setattr("ucseg.catalogue.download.MOST_MEMBERS", 50)
    archive = tmp_path / "a.archive"
    archive.write_bytes(pack({f"{n}.png": b"1" for n in range(51)}))  # type: ignore[operator]
    with refused("archive-too-many", naming=[archive, "50"]):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_members_that_cannot_be_written(tmp_path: Path, pack: object) -> None:
    """A name that is a file and a folder, and one that no file system takes."""
    for number, names in enumerate((["a", "a/b"], ["n" * 300])):
        archive = tmp_path / f"{number}.archive"
        archive.write_bytes(pack(dict.fromkeys(names, b"1")))  # type: ignore[operator]
        with refused("not-written", naming=names[-1]):
            unpack(archive, tmp_path / str(number))


def test_an_archive_that_was_overwritten_in_the_middle(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.txt": CONTENT}))
    content[200:260] = bytes(60)
    (tmp_path / "a.zip").write_bytes(content)
    with refused("archive-damaged", naming="a.zip"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_the_verb_shows_the_licence_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["training_set.zip"] = zipped({"training_set/000_HC.png": b"image"})
    small = replace(DATASETS["hc18"], downloads=(server.file("training_set.zip"),))
    monkeypatch.setitem(DATASETS, "hc18", small)
    with refused("licence-not-asked", naming=["hc18", "CC BY 4.0", "--accept-licence"]):
        ucseg.download("hc18", out=tmp_path / "data")
    assert "CC BY 4.0" in capsys.readouterr().out
    assert not server.ranges
    ucseg.download("hc18", out=tmp_path / "data", accept_licence=True)
    assert (tmp_path / "data" / "training_set" / "000_HC.png").read_bytes() == b"image"
    with refused("no-download", naming=["la ", "hc18"]):
        ucseg.download("la", out=tmp_path / "data")
