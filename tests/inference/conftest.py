"""A trained run that several tests predict with."""

from __future__ import annotations

from pathlib import Path

import pytest
from threshold_run import make_run, plan_2d


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_run(tmp_path / "run", plan_2d(), monkeypatch)
