"""What is a finding? One thing that is wrong with a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ucseg.dataset.manifest import Dataset
from ucseg.scans.address import Address

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file (named relative to the data root if it lies there), and what to do.

    `kind` is short and stable ("mask-empty"), as the kinds of UserError. An "error": training or its figures would be
    wrong; a "warning": worth a look.
    """

    kind: str
    file: str
    finding: str
    fix: str
    severity: Severity = "warning"


def name_in_root(place: Address | Path, dataset: Dataset) -> str:
    return Address.of(place).below(dataset.root)
