"""PyMIC's own training and inference, on a CPU and without torchvision; started by against_pymic.py.

    PYMIC_PYTHON benchmarks/pymic_agent.py train|test CONFIG

Runs in the environment of requirements-pymic.txt and does what `pymic_train CONFIG` and `pymic_test CONFIG` do.
Replaced are CUDA devices, the only ones that PyMIC 0.6.2 names, and torchvision, of which segmentation uses only
`transforms.Compose`. So are the modules of `UNUSED`, which are or import packages that PyMIC does not ask for.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

UNUSED = {
    "pymic.net.transformer.transunet": "TransUNet",
    "pymic.net.transformer.swinunet": "SwinUNet",
    "pymic.net.transformer.unetr": "UNETR",
    "pymic.net.transformer.unetr_pp": "UNETR_PP",
    "imops": "crop_to_box",
}
"""Modules that are not needed here -> the name that PyMIC imports from them."""


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, sample: Any) -> Any:
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class TorchOnCPU:
    """torch, whose every device is the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, _name: str) -> torch.device:
        return torch.device("cpu")


def stand_in(name: str, parts: Mapping[str, Any]) -> None:
    """Let `import name` give a module that holds `parts`."""
    module = ModuleType(name)
    vars(module).update(parts)
    sys.modules[name] = module


def main() -> None:
    """See the module's docstring."""
    stage, config_file = sys.argv[1:]
    stand_in("torchvision.transforms", {"Compose": Compose})
    stand_in("torchvision", {"transforms": sys.modules["torchvision.transforms"]})
    for name, part in UNUSED.items():
        stand_in(name, {part: None})

    from pymic.net_run import agent_seg
    from pymic.net_run.semi_sup import SSLMethodDict
    from pymic.util.parse_config import parse_config, synchronize_config

    agent_seg.torch = TorchOnCPU()
    # Its CPS logs figures that it has not, and stops; the base class logs those that it has.
    SSLMethodDict["CPS"].write_scalars = agent_seg.SegmentationAgent.write_scalars
    config = synchronize_config(parse_config(argparse.Namespace(cfg=config_file)))
    folder = Path(config["training"]["ckpt_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / f"{stage}.log", level=logging.INFO, format="%(message)s", force=True)
    torch.set_num_threads(1)
    agent = agent_seg.SegmentationAgent
    if stage == "train" and config["dataset"]["supervise_type"] == "semi_sup":
        agent = SSLMethodDict[config["semi_supervised_learning"]["method_name"]]
    agent(config, stage).run()


if __name__ == "__main__":
    main()
