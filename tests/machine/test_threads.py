"""Threads that wait for each other sleep soon, so that other work on the machine does not stop a run."""

from __future__ import annotations

import os

import pytest

import ucseg
from ucseg.cli.main import main
from ucseg.errors import UserError
from ucseg.machine.cores import let_threads_sleep


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_user_chose_holds(
    given: dict[str, str], then: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    let_threads_sleep()
    assert dict(os.environ) == then


def test_the_command_line_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_a_call_in_python_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(UserError):
        ucseg.check("")
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
