"""What do a scan's files hold? With its digest, a result and an entry of the cache know their scan."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

from ucseg.machine.reading import is_regular
from ucseg.scans.address import Address
from ucseg.scans.reading import files_of


def content_of(address: Address) -> str:
    """The digest of all files of a scan, whatever they are called.

    Raises:
        UserError: a DICOM folder of no series, or of an unclear one.
        OSError: a file cannot be read.
    """
    total = hashlib.blake2b(digest_size=8)
    for file in files_of(address):
        total.update(file_digest(file))
    return total.hexdigest()


def file_digest(file: Path) -> bytes:
    """The digest of a file; an OSError if it cannot be read, or is a pipe that may never end."""
    if file.exists() and not is_regular(file):
        raise OSError(errno.EINVAL, "a pipe, a device or a folder", str(file))
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()
