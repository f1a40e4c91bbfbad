"""`make bench`: what it calls worse, and that each figure it watches is among the stored ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "bench.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("better", "stored", "now", "verdict"),
    [
        ("lower", 1.0, 1.19, "same"),
        ("lower", 1.0, 1.21, "worse"),
        ("lower", 1.0, 0.84, "same"),
        ("lower", 1.0, 0.83, "better"),
        ("higher", 10.0, 8.4, "same"),
        ("higher", 10.0, 8.3, "worse"),
        ("higher", 10.0, 12.1, "better"),
        ("lower", 1.0, None, "missing"),
        ("lower", None, 1.0, "missing"),
    ],
)
def test_a_change_beyond_the_tolerance_is_reported(
    bench: ModuleType, better: str, stored: float | None, now: float | None, verdict: str
) -> None:
    assert bench.verdict(stored, now, bench.Watched(better, 0.2)) == verdict


def test_only_what_is_worse_is_counted_and_a_missed_goal_is_reported(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = {name: bench.Watched("lower", 0.2, 0.5) for name in ("worse", "missed", "met")}
    monkeypatch.setattr(bench, "WATCHED_IN_FLOAT32", watched)
    lines, worse = bench.table(
        {"worse": 0.1, "missed": 0.6, "met": 0.4}, {"worse": 0.2, "missed": 0.6, "met": 0.3}, "fp32"
    )
    assert worse == 1
    assert [line.split("  ")[-1].split()[0] for line in lines[1:]] == ["worse", "same", "better"]
    assert ["goal missed" in line for line in lines[1:]] == [False, True, False]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_figure_that_is_watched_is_stored(bench: ModuleType, precision: str) -> None:
    assert set(bench.WATCHED) <= set(bench.stored_figures(precision))
