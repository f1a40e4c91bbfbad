"""A file that cannot be written is one sentence, whichever library wrote it and whatever that said."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from refusals import refused
from ucseg.machine import writing
from ucseg.machine.writing import make_folder, whole_file


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EFBIG, "File too large"), False),
        (RuntimeError("ITK: could not write"), True),  # a library that does not say why
        (OSError("Not written"), True),
    ],
)
def test_no_room_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, full: bool) -> None:
    monkeypatch.setattr(writing, "_full", lambda folder: full)
    with refused("not-written", naming=[tmp_path / "mask.nii", "no space"]), whole_file(tmp_path / "mask.nii") as part:
        part.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "mask.nii") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("folder-not-made", naming=[tmp_path / "file" / "cache", "--cache"]):
        make_folder(tmp_path / "file" / "cache", "--cache")
