"""What a user would miss if the loop did not do it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny import train

from ucseg.training.run_folder import RunFolder
from ucseg.training.trainer import TrainConfig


@pytest.fixture(autouse=True)
def _one_thread():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_loss_and_leaves_a_complete_run(tmp_path: Path, dims: int, precision: str) -> None:
    config = TrainConfig(steps=60, precision=precision, lr=0.1, log_every=1, device="cpu")  # type: ignore[arg-type]
    result = train(tmp_path / "run", config, dims=dims)
    run = RunFolder(tmp_path / "run")
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert sum(x["supervised"] for x in lines[-10:]) < 0.8 * sum(x["supervised"] for x in lines[:10])
    assert all(math.isclose(x["loss"], x["supervised"] + x["consistency"], rel_tol=1e-6) for x in lines)
    assert [x["lr"] for x in lines] == pytest.approx([0.1 * (1 - t / 60) for t in range(60)])
    measured = {x["step"]: x["validation"]["dice"] for x in lines if "validation" in x}
    assert list(measured) == list(range(6, 61, 6))
    assert result.best is not None and result.best["dice"] == max(measured.values())
    assert json.loads((run.path / "best.json").read_text())["step"] == min(
        step for step, dice in measured.items() if dice == max(measured.values())
    )
    assert json.loads((run.path / "last.json").read_text()) | {"dice": measured[60]} == {
        "of": 60, "step": 60, "dice": measured[60]
    }  # fmt: skip
    environment = json.loads((run.path / "environment.json").read_text())["starts"]
    assert [start["precision"] for start in environment] == [precision]
    assert environment[0]["versions"]["torch"] == torch.__version__.split("+")[0] or environment[0]["versions"]["torch"]
