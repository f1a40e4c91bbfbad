"""Processes as torchrun and srun begin them: each says which others it sees."""

from __future__ import annotations

import os
import sys

from ucseg import ranks
from ucseg.cli.launch import launch


def seen(devices: int, nodes: int) -> list[int]:
    """The ranks that answer."""
    return launch(_answering, devices, nodes, "cpu")


def _answering() -> list[int]:
    return ranks.all_say(ranks.rank())


def by_srun(variables: dict[str, str]) -> list[int]:
    """What one process on each of two machines has seen, one of which finds these variables of SLURM."""
    os.environ |= {f"SLURM_{name}": value for name, value in variables.items()}
    return seen(1, 2)


if __name__ == "__main__":
    print(seen(int(sys.argv[1]), int(sys.argv[2])))
