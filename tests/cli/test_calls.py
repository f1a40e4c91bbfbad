"""What one would type for a call."""

from __future__ import annotations

import shlex
from pathlib import Path

from ucseg.cli.calls import typed


def test_a_call_is_typed_with_its_options() -> None:
    words = typed("plan", Path("my data"), out=Path("o"), hours=None, set=["a=1", "b=2"], test_on=[], low_memory=True)
    assert shlex.split(words) == [
        "ucseg", "plan", "my data", "--out", "o", "--set", "a=1", "--set", "b=2", "--low-memory",
    ]  # fmt: skip
    assert typed("evaluate", fill_outlines=False) == "ucseg evaluate --no-fill-outlines"
