"""The tables of a dataset: cases.csv, hidden.csv and left_out.csv as rows of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from ucseg.errors import UserError
from ucseg.machine.writing import whole_file


def read_table(file: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers. Spreadsheets may have saved it with a byte-order mark or semicolons."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError("table-missing", f"{file}: there is no such file; run 'ucseg init' again.") from None
    except UnicodeDecodeError:
        raise UserError("table-encoding", f"{file}: this is not UTF-8 text; save it as CSV UTF-8.") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in header and "," not in header else ",")
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            "table-column", f"{file}: column '{missing[0]}' is missing; start the file with {','.join(columns)}."
        )
    return [(reader.line_num, {column: (row[column] or "").strip() for column in columns}) for row in reader]


def write_table(file: Path, columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> None:
    with whole_file(file, file.suffix) as part, part.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
