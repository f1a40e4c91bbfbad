"""Text that a person, a copy or a broken disk may have changed: read within bounds, or refused with a reason."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path
from typing import Any

from ucseg.errors import UserError

MOST_BYTES = 2**28
"""Of a text file: a table of a million cases has about so many. What is larger is something else."""
MOST_LETTERS = 2**20
"""Of a field of a table, such as a path."""


def is_regular(path: Path) -> bool:
    """Whether a path leads to a file: opening a pipe or a device may wait for ever. False where nothing is."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return False


def read_text(path: Path) -> str:
    """The UTF-8 text of a file; spreadsheets may have put a byte-order mark before it.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be read.
        ValueError: it is no file, it is too large, or it is not UTF-8 (UnicodeDecodeError).
    """
    if not is_regular(path):
        if not path.exists():
            raise FileNotFoundError(path)
        raise ValueError("it is a folder, a pipe or a device, and no file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        values = json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError("json-missing", f"{path}: there is no such file; is this the right folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            "json-damaged", f"{path}: cannot be read ({error}); restore it from a copy or make it again."
        ) from None
    if not isinstance(values, dict):
        raise UserError("json-damaged", f"{path}: does not hold named values; restore it from a copy or make it again.")
    return values


def read_rows(text: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns of a CSV table, and its rows with their line numbers; values are stripped, what a row lacks is empty.

    Raises:
        ValueError: this is no table of text.
    """
    if "\0" in text:
        raise ValueError("it holds zero bytes")
    header = text.partition("\n")[0]
    csv.field_size_limit(MOST_LETTERS)
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in header and "," not in header else ",")
    try:
        columns = [name for name in reader.fieldnames or [] if name]
        rows = [(reader.line_num, {name: (row[name] or "").strip() for name in columns}) for row in reader]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return columns, rows
