"""Weights of any file go where they fit, and a file that is no weights gives one sentence."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refusals import refused
from ucseg.networks import build_network, build_networks
from ucseg.networks.weights import fit_by_names, fit_networks, places, read_weights
from ucseg.types import Problem

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def problem(channels: int = 1, classes: int = 2) -> Problem:
    return Problem(2, channels, classes, (16, 16), (8, 8), strides=((2, 2),))


@pytest.mark.parametrize(
    "saved",
    [
        TENSORS,
        {"state_dict": {f"module.{name}": value for name, value in TENSORS.items()}, "epoch": 3},
        {"network_weights": TENSORS | {"decoder.seg_layers.0.weight": torch.ones(1)}, "plan": {"key": ["x"]}},
        {"model": {f"_orig_mod.{name}": value for name, value in TENSORS.items()}},
    ],
    ids=["plain", "lightning", "nnssl", "compiled"],
)
@pytest.mark.parametrize("archive", [True, False])
def test_a_file_of_torch_save_is_read_whatever_lies_around_the_weights(
    tmp_path: Path, saved: Any, archive: bool
) -> None:
    torch.save(saved, tmp_path / "x.pth", _use_new_zipfile_serialization=archive)
    read = read_weights(tmp_path / "x.pth")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in read)


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_safetensors_are_read_by_any_name(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name)
    assert torch.equal(read_weights(tmp_path / name)["a.weight"], TENSORS["a.weight"])


class Harm:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_file_with_code_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "more": Harm(tmp_path / "harm")}, tmp_path / "x.pth")
    with refused("init-unreadable", naming=tmp_path / "x.pth"):
        read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "harm").exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "x.pth")
    save_file(TENSORS, tmp_path / "x.safetensors")
    for name in ("x.pth", "x.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"not weights", b"PK\x03\x04" + bytes(60)):
            (tmp_path / name).write_bytes(damaged)
            with refused("init-unreadable", naming=tmp_path / name):
                read_weights(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("notes.txt", "no weights")
    with refused("init-unreadable", naming=tmp_path / "x.pth"):
        read_weights(tmp_path / "x.pth")
    with refused("init-missing", naming=tmp_path / "none.pth"):
        read_weights(tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with refused("init-empty", naming=tmp_path / "x.pth"):
        read_weights(tmp_path / "x.pth")


def test_one_network_goes_to_every_network_of_its_kind_and_to_no_other() -> None:
    weights = {f"anywhere.{name}": value for name, value in build_network("unet", problem()).state_dict().items()}
    method = nn.ModuleDict({"networks": build_networks(["unet", "unet", "vnet"], problem(classes=4))})
    fit = fit_networks(method, weights)
    new = places(fit.missing, list(method.state_dict()))
    assert new == ["networks.unet.decoder.head", "networks.unet_2.decoder.head", "networks.vnet"]
    for name in ("unet", "unet_2"):
        first = f"networks.{name}.encoder.0.layers.0.weight"
        assert torch.equal(fit.taken[first], weights["anywhere.encoder.0.layers.0.weight"])
    assert fit_by_names(method, weights).taken == {}


@pytest.mark.parametrize(("given", "own"), [(1, 3), (3, 1), (3, 4)])
def test_a_first_layer_serves_other_channels(given: int, own: int) -> None:
    """An image with the same values in all channels gives the same map."""
    weights = build_network("unet", problem(channels=given)).state_dict()
    fit = fit_networks(nn.ModuleDict({"network": build_network("unet", problem(channels=own))}), weights)
    assert fit.missing == []
    name, grey = "encoder.0.layers.0.weight", torch.randn(1, 1, 5, 5)
    maps = [
        nn.functional.conv2d(grey.expand(-1, count, -1, -1), layer)
        for count, layer in ((given, weights[name]), (own, fit.taken[f"network.{name}"]))
    ]
    torch.testing.assert_close(*maps)


def test_an_encoder_alone_goes_to_the_encoder_of_each_network() -> None:
    weights = {
        f"backbone.{k}": v for k, v in build_network("unet", problem()).get_submodule("encoder").state_dict().items()
    }
    method = nn.ModuleDict({"student": build_network("unet", problem()), "other": build_network("vnet", problem())})
    fit = fit_networks(method, weights)
    assert places(fit.missing, list(method.state_dict())) == ["student.decoder", "other"]
    assert torch.equal(fit.taken["student.encoder.0.layers.0.weight"], weights["backbone.0.layers.0.weight"])


def test_places_are_the_shortest_prefixes_that_hold_nothing_else() -> None:
    of = ["a.b.x", "a.b.y", "a.c.x", "a.cc.x", "d"]
    assert places(["a.b.x", "a.b.y"], of) == ["a.b"]
    assert places(["a.b.y", "d"], of) == ["a.b.y", "d"]
    assert places(["a.c.x"], of) == ["a.c"]
    assert places(of, of) == ["a", "d"]
    assert places([], of) == []
