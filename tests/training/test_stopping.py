"""Ctrl-C: once is a request, the same once more within a second too, later it is meant."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ucseg.training import stopping
from ucseg.training.stopping import StopSignal


@pytest.fixture
def _ctrl_c_raises() -> Iterator[None]:
    """Python's own handler, which is not there where the tests were started in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_raises")
def test_a_signal_that_comes_twice_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    with StopSignal() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        now[0] += 0.5
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
