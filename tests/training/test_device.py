"""Which device and precision are chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch

from refusals import refused
from ucseg.training.device import choose_device, choose_precision, quicker_in_bf16, seconds_to_convolve


@pytest.fixture
def not_measured_yet() -> Iterator[None]:
    """What was measured of this processor is forgotten before the test, and what the test makes up after it."""
    quicker_in_bf16.cache_clear()
    yield
    quicker_in_bf16.cache_clear()


def test_unknown_or_absent_devices_are_said_to_be() -> None:
    with refused("device-name", naming="'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with refused("device-missing", naming="'cuda'"):
            choose_device("cuda")
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(("bf16", "float32", "chosen"), [(1.0, 2.0, "bf16"), (2.0, 1.0, "fp32")])
def test_auto_takes_the_quicker_precision_of_a_processor_that_has_both(
    monkeypatch: pytest.MonkeyPatch, not_measured_yet: None, bf16: float, float32: float, chosen: str
) -> None:
    monkeypatch.setattr("ucseg.training.device.supports_bf16", lambda _device: True)
    seconds = {torch.bfloat16: bf16, torch.float32: float32}
    monkeypatch.setattr("ucseg.training.device.seconds_to_convolve", seconds.__getitem__)
    assert choose_precision("auto", torch.device("cpu")) == chosen


def test_precision_is_measured_without_random_numbers_of_training() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert 0 < seconds_to_convolve(torch.float32) < math.inf
    assert torch.equal(torch.get_rng_state(), before)


def test_the_least_of_several_measured_times_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = iter([5, 4, 3, 7, 2, 6, 8, 9])
    ticks = itertools.chain.from_iterable((0, seconds) for seconds in gone)
    monkeypatch.setattr("ucseg.training.device.time.perf_counter", lambda: next(ticks))
    assert seconds_to_convolve(torch.float32) == 2


def test_a_processor_without_bf16_is_not_measured(monkeypatch: pytest.MonkeyPatch, not_measured_yet: None) -> None:
    monkeypatch.setattr("ucseg.training.device.supports_bf16", lambda _device: False)
    monkeypatch.delattr("ucseg.training.device.seconds_to_convolve")
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
