"""Begun several times by torchrun or as srun would: each process says which others it sees."""

from __future__ import annotations

import sys

from ucseg import ranks
from ucseg.cli.launch import launch


def seen() -> list[int]:
    """The ranks that answer."""
    return ranks.all_say(ranks.rank())


if __name__ == "__main__":
    print(launch(seen, int(sys.argv[1]), int(sys.argv[2]), "cpu"))
