"""Freed memory stays with the process while training lasts, and only then."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from ucseg.training.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(8 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
with kept_memory(False):
    faults()
    untouched = faults()
    low = resident()
with kept_memory():
    for _ in range(5):  # until the heap has a place for each block, as after the first steps of a training
        faults()
    print(untouched, faults(), (resident() - low) // 2**20, end=" ")
print((resident() - low) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_memory_is_kept_and_then_given_back() -> None:
    """Large tensors that come and go cost no page faults inside, and their memory is free afterwards."""
    command = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    untouched, kept, held, left = map(int, said.split())
    assert untouched > 8 * 8 * 2**20 * 4 / (2 * 2**21)  # the default: anew for each tensor, however large the pages
    assert kept < untouched / 10
    assert held >= 30  # MiB
    assert left < 8
