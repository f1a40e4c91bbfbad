"""`ucseg train` with an encoder of known weights: they are loaded once, reported, and not needed again."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import ucseg
from refusals import refused
from ucseg.networks import build_network
from ucseg.training.checkpoint import load_method
from ucseg.types import Problem

SMALL = ["plan.size=[32, 32]", "plan.patch=[32, 32]", "plan.token=[8, 8]", "plan.labelled_batch=2", "plan.strides=[2]"]
STEM = "backbone.conv_stem.weight"


def test_weights_of_a_file_are_loaded_before_training_and_only_then(
    scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    file, run = tmp_path / "weights.safetensors", tmp_path / "run"
    network = build_network("effnet_lite0", Problem(2, 3, 2, (32, 32), (8, 8)))
    save_file({name: value.contiguous() for name, value in network.backbone.state_dict().items()}, file)
    words = {"method": "supervised", "steps": 1, "workers": 0, "device": "cpu"}
    settings = [*SMALL, f"method.networks=[effnet_lite0:{file}]", "lr=1e-12"]
    ucseg.train(scans, run, set=settings, **words)
    (text,) = [text for kind, text in said if kind == "encoder-weights"]
    assert str(file) in text and "240 of its 240" in text
    colours = network.state_dict()[STEM].sum(dim=1, keepdim=True)  # the scans are grey
    trained = load_file(run / "last.safetensors")[f"networks.effnet_lite0.{STEM}"]
    torch.testing.assert_close(trained, colours)

    file.unlink()
    said.clear()
    ucseg.train(scans, run, resume=True)
    assert "encoder-weights" not in [kind for kind, _ in said]
    torch.testing.assert_close(load_method(run)[0].state_dict()[f"networks.effnet_lite0.{STEM}"], trained)
    said.clear()
    more = {**words, "init": str(run)}
    save_file({name: value.contiguous() for name, value in network.backbone.state_dict().items()}, file)
    ucseg.train(scans, tmp_path / "more", set=settings, **more)  # the run's weights replace those of the file
    assert [kind for kind, _ in said if kind in ("encoder-weights", "started-from")] == ["started-from"]
    file.unlink()
    with refused("init-missing", naming=file):
        ucseg.train(scans, tmp_path / "again", set=settings, **words)
    assert not (tmp_path / "again").exists()
