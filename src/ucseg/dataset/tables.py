"""The tables of a dataset: cases.csv, hidden.csv and left_out.csv as rows of text."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from ucseg.errors import UserError
from ucseg.machine.reading import read_rows, read_text
from ucseg.machine.writing import whole_file


def read_table(
    file: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers; `optional` columns that are not there are empty.

    Spreadsheets may have saved it with a byte-order mark or semicolons.
    """
    try:
        found, rows = read_rows(read_text(file))
    except FileNotFoundError:
        raise UserError("table-missing", f"{file}: there is no such file; run 'ucseg init' again.") from None
    except UnicodeDecodeError:
        raise UserError("table-encoding", f"{file}: this is not UTF-8 text; save it as CSV UTF-8.") from None
    except (OSError, ValueError) as error:
        raise UserError("table-damaged", f"{file}: cannot be read ({error}); run 'ucseg init' again.") from None
    missing = [column for column in columns if column not in found]
    if missing:
        raise UserError(
            "table-column", f"{file}: column '{missing[0]}' is missing; start the file with {','.join(columns)}."
        )
    return [(line, {column: row.get(column) or "" for column in (*columns, *optional)}) for line, row in rows]


def write_table(file: Path, columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> None:
    with whole_file(file, file.suffix) as part, part.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
