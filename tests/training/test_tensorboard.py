"""What TensorBoard gets is what metrics.jsonl holds."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from refusals import refused
from ucseg.training import tensorboard
from ucseg.training.run_folder import RunFolder


def test_without_the_package_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with refused("tensorboard-missing", naming="ucseg[tensorboard]"):
        tensorboard.require_tensorboard()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed: ucseg[tensorboard]")
def test_every_figure_of_the_log_is_a_scalar(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RunFolder(tmp_path)
    run.also_log = tensorboard.Scalars(tmp_path)
    with run.metrics_file.open("w") as file:
        for step in (10, 20):
            run.log(file, {"step": step, "loss": 1 / step, "validation": {"dice": 0.5}})
    assert [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()] == [10, 20]
    seen = EventAccumulator(str(tmp_path / tensorboard.FOLDER)).Reload()
    assert sorted(seen.Tags()["scalars"]) == ["training/loss", "validation/dice"]
    assert [(one.step, round(one.value, 4)) for one in seen.Scalars("training/loss")] == [(10, 0.1), (20, 0.05)]
