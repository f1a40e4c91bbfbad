from __future__ import annotations

import math

import pytest

from ucseg.method_parts.schedules import sigmoid_ramp


def test_the_ramp_rises_from_exp_minus_five_to_one_and_stays() -> None:
    assert sigmoid_ramp(0.0, 0.4) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(0.2, 0.4) == pytest.approx(math.exp(-5 / 4))
    assert sigmoid_ramp(0.4, 0.4) == sigmoid_ramp(1.0, 0.4) == 1.0
    assert sigmoid_ramp(0.0, 0.0) == 1.0, "no ramp"
