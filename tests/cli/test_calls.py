"""What one would type for a call, and how what it returns prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ucseg.batches.prepare import Prepared
from ucseg.cli.calls import typed
from ucseg.labelling.finished import Finished


def test_a_call_is_typed_with_its_options() -> None:
    words = typed("plan", Path("my data"), out=Path("o"), hours=None, set=["a=1", "b=2"], test_on=[], low_memory=True)
    assert shlex.split(words) == [
        "ucseg", "plan", "my data", "--out", "o", "--set", "a=1", "--set", "b=2", "--low-memory",
    ]  # fmt: skip
    assert typed("evaluate", fill_outlines=False) == "ucseg evaluate --no-fill-outlines"


def test_what_calls_return_prints_in_one_line() -> None:
    plan: Any = None
    assert repr(Prepared(plan, [], [], [], [("a", "why")])) == (
        "<Prepared: 0 labelled, 0 unlabelled and 0 validation cases, 1 left out>"
    )
    assert repr(Finished([], added=["a"], strangers=["b", "c"])) == (
        "<Finished: 1 added, 0 replaced, 0 kept, 2 strangers, 0 uncorrected, 0 empty>"
    )
