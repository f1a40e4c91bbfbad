"""Randomness as a function: every draw has a name, its purpose, so nothing about it has to be saved.

A generator is made from (seed, purpose, step, slot, part). So a resumed run draws the same as an uninterrupted one, and
the number of loader workers changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, step: int = 0, slot: int = 0, part: int = 0) -> int:
    """A 63-bit seed for one draw. Equal arguments give an equal seed on every machine."""
    name = f"{seed}/{purpose}/{step}/{slot}/{part}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, purpose: str, step: int = 0, slot: int = 0, part: int = 0) -> np.random.Generator:
    """A numpy generator for one draw."""
    return np.random.default_rng(derive_seed(seed, purpose, step, slot, part))


def torch_generator(seed: int, purpose: str, step: int = 0, slot: int = 0, part: int = 0) -> torch.Generator:
    """A torch generator (always on the CPU, so that every device sees the same draws)."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, step, slot, part))


def on_device(draw: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A draw of the CPU on `device`. Python goes on at once, and does not wait until the device has done its work."""
    if device.type == "cuda":
        draw = draw.pin_memory()  # from other memory a copy waits
    return draw.to(device, non_blocking=True)
