"""`--set compile=true`: networks are one graph each where a GPU would compute them, and compute the same."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch

from refusals import refused
from ucseg.methods import build_method
from ucseg.networks import NETWORKS, build_network
from ucseg.training.compiled import compile_networks
from ucseg.types import Problem

FLAT = Problem(2, 1, 2, (16, 16), (8, 8), strides=((2, 2),), width=4, norm="instance")
VOLUME = Problem(3, 1, 2, (8, 8, 8), (4, 4, 4), strides=((2, 2, 2),), width=4)


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that is no CPU: networks take the way of a GPU. Autocast does not know it."""
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if device_type == "meta" else real(device_type, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", autocast)
    torch._dynamo.reset()
    return torch.device("meta")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *((name, replace(FLAT, width=16 if name == "swin_unet" else 4)) for name in NETWORKS),
        *((name, VOLUME) for name in ("unet", "unet_strided")),
        ("unet", replace(FLAT, patch=(32, 32), encoder="effnet_lite0")),
    ],
    ids=str,
)
def test_a_network_has_no_graph_break_off_the_cpu(name: str, problem: Problem, meta: torch.device) -> None:
    network = build_network(name, problem).to(meta).train()
    found = torch._dynamo.explain(network)(torch.zeros(2, 1, *problem.patch, device=meta))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_a_compiled_method_computes_the_same_and_predicts_without_the_compiler() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    method = build_method("supervised", {"networks": ("vnet",)}, FLAT)
    network = method.networks["vnet"]  # type: ignore[union-attr, index]
    image = torch.randn(2, 1, 16, 16)
    plain, names = network(image)[0], list(method.state_dict())
    compile_networks(method, backend="eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.testing.assert_close(network.eval()(image)[0], plain)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    torch.testing.assert_close(network.train()(image)[0], plain)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    assert list(method.state_dict()) == names


def test_many_sizes_of_images_stay_compiled() -> None:
    torch._dynamo.reset()
    method = build_method("supervised", {"networks": ("vnet", "vnet_norm")}, FLAT)
    compile_networks(method, backend="eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for network in method.train().networks.values():  # type: ignore[union-attr, operator]
        for count in range(1, 7):
            network(torch.randn(count, 1, 16, 16))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 12


def test_where_nothing_can_be_compiled_a_sentence_says_so() -> None:
    torch._dynamo.reset()

    def broken(*_: object) -> Any:
        raise RuntimeError("no compiler")

    method = build_method("supervised", {}, FLAT)
    compile_networks(method, backend=broken)  # type: ignore[arg-type]
    with refused("compile-failed", naming="compile=true"):
        method.train().networks["unet"](torch.randn(2, 1, 16, 16))  # type: ignore[union-attr, index]
