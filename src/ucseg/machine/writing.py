"""Nothing half-written: a file appears under its name whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

from ucseg.errors import UserError


def make_folder(path: Path, option: str) -> None:
    """Make a folder, with those above it; one that is there stays.

    Args:
        path: the folder.
        option: of the command line, by which another one is chosen.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "todo",
            f"{path}: the folder cannot be made ({error.strerror}); choose another {option}.",
        ) from None


@contextmanager
def whole_file(path: Path, ending: str) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there takes the place of `path` when the block ends well.

    Args:
        path: the file to make; its folder is made if need be.
        ending: of the temporary name, since many libraries choose the format (and compression) by it.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    temporary = path.with_name(f".{os.getpid()}-{get_ident()}-{path.name.lstrip('.')}.part{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic on every system
    except OSError as error:
        # A library that writes by itself may not hand on the system's reason.
        full = error.errno == errno.ENOSPC or (error.errno is None and _full(path.parent))
        reason = "no space is left there" if full else error.strerror or error
        raise UserError("todo", f"{path}: cannot be written ({reason}); make room, or choose another place.") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False
