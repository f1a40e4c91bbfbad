"""MONAI's networks work wherever a setting names a network; what is missing is one clear sentence."""

from __future__ import annotations

import sys

import pytest
import torch

from refusals import refused
from ucseg.config import parse_overrides
from ucseg.methods import build_method
from ucseg.networks import build_network, member_names
from ucseg.networks.monai_networks import ARGUMENTS, MonaiNetwork
from ucseg.types import Batch, Problem, Progress

WITHOUT_FEATURES = {"ife_weight": 0.0, "ic_weight": 0.0}


@pytest.fixture
def monai() -> None:
    pytest.importorskip("monai", reason="MONAI is not installed: pip install 'ucseg[monai]'")


def problem(dims: int, channels: int = 1) -> Problem:
    return Problem(dims, channels, 3, (32,) * dims, (8,) * dims)


@pytest.mark.usefixtures("monai")
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_every_named_network_takes_any_size_and_every_parameter_is_trained(name: str, dims: int) -> None:
    torch.manual_seed(0)
    network = build_network(f"monai:{name}", problem(dims, channels=2))
    shape = (37, 21) if dims == 2 else (17, 10, 5)
    logits, features = network(torch.randn(1, 2, *shape))
    assert logits.shape == (1, 3, *shape) and logits.dtype == torch.float32
    assert tuple(f.shape[1] for f in features) == network.widths
    logits.logsumexp(dim=1).pow(2).mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), key
    network.eval()
    with torch.no_grad():
        assert network(torch.randn(1, 2, *(1,) * dims))[0].shape == (1, 3, *(1,) * dims)


@pytest.mark.usefixtures("monai")
def test_swin_unetr_shows_its_encoder_and_each_map_is_half_of_the_one_above() -> None:
    network = build_network("monai:SwinUNETR", problem(2)).eval()
    assert network.widths == (24, 48, 96, 192, 384)
    for _ in range(2):  # nothing is left over from an earlier pass
        with torch.no_grad():
            _, features = network(torch.randn(1, 1, 64, 96))
        assert [tuple(f.shape[2:]) for f in features] == [(64 // 2**k, 96 // 2**k) for k in range(1, 6)]


@pytest.mark.usefixtures("monai")
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("cps", {"networks": ["unet", "monai:UNet"]}),
        ("mean_teacher", {"network": "monai:SegResNet"}),
        ("supervised", {"networks": ["monai:UNet", "vnet"]}),
        ("uc_seg", {"subnets": ["unet", "monai:UNet"], **WITHOUT_FEATURES}),
        ("uc_seg", {"subnets": ["monai:SwinUNETR", "vnet"], "ic_weight": 0.0}),
    ],
)
def test_methods_take_them(method: str, settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    built = build_method(method, settings, problem(2)).train()
    image, label = torch.randn(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    output = built.step(Batch(image, label, dict.fromkeys(built.views, image)), Progress(99, 100)).whole()
    output.loss.backward()
    assert bool(torch.isfinite(output.loss))
    built.after_update(Progress(99, 100))
    with torch.no_grad():
        prediction = built.eval().predict(image)
    assert prediction.probabilities.shape == (2, 3, 32, 32)
    assert not any(":" in member for member in prediction.members)


@pytest.mark.usefixtures("monai")
def test_uc_seg_refuses_networks_whose_features_its_terms_cannot_compare() -> None:
    with refused("subnet-without-maps", naming=["monai:UNet", "ife_weight=0", "ic_weight=0"]):
        build_method("uc_seg", {"subnets": ["unet", "monai:UNet"]}, problem(2))
    with refused("subnet-widths", naming=["monai:SwinUNETR", "ic_weight=0"]):
        build_method("uc_seg", {"subnets": ["unet", "monai:SwinUNETR"], "ic_weight": 0.1}, problem(2))


@pytest.mark.usefixtures("monai")
def test_the_lowest_grids_of_two_slices_have_right_gradients_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as MONAI has it where there are two slices, thin above: some processors emulate bf16."""
    torch.manual_seed(0)
    levels = {"filters": [4, 16, 320], "kernel_size": [3] * 3, "strides": [1, 4, 4], "upsample_kernel_size": [4, 4]}
    monkeypatch.setitem(ARGUMENTS, "DynUNet", levels)
    network, image, gradients = build_network("monai:DynUNet", problem(3)), torch.randn(1, 1, 32, 32, 32), []
    for half in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits, _ = network(image)
        logits.logsumexp(dim=1).mean().backward()
        gradients.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
    for key, gradient in gradients[0].items():
        assert (gradients[1][key] - gradient).norm() <= gradient.norm() + 1e-6, key


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    monkeypatch.setitem(sys.modules, "monai", None)
    with refused("monai-missing", naming=["monai:UNet", "pip install 'ucseg[monai]'"]):
        build_network("monai:UNet", problem(2))


def test_an_unknown_class_is_refused_with_near_ones() -> None:
    with refused("monai-network", naming=["monai:SwinUNet", "monai:SwinUNETR?"]):
        MonaiNetwork("SwinUNet", problem(2))
    with refused("monai-network", naming=["monai:xyz", *(f"monai:{known}" for known in ARGUMENTS)]):
        MonaiNetwork("xyz", problem(2))


def test_the_name_can_be_given_on_the_command_line_and_names_a_folder() -> None:
    given = parse_overrides(["method.networks=[unet,monai:SwinUNETR]"])
    assert given == {"method": {"networks": ["unet", "monai:SwinUNETR"]}}
    assert member_names(["monai:UNet", "monai:UNet", "unet"]) == ["monai_UNet", "monai_UNet_2", "unet"]
