"""What did `ucseg predict` write into a folder? Which scan each mask is of, and what its values mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from ucseg.config import Strict, build
from ucseg.errors import UserError
from ucseg.machine.reading import read_json, read_rows, read_text
from ucseg.scans.address import Address

ABOUT = "prediction.json"
TABLE = "cases.csv"
FAILURE_SCORE = "failure_score"
"""The score that ranks cases: the highest is looked at first."""
SCORES = (
    FAILURE_SCORE,
    "disagreement",
    "mean_entropy",
    "boundary_uncertainty",
    "mirror_variance",
    "mean_uncertainty",
    "run_disagreement",
)
"""Columns of cases.csv that may rank cases by how likely they failed."""
PREDICTED_DICE = "predicted_dice"
INTERVAL = ("predicted_dice_low", "predicted_dice_high")


class Note(Strict):
    """What prediction.json says of a folder, as far as it is read back.

    Attributes:
        precision: in which it was predicted; None: an earlier version did not say.
        classes: class index -> name.
        values: value -> class index in the masks of training, where they are not the same.
        not_annotated: values of those masks that are no class.
        run, weights: the folder and the digest of what predicted.
    """

    model_config = ConfigDict(extra="allow")

    precision: Literal["bf16", "fp32"] | None = None
    classes: dict[int, str] = Field(default_factory=dict, max_length=256)
    values: dict[int, int] = Field(default_factory=dict, max_length=256)
    not_annotated: list[int] = Field(default_factory=list, max_length=256)
    run: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Made:
    """Of which scan a mask was made; `content` is the digest of its files, "" where an earlier version noted none."""

    scan: Address
    content: str


def is_prediction(folder: Path) -> bool:
    """Whether `ucseg predict` wrote a folder: the images in it are results, and no scans."""
    return (folder / ABOUT).is_file()


def note_of(folder: Path) -> Note | None:
    """What prediction.json says; None if there is none. A UserError if it cannot be so."""
    file = folder / ABOUT
    return build(Note, read_json(file), str(file)) if file.exists() else None


def rows_of(folder: Path, *, whole_lines: bool = False) -> list[dict[str, str]]:
    """The lines of cases.csv; none if there is no such file.

    Args:
        whole_lines: without what follows the last line break: a power cut may have cut it.

    Raises:
        UserError: it is damaged.
    """
    file = folder / TABLE
    try:
        text = read_text(file)
        return [row for _, row in read_rows(text.rpartition("\n")[0] if whole_lines else text)[1]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(
            "prediction-table", f"{file}: cannot be read ({error}); restore it from a copy, or predict again."
        ) from None


def made_in(folder: Path) -> dict[str, Made]:
    """The scan that each mask of a folder was made of, by the name of the mask's file; empty if it has no table."""
    made = {}
    for row in rows_of(folder):
        if row.get("mask") and row.get("file") and row.get("status", "ok") == "ok":
            made[row["mask"]] = Made(Address.of(row["file"]), row.get("content", ""))
    return made


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A folder's name for each class or network: no two alike, also where upper and lower case are the same."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain, number = re.sub(r"[^\w.-]+", "_", name).strip("._") or "_", 1
        while (free := plain if number == 1 else f"{plain}_{number}").casefold() in taken:
            number += 1
        taken.add(free.casefold())
        found[name] = free
    return found
