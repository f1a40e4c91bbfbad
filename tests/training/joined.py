"""Processes as torchrun and srun begin them: each says which others it sees."""

from __future__ import annotations

import os

from ucseg import ranks
from ucseg.cli.launch import launch


def seen(devices: int, nodes: int) -> list[int]:
    """The ranks that answer."""
    return launch(_answering, devices, nodes, "cpu")


def _answering() -> list[int]:
    return ranks.all_say(ranks.rank())


def by_torchrun(processes: int) -> list[list[int]]:
    """What each of the processes has seen that `torchrun --nproc-per-node` begins with these words, but for its script.

    torchrun's own part is as it is, with the variables that it sets. A script would import torch in each process.
    """
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    words = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--nproc-per-node={processes}", "no_script.py"]
    config, _, _ = config_from_args(parse_args(words))
    config.start_method = "forkserver"
    results = elastic_launch(config, seen)(processes, 1)
    return [results[rank] for rank in sorted(results)]


def by_srun(variables: dict[str, str]) -> list[int]:
    """What one process on each of two machines has seen, one of which finds these variables of SLURM."""
    os.environ |= {f"SLURM_{name}": value for name, value in variables.items()}
    return seen(1, 2)
