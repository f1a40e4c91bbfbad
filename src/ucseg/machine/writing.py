"""Files that appear under their name whole, or not at all."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from pydantic_core import to_json

from ucseg.errors import UserError

PART = ".*-*-*.part*"
"""What the temporary names of `whole_file` look like."""
NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""The disk, the largest file, or one's own share of the disk is full."""


def make_folder(path: Path, option: str) -> None:
    """Make a folder, with those above it; one that is there stays.

    Raises:
        UserError: it cannot be made; `option` of the command line chooses another one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "folder-not-made", f"{path}: the folder cannot be made ({error.strerror}); choose another {option}."
        ) from None


def require_place(path: Path, option: str = "--out", *, folder: bool = True) -> None:
    """Refuse a folder (or, if `folder` is off, a file) that cannot be made, before the work whose results go there.

    Raises:
        UserError: a file or a folder is in its place, or the folder where it would be made cannot be written to.
    """
    if path.exists() and path.is_dir() != folder:
        what = "file" if folder else "folder"
        raise UserError("out-is-other", f"{path}: this is a {what}; choose another {option}.")
    there = next(one for one in [path, *path.absolute().parents] if one.exists())
    if there not in (path, path.absolute()) and not there.is_dir():
        raise UserError("out-below-file", f"{path}: {there} is a file; choose another {option}.")
    there = there if there.is_dir() else there.parent
    if not os.access(there, os.W_OK):
        raise UserError("out-not-writable", f"{path}: {there} cannot be written to; choose another {option}.")


@contextmanager
def whole_file(path: Path, ending: str = "", *, durable: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there takes the place of `path` when the block ends well.

    Args:
        path: the file to make; its folder is made if it is not there.
        ending: of the temporary name, since many libraries choose the format (and compression) by it.
        durable: return only once the file is on disk, so that it outlives a power cut.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    temporary = path.with_name(f".{os.getpid()}-{get_ident()}-{path.name.lstrip('.')}.part{ending}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                _settle(temporary, os.O_RDWR)
            os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic on every system
            if durable and os.name == "posix":
                _settle(path.parent, os.O_RDONLY)  # the new name itself
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns each error of writing `path` into the sentence for the user; every other error stays what it is.

    Raises:
        UserError: it cannot be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (reason := why_not_written(error, path.parent)) is None:
            raise
        raise UserError(
            "not-written", f"{path}: cannot be written ({reason}); make room, or choose another place."
        ) from error


def why_not_written(error: Exception, folder: Path) -> str | None:
    """The system's reason why nothing could be written; None if the error is another one.

    A library that writes by itself may hand on neither the reason nor its number. So a folder without room is one.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in NO_ROOM or (number is None and _full(folder)):
        return "no space is left there"
    return (error.strerror or str(error)) if isinstance(error, OSError) else None


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all, on disk when this returns."""
    with whole_file(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file, as `write_text`. Figures that are not finite become null."""
    write_text(path, json_text(values))


def json_text(values: Mapping[str, Any], indent: int | None = 2) -> str:
    """JSON in which figures that are not finite are null; it ends with its line."""
    return to_json(values, indent=indent, inf_nan_mode="null").decode() + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool = True) -> str:
    """CSV with figures to six digits; what a row lacks is empty, as is NaN."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def _settle(path: Path, flags: int) -> None:
    """Wait until a file or folder is on disk."""
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False
