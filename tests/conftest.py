"""What all tests share. pytest puts this folder on the path: `from refusals import refused` works in every test."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ucseg.cli import terminal
from ucseg.training.device import supports_bf16


@pytest.fixture(autouse=True, scope="module")
def _imported_for_good() -> None:
    """Leaves all modules and tests out of garbage collection.

    Each verb collects at its end. With so much imported, that takes longer than what most tests do.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _seeds_without_stacks() -> Iterator[None]:
    """Until a GPU has started, torch keeps a stack as text with each seed, and shows it only if the GPU fails to start.

    Under pytest stacks are deep: that takes milliseconds each time, in every step of a training.
    """
    with pytest.MonkeyPatch.context() as patch:
        for device in (torch.cuda, torch.xpu, torch.mtia):
            patch.setattr(device, "traceback", SimpleNamespace(format_stack=list), raising=False)
        yield


@pytest.fixture(scope="session")
def forkserver() -> BaseContext:
    """Starts processes in which nothing is computed yet, forked from one that has imported what trainings need.

    Each would take seconds to import that.
    """
    needed = ["torch._dynamo", "lightning_fabric", "ucseg.training.trainer", "ucseg.inference.step_cost"]
    multiprocessing.set_forkserver_preload(needed)
    return multiprocessing.get_context("forkserver")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(kind, text) of each message that ucseg prints for a person, in order."""
    messages: list[tuple[str, str]] = []
    monkeypatch.setattr(terminal, "hear", lambda kind, text: messages.append((kind, text)))
    return messages


@pytest.fixture(scope="session")
def need_bf16() -> Callable[[int], None]:
    """To be told the number of axes: skips volumes in bf16 where the processor has it not.

    Emulated it takes ten times as long, and nobody trains so there.
    """

    def need(dims: int) -> None:
        if dims == 3 and not supports_bf16(torch.device("cpu")):
            pytest.skip("volumes in bf16 are for processors that have it")

    return need


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans, or a skip that says where it was looked for."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("UCSEG_TEST_DATA") or root.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder}; set UCSEG_TEST_DATA to their folder")
    return folder
