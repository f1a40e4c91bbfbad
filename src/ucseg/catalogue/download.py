"""Fetch a data set from its public address: continued where it stopped, verified, unpacked into its folder only."""

# pooch is only partly annotated:
# mypy: disable-error-code="attr-defined, no-untyped-call, arg-type"

from __future__ import annotations

import logging
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from ucseg.catalogue.layout import Download
from ucseg.errors import UserError
from ucseg.machine.writing import writing

CHECKSUMS = "checksums.txt"
"""In the user's folder: the sha256 of first downloads for which none is published."""

MOST_MEMBERS = 1_000_000
"""Of an archive: more are no data set, and would fill the folder's file system."""
_CHUNK = 2**16
_OF_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, RuntimeError, ValueError)
"""What the libraries raise of archives that are cut, overwritten, encrypted, or packed in another way."""
Report = Callable[[int, int], None]


def fetch(file: Download, folder: Path, report: Report | None = None) -> Path:
    """The file in a folder, downloaded unless it is there and right; `report` gets (bytes there, bytes in all or 0).

    An interrupted download stays as FILE.part, and the next call continues it. If no checksum is published, that of the
    first download counts (checksums.txt).

    Raises:
        UserError: the server cannot be reached or refuses, the download stopped, or the checksum is wrong.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)
    checksum = file.checksum or known.get(file.file, "")
    part = folder / f"{file.file}.part"
    try:
        path = Path(pooch.retrieve(file.url, checksum or None, file.file, folder, downloader=_Resumed(part, report)))
    except requests.HTTPError as error:
        raise UserError(
            "download-refused", f"{file.url}: the server refuses ({error}); get the file from its makers' page."
        ) from None
    except requests.RequestException as error:
        here = part.stat().st_size if part.exists() else 0
        raise UserError(
            "download-stopped",
            f"{file.url}: the download stopped after {here} bytes ({type(error).__name__}); give the same command "
            "again to continue it.",
        ) from None
    except ValueError:  # pooch's word for a wrong checksum
        known_by = "the published one" if file.checksum else f"the one in {folder / CHECKSUMS}"
        raise UserError(
            "download-checksum",
            f"{file.url}: the checksum differs from {known_by} ({checksum}), so the file was deleted; try again. "
            "If it fails again, its makers have changed the file.",
        ) from None
    if not checksum:
        lines = known | {file.file: f"sha256:{pooch.file_hash(str(path))}"}
        (folder / CHECKSUMS).write_text("".join(f"{value} {name}\n" for name, value in lines.items()))
    return path


def _known(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: value for value, _, name in (line.partition(" ") for line in lines) if name}


class _Resumed:
    """A downloader for pooch that asks only for what is missing.

    The server's tag of the content goes with the request, so that two versions of a file are never joined.
    """

    def __init__(self, part: Path, report: Report | None) -> None:
        self.part, self.tag, self.report = part, part.with_name(f"{part.name}.tag"), report

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() and self.tag.exists() else 0
        # Compressed in transit, a file would have another length than the server says.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.tag.read_text()}
        with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
            whole = have > 0 and answer.headers.get("Content-Range", "").endswith(f"*/{have}")
            if answer.status_code == requests.codes.range_not_satisfiable and not whole:
                self.part.unlink()
                return self(url, output_file, pooch)
            if not whole:
                answer.raise_for_status()
                self._receive(answer, have if answer.status_code == requests.codes.partial_content else 0)
        shutil.move(self.part, output_file)
        self.tag.unlink(missing_ok=True)
        return None

    def _receive(self, answer: Any, have: int) -> None:
        import requests

        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            self.tag.write_text(tag)
        else:
            self.tag.unlink(missing_ok=True)
        answer.raw.enforce_content_length = False  # it would lose what came last; the length is checked below
        with self.part.open("ab" if have else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if self.report is not None:
                    self.report(have, total)
        if total and have < total:
            raise requests.ConnectionError(f"{have} of {total} bytes")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar file. Files that are there with the right size are kept.

    Raises:
        UserError: it is no archive or damaged, a member would lie outside the folder or is a link, or two members would
            be one file. Nothing is unpacked then.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _refuse_too_many(archive, len(packed.infolist()))
                listed = [(one.filename, one.file_size, one, not one.is_dir()) for one in packed.infolist()]
                _write(archive, folder, listed, packed.open)
        else:
            with tarfile.open(archive) as packed_tar:
                members = []
                for one in packed_tar:
                    members.append(one)
                    _refuse_too_many(archive, len(members))
                links = [one.name for one in members if not (one.isfile() or one.isdir())]
                if links:
                    raise UserError(
                        "archive-link",
                        f"{archive}: not unpacked, because '{links[0]}' in it is a link or device; check its source.",
                    )
                files = [(one.name, one.size, one, one.isfile()) for one in members]
                _write(archive, folder, files, packed_tar.extractfile)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, *_OF_DAMAGED) as error:
        raise UserError(
            "archive-damaged", f"{archive}: the archive is damaged ({error}); delete it and download it again."
        ) from None


def _refuse_too_many(archive: Path, members: int) -> None:
    if members > MOST_MEMBERS:
        raise UserError(
            "archive-too-many",
            f"{archive}: not unpacked, because it has more than {MOST_MEMBERS:,} members; check its source.",
        )


def _refuse_names_alike(archive: Path, folder: Path, names: list[str]) -> None:
    """Refuse names that differ in case only, where the file system takes them for one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(str(PurePosixPath(name)).casefold(), name)
        if other != name and not _knows_case(folder):
            raise UserError(
                "archive-names-alike",
                f"{archive}: not unpacked, because '{other}' and '{name}' in it would be one file; unpack it where "
                "upper and lower case differ.",
            )


def _knows_case(folder: Path) -> bool:
    """Whether the file system of a folder, or of the nearest one above it, has a file for each of "x" and "X"."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix="case") as probe:
        place = Path(probe.name)
        return not place.with_name(place.name.swapcase()).exists()


def _write(
    archive: Path, folder: Path, members: list[tuple[str, int, Any, bool]], opened: Callable[[Any], IO[bytes] | None]
) -> None:
    for name, *_ in members:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
            raise UserError(
                "archive-outside",
                f"{archive}: not unpacked, because '{name}' in it would lie outside the folder; check its source.",
            )
    _refuse_names_alike(archive, folder, [name for name, *_ in members])
    for name, size, member, is_file in members:
        target = folder / name
        with writing(target):  # a name may be too long, or that of a folder
            if not is_file or (target.is_file() and target.stat().st_size == size):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source = opened(member)
            assert source is not None
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
