"""Begun several times by torchrun's agent or as srun would: each process says which others it sees."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from ucseg import ranks
from ucseg.cli.launch import launch


def seen() -> list[int]:
    """The ranks that answer."""
    return ranks.all_say(ranks.rank())


def joined(devices: int, nodes: int) -> list[int]:
    return launch(seen, devices, nodes, "cpu")


def by_srun(variables: dict[str, str], told: Connection) -> None:
    """One process on each of two machines, which sees what srun says to it."""
    os.environ |= {f"SLURM_{name}": value for name, value in variables.items()}
    told.send(joined(1, 2))
