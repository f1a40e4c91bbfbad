"""One process at a time works in a folder: the lock, and files that are opened without following links."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

from ucseg.errors import UserError

LOCK = ".lock"
_held: set[int] = set()


class Lock:
    """A folder that this process holds. It ends with `release`, or with the process, however that ends.

    Attributes:
        descriptors: to hand on to processes that may outlive this one; they hold the folder too.
    """

    def __init__(self, folder: Path, descriptor: int | None) -> None:
        self._file, self._descriptor = folder / LOCK, descriptor

    @property
    def descriptors(self) -> list[int]:
        return [] if self._descriptor is None else [self._descriptor]

    def release(self) -> None:
        """Let others in. The file goes first, while it is held: who opened it before finds that it is gone."""
        if self._descriptor is None:
            return
        self._file.unlink(missing_ok=True)
        _held.discard(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None


def lock(folder: Path) -> Lock | None:
    """Hold a folder that is there; None if another process holds it.

    Where the system or the file system has no such locks, every caller gets one.

    Raises:
        UserError: the lock's file is a link, or cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return Lock(folder, None)
    while True:
        descriptor = _opened(folder / LOCK, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            return Lock(folder, None)
        if _same(folder / LOCK, descriptor):
            _held.add(descriptor)
            return Lock(folder, descriptor)
        os.close(descriptor)  # the one before has just let go, and took the file with it


def open_to_append(path: Path) -> IO[bytes]:
    """A file to write at the end of, made if it is not there.

    Raises:
        UserError: it is a link, whose file would be written to; or it cannot be opened.
    """
    return os.fdopen(_opened(path, os.O_WRONLY | os.O_APPEND), "ab")


def _opened(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(
            path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666
        )
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise UserError(
            "file-not-opened", f"{path}: cannot be written ({reason}); remove it and start again."
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError("file-not-opened", f"{path}: cannot be written (it is no file); remove it and start again.")
    return descriptor


def _same(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a process that was forked: it shall not hold what its parent holds once that is killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
