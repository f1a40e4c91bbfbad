"""Headers of NRRD and MetaImage that would end the process of ITK, which reads them, without a word.

Found by changing right files at random; a bad file costs one case, and a look at its header takes microseconds.
"""

from __future__ import annotations

from pathlib import Path

from ucseg.scans import refusals

_LONGEST_FIELD, _LONGEST_LINE, _MOST_AXES = 900, 2**16, 10
"""Bytes of a field, which is a few numbers for each axis, and of what is read at once; axes."""


def refuse_deadly(path: Path) -> None:
    """Raise a UserError for a header that would end this process without a word.

    NRRD: the reader quotes a wrong field in a buffer of fixed size. It never quotes comments and values of keys (:=).
    MetaImage: the reader has room for ten axes, and does not look at how many the header says.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)).strip():
            if not nrrd:
                name, _, value = (part.strip() for part in line.partition(b"="))
                if name == b"NDims" and not (value.isdigit() and 1 <= int(value[:9]) <= _MOST_AXES):
                    raise refusals.damaged(path, f"its header says {value[:20].decode('latin-1')} axes")
                if name == b"ElementDataFile":
                    break
                continue
            free = line.startswith(b"#") or b":=" in line.partition(b": ")[0]
            if len(line) > _LONGEST_FIELD and not free:
                raise refusals.damaged(path, "a field of its header has no end")
            while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                line = file.readline(_LONGEST_LINE)
