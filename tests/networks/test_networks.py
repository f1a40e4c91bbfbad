"""The two subnets are those of the paper, in 2D and in 3D, and take images of any size."""

from __future__ import annotations

import ast
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ucseg
from refusals import refused
from ucseg.networks import NETWORKS, build_network
from ucseg.networks.blocks import (
    CHANNELS_LAST,
    InstanceNorm,
    StepUp,
    crop_to,
    pad_to_multiple,
    up_sample,
)
from ucseg.networks.coarse_unet import CoarseUNet
from ucseg.networks.cpu import Dropout, VolumeConv, max_pool
from ucseg.networks.levels import concatenate
from ucseg.networks.unet import ThinUNet
from ucseg.types import Problem, Strides

EVERY_NETWORK = pytest.mark.parametrize("name", list(NETWORKS))
BOTH_RANKS = pytest.mark.parametrize("dims", [2, 3])
WIDTHS = (16, 32, 64, 128, 256)


def widths(name: str, width: int = WIDTHS[0], channels: int = 2) -> tuple[int, ...]:
    """Channels of a network's levels: those of the problem, or half of them; first the image where it is coarse."""
    if name == "unet_coarse":
        return (channels, *(width * 2**level for level in range(len(WIDTHS) - 1)))
    return tuple(width * 2**level // (2 if name == "unet_thin" else 1) for level in range(len(WIDTHS)))


CONVOLUTION = (nn.Conv2d, nn.Conv3d)
SOURCE = Path(ucseg.__file__).parent


@pytest.fixture(autouse=True)
def _thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual encoder with few weights: in its own size, a test of it takes many seconds."""
    monkeypatch.setattr("ucseg.networks.resenc.WIDTHS", WIDTHS)
    monkeypatch.setattr("ucseg.networks.resenc.BLOCKS", (1, 2, 1, 1, 2))


def make(name: str, dims: int, classes: int = 3, channels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return build_network(name, Problem(dims, channels, classes, (32,) * dims, (8,) * dims))


@EVERY_NETWORK
@BOTH_RANKS
def test_logits_on_the_images_grid_and_five_feature_maps_each_half_of_the_one_above(name: str, dims: int) -> None:
    network = make(name, dims).eval()
    shape = (48, 32) if dims == 2 else (32, 16, 16)
    with torch.no_grad():
        logits, features = network(torch.randn(1, 2, *shape))
    assert logits.shape == (1, 3, *shape) and logits.dtype == torch.float32
    assert [tuple(f.shape) for f in features] == [
        (1, width, *(size // 2**level for size in shape)) for level, width in enumerate(widths(name))
    ]
    assert network.widths == widths(name)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resenc"])  # its checkpoints have their widths
@BOTH_RANKS
def test_a_problem_says_how_wide_networks_are(name: str, dims: int) -> None:
    network = build_network(name, Problem(dims, 1, 2, (32,) * dims, (8,) * dims, width=24)).eval()
    with torch.no_grad():
        logits, features = network(torch.randn(1, 1, *(32,) * dims))
    assert logits.shape[1] == 2
    assert tuple(one.shape[1] for one in features) == network.widths == widths(name, 24, 1)


@EVERY_NETWORK
def test_strides_say_how_many_levels_there_are_and_which_axes_each_step_shrinks(name: str) -> None:
    strides = ((2, 2, 1), (2, 2, 2), (1, 2, 1))
    network = build_network(name, Problem(3, 1, 2, (16, 32, 8), (4, 4, 4), strides=strides)).eval()
    with torch.no_grad():
        logits, features = network(torch.randn(1, 1, 16, 32, 7))
    assert logits.shape == (1, 2, 16, 32, 7)
    grids = [(16, 32, 8), (8, 16, 8), (4, 8, 4), (4, 4, 4)]
    assert [tuple(f.shape[1:]) for f in features] == [
        (w, *g) for w, g in zip(widths(name, channels=1), grids, strict=False)
    ]


@pytest.mark.parametrize("name", ["unet", "vnet"])
def test_the_default_strides_written_out_are_the_default_weights(name: str) -> None:
    torch.manual_seed(0)
    written = build_network(name, Problem(2, 2, 3, (32, 32), (8, 8), strides=((2, 2),) * 4))
    pairs = zip(make(name, 2).state_dict().items(), written.state_dict().items(), strict=True)
    assert all(one == other and torch.equal(x, y) for (one, x), (other, y) in pairs)


@EVERY_NETWORK
@BOTH_RANKS
def test_any_size_works_down_to_one_voxel(name: str, dims: int) -> None:
    network = make(name, dims).eval()
    for shape in ((37, 21), (3, 50), (1, 1)) if dims == 2 else ((5, 17, 9), (1, 1, 1)):
        with torch.no_grad():
            logits, features = network(torch.randn(1, 2, *shape))
        assert logits.shape == (1, 3, *shape)
        assert bool(torch.isfinite(logits).all()) and len(features) == 5


@EVERY_NETWORK
def test_a_size_that_needs_no_padding_is_what_padding_by_hand_gives(name: str) -> None:
    network = make(name, 2).eval()
    image = torch.randn(1, 2, 27, 32)
    padded = torch.cat([image, image[:, :, -1:].expand(-1, -1, 5, -1)], dim=2)
    with torch.no_grad():
        torch.testing.assert_close(network(image)[0], network(padded)[0][:, :, :27])


@pytest.mark.parametrize("shape", [(5, 7), (2, 9, 4)])
def test_padding_repeats_the_last_values_and_cropping_takes_it_back(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *shape)
    padded = pad_to_multiple(x, (4,) * len(shape))
    assert [size % 4 for size in padded.shape[2:]] == [0] * len(shape)
    assert torch.equal(crop_to(padded, shape), x)
    index = [torch.arange(size).clamp_max(old - 1) for size, old in zip(padded.shape[2:], shape, strict=True)]
    expected = x[(slice(None), slice(None), *torch.meshgrid(*index, indexing="ij"))]
    assert torch.equal(padded, expected)


@BOTH_RANKS
def test_unet_has_two_normed_convolutions_a_level_and_the_published_dropout(dims: int) -> None:
    network = make("unet", dims)
    norm = nn.BatchNorm2d if dims == 2 else InstanceNorm
    activation = nn.LeakyReLU if dims == 2 else nn.ReLU
    blocks = [*network.encoder, *network.decoder.blocks]
    assert len(blocks) == 9
    for block, width in zip(blocks, (*WIDTHS, *WIDTHS[-2::-1]), strict=True):
        layers = list(block.modules())
        convolutions = [m for m in layers if isinstance(m, CONVOLUTION)]
        assert [(set(c.kernel_size), c.out_channels) for c in convolutions] == [({3}, width)] * 2
        assert sum(isinstance(m, norm) for m in layers) == sum(isinstance(m, activation) for m in layers) == 2
    rates = [next(m.p for m in block.modules() if isinstance(m, nn.Dropout)) for block in network.encoder]
    assert rates == ([0.05, 0.1, 0.2, 0.3, 0.5] if dims == 2 else [0.0, 0.0, 0.0, 0.0, 0.3])
    assert network.decoder.head_dropout.p == (0.0 if dims == 2 else 0.3)
    without = build_network("unet", Problem(dims, 2, 3, (32,) * dims, (8,) * dims, dropout=False))
    assert {m.p for m in without.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert not any(isinstance(m, StepUp) for m in network.modules())


@BOTH_RANKS
def test_vnet_has_one_two_three_convolutions_a_level_no_norm_and_strided_steps(dims: int) -> None:
    network = make("vnet", dims)
    counts = [
        [sum(isinstance(m, CONVOLUTION) for m in stack) for stack in side]
        for side in (network.encoder, network.decoder)
    ]
    assert counts == [[1, 2, 3, 3, 3], [3, 3, 2, 1]]
    for stack in [*network.encoder, *network.decoder]:
        kernels = [set(m.kernel_size) for m in stack if isinstance(m, CONVOLUTION)]
        assert all(kernel == {3} for kernel in kernels)
    for step in [*network.down, *network.up]:
        assert set(step[0].kernel_size) == set(step[0].stride) == {2}
    assert not any("Norm" in type(m).__name__ or isinstance(m, nn.Dropout) for m in network.modules())


def test_vnet_adds_its_skips() -> None:
    """With everything below cut off, the decoder sees the encoder's features themselves."""
    network = make("vnet", 2).eval()
    seen: list[Tensor] = []
    network.decoder[-1][0].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        nn.init.zeros_(network.up[-1][0].weight)
        _, features = network(torch.randn(1, 2, 32, 32))
    torch.testing.assert_close(seen[0], features[0])


@pytest.mark.parametrize("name", ["unet", "unet_strided"])
def test_in_prediction_a_joined_map_is_free_after_its_first_convolution(name: str) -> None:
    network = make(name, 3).eval()
    image = torch.randn(1, 2, 32, 16, 16)
    seen, freed = [], []
    layers, finest = list(network.modules()), (2 * WIDTHS[0], WIDTHS[0], (3, 3, 3))
    first = next(
        m for m in layers if isinstance(m, VolumeConv) and (m.in_channels, m.out_channels, m.kernel_size) == finest
    )
    norm = layers[layers.index(first) + 1]
    first.register_forward_pre_hook(lambda _module, inputs: seen.append(weakref.ref(inputs[0])))
    norm.register_forward_pre_hook(lambda *_: freed.append(seen[0]() is None))
    with torch.inference_mode():
        alone, _ = network(image)
    assert freed == [True]
    torch.testing.assert_close(alone, network(image)[0])


def test_in_prediction_a_joined_map_lies_as_convolutions_read_it() -> None:
    skip = torch.randn(1, 2, 4, 4, 4).to(memory_format=CHANNELS_LAST[3])
    below = torch.randn(1, 3, 4, 4, 4)
    with torch.inference_mode():
        joined = concatenate(below, skip)
    assert joined.is_contiguous(memory_format=CHANNELS_LAST[3])
    assert torch.equal(joined, torch.cat([skip, below], dim=1))


@BOTH_RANKS
def test_vnet_starts_by_he_so_that_depth_without_norm_keeps_the_scale(dims: int) -> None:
    network = make("vnet", dims)
    for module in network.modules():
        if isinstance(module, CONVOLUTION) and module.weight.numel() > 5000:
            fan_in = module.in_channels * 3**dims if module.kernel_size[0] == 3 else module.in_channels * 2**dims
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
            assert module.bias is not None and not module.bias.any()
    shape = (64, 64) if dims == 2 else (32, 32, 16)
    with torch.no_grad():
        _, features = network(torch.randn(1, 2, *shape))
    # Of the upper levels: on the lowest grids of a small image most of what a kernel sees is zero padding.
    sizes = [float(f.pow(2).mean().sqrt()) for f in features[:3]]
    assert all(0.5 < size < 2 for size in sizes), sizes


@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 3)])
def test_instance_norm_is_torchs(shape: tuple[int, ...]) -> None:
    ours, theirs = InstanceNorm(4), (nn.InstanceNorm2d if len(shape) == 2 else nn.InstanceNorm3d)(4, affine=True)
    with torch.no_grad():
        for module in (ours, theirs):
            module.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
            module.bias.copy_(torch.tensor([0.0, 1.0, 2.0, -3.0]))
    x = 3 + 2 * torch.randn(2, 4, *shape)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    # Statistics are in float32 whatever the input: what is left is the rounding of the output.
    half = ours(x.bfloat16()).float()
    torch.testing.assert_close(half, theirs(x.bfloat16().float()), rtol=1e-2, atol=1e-2)


def test_instance_norm_of_a_single_voxel_is_the_shift() -> None:
    """The lowest level of a scan of 16 voxels an axis, predicted one at a time, has one voxel."""
    module = InstanceNorm(3)
    with torch.no_grad():
        module.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    # Up to what a variance of 1e-5 makes of float32's rounding.
    shift = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(module(torch.randn(1, 3, 1, 1, 1)).flatten(), shift, rtol=0, atol=1e-3)


@BOTH_RANKS
def test_a_step_up_starts_with_the_scale_of_a_convolution_of_one_voxel(dims: int) -> None:
    torch.manual_seed(0)
    step_up, convolution = StepUp(dims, 64, 32, (2,) * dims), (nn.Conv2d, nn.Conv3d)[dims - 2](64, 32, 1)
    x = torch.randn(2, 64, *(6,) * dims)
    with torch.no_grad():
        assert float(step_up(x).std()) == pytest.approx(float(convolution(x).std()), rel=0.1)


@pytest.mark.parametrize("step", [(2, 2), (1, 2, 2), (2, 1, 3)])
def test_a_step_up_is_torchs_transposed_convolution_in_both_layouts(step: tuple[int, ...]) -> None:
    dims, grid = len(step), (3, 5, 4)[: len(step)]
    module = StepUp(dims, 4, 6, step).double()
    transposed = F.conv_transpose2d if dims == 2 else F.conv_transpose3d
    found = []
    for layout in (torch.contiguous_format, CHANNELS_LAST[dims]):
        x = torch.randn(2, 4, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x = x.contiguous(memory_format=layout).requires_grad_()
        for say in (module, lambda x: transposed(x, module.weight, module.bias, module.stride)):
            y = say(x)
            inputs = [x, module.weight, module.bias]
            found.append([y, *torch.autograd.grad((y * torch.arange(y.numel()).reshape(y.shape).sin()).sum(), inputs)])
        assert found[-2][0].is_contiguous(memory_format=layout)
    for one in found[1:]:
        for ours, theirs in zip(one, found[0], strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_dropout_drops_at_its_rate_keeps_the_mean_and_lets_the_gradient_of_what_stays_through(
    rate: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    shape = (3, 5, 31, 37, 11)
    x = torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = Dropout(rate)(x)
    kept = y != 0
    assert abs(kept.float().mean() - (1 - rate)) < 4 * (rate * (1 - rate) / x.numel()) ** 0.5
    assert torch.allclose(y[kept].float(), torch.tensor(1 / (1 - rate)), rtol=1e-2 if dtype == torch.bfloat16 else 1e-4)
    # No pattern by image, channel or voxel, as reused bits would make.
    for axes in ((1, 2, 3, 4), (0, 2, 3, 4), (0, 1, 3, 4), (0, 1, 2, 4)):
        assert (kept.float().mean(dim=axes) - (1 - rate)).abs().max() < 0.05
    neighbours = kept.permute(0, 2, 3, 4, 1).flatten().float()
    for apart in (1, 2, 3, 4, 8):
        assert abs(torch.corrcoef(torch.stack([neighbours[apart:], neighbours[:-apart]]))[0, 1]) < 0.02
    assert y.stride() == x.stride()
    y.backward(torch.full_like(y, 2.0))
    torch.testing.assert_close(x.grad, 2 * y.detach())


def test_dropout_is_a_function_of_the_seed_and_not_of_the_threads() -> None:
    threads, drawn = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            torch.manual_seed(7)
            drawn.append(Dropout(0.3)(torch.ones(2, 16, 64, 64)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], Dropout(0.3)(torch.ones(2, 16, 64, 64)))
    assert torch.equal(Dropout(0.0)(torch.ones(9)), torch.ones(9))
    assert torch.equal(Dropout(1.0)(torch.ones(9)), torch.zeros(9))


@pytest.mark.parametrize("grid", [(8, 6), (8, 6, 4)])
def test_pooling_stays_in_bf16_and_finds_what_fp32_finds(grid: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *grid).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = max_pool(x, 2)
    torchs = F.max_pool2d if len(grid) == 2 else F.max_pool3d
    assert found.dtype == torch.bfloat16 and torch.equal(found.float(), torchs(x.float(), 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_up_sampling_behind_a_concatenation_has_torchs_gradient(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    skip = torch.randn(2, 3, 8, 6, 10, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(2, 6, 8, 6, 10, dtype=torch.float64)
    theirs = F.interpolate(x, size=(8, 6, 10), mode="trilinear", align_corners=False)
    gradients = [
        torch.autograd.grad((torch.cat([skip, up], dim=1) * weight).sum(), x)[0]
        for up in (up_sample(x, (8, 6, 10), "linear"), theirs)
    ]
    torch.testing.assert_close(*gradients)


@EVERY_NETWORK
@pytest.mark.parametrize("shape", [(32, 32), (32, 48, 32), (16, 32, 32), (48, 16, 64)])
def test_bf16_weight_gradients_are_those_of_fp32(
    name: str, shape: tuple[int, ...], need_bf16: Callable[[int], None]
) -> None:
    """At every lowest grid: oneDNN's own are wrong for some of them, and training would follow noise."""
    need_bf16(len(shape))
    network = make(name, len(shape)).eval()
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            nn.init.ones_(module.weight)  # residual blocks start as their skips, and nothing would reach them
    image = torch.randn(2, 2, *shape)
    gradients = []
    for bf16 in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, _ = network(image)
        logits.logsumexp(dim=1).mean().backward()
        # No vectors: before a norm, the gradient of a bias is rounding alone.
        found = {key: p.grad for key, p in network.named_parameters() if p.ndim > 1}
        gradients.append({key: gradient.clone() for key, gradient in found.items() if gradient is not None})
    exact, rounded = gradients
    for key, gradient in exact.items():
        size = gradient.norm()
        # Rounding alone comes to 1.2 of it behind many instance norms, which leave this loss little to gain.
        assert (rounded[key] - gradient).norm() <= 2 * size + 1e-6, key


@EVERY_NETWORK
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_a_single_volume_in_float32_is_convolved_by_onednn(name: str) -> None:
    """torch would unfold it in the first layer and on the lower levels, which doubles the time of a prediction."""
    network, image = make(name, 3).eval(), torch.randn(1, 2, 32, 48, 32)
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as made:
        network(image)
    called = [event.name for event in made.events()]
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    wide = [module for module in convolutions if module.kernel_size[0] == 3 and module.stride[0] == 1]
    assert called.count("aten::mkldnn_convolution") >= len(wide)
    # The rest have strides, for which it makes no difference.
    assert called.count("aten::slow_conv3d_forward") <= len(convolutions) - len(wide)


@pytest.mark.parametrize("slices", [3, 6, 7])
@pytest.mark.parametrize("edge", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"dilation": 2}, {"dilation": (1, 2, 2)}, {"stride": 2}, {"stride": (1, 2, 2)}, {"groups": 4}),
        *({"padding": "same"}, {"padding": "valid"}, {"padding_mode": "reflect"}),
    ],
    ids=str,
)
def test_a_single_volume_is_convolved_as_one_of_several(edge: int, settings: dict[str, Any], slices: int) -> None:
    torch.manual_seed(0)
    layer = VolumeConv(8, 4, edge, **({"padding": edge // 2} | settings))
    images = torch.randn(2, 8, slices + edge, 6 + edge, 7 + edge)
    outputs, gradients = (layer(images)[:1], layer(images[:1])), []
    for out in outputs:
        layer.zero_grad()
        out.square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@BOTH_RANKS
def test_dropout_is_off_in_evaluation_and_on_in_training(dims: int) -> None:
    network, image = make("unet", dims), torch.randn(2, 2, *((32, 32) if dims == 2 else (32, 16, 16)))
    with torch.no_grad():
        assert not torch.equal(network(image)[0], network(image)[0])
        network.eval()
        assert torch.equal(network(image)[0], network(image)[0])


@BOTH_RANKS
def test_v_net_with_norms_does_not_depend_on_the_scale_of_its_image_and_v_net_does(dims: int) -> None:
    image = torch.randn(2, 2, *(32,) * dims)
    for name, same in (("vnet_norm", True), ("vnet", False)):
        network = make(name, dims)
        maps, larger = network(image)[1], network(20 * image)[1]
        assert all(torch.allclose(a, b, atol=0.02) for a, b in zip(maps, larger, strict=True)) is same


def test_only_one_file_of_the_networks_depends_on_the_device_being_a_cpu() -> None:
    files = [
        file for room in ("networks", "losses", "methods", "method_parts") for file in (SOURCE / room).glob("*.py")
    ]
    asking = [
        file.name
        for file in files
        if any(isinstance(node, ast.Constant) and node.value == "cpu" for node in ast.walk(ast.parse(file.read_text())))
    ]
    assert {*asking} == {"cpu.py", "components.py"}  # the second one copies masks to the host


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with refused("network-unknown", naming=["resnet", *NETWORKS]):
        make("resnet", 2)


@pytest.mark.parametrize(("dims", "kind"), [(2, ThinUNet), (3, CoarseUNet)])
def test_the_light_network_is_what_costs_little_in_its_rank(dims: int, kind: type[nn.Module]) -> None:
    assert type(make("unet_light", dims)) is kind


@pytest.mark.parametrize("strides", [(), ((1, 2, 2),), ((1, 2, 2), (2, 2, 2))], ids=str)
def test_a_coarse_network_has_the_levels_of_the_plan(strides: Strides) -> None:
    problem = Problem(3, 1, 2, (8, 16, 16), (4, 4, 4), strides=strides, width=4)
    network = build_network("unet_coarse", problem)
    logits, features = network(torch.randn(1, 1, 7, 15, 16))
    logits.sum().backward()
    assert logits.shape == (1, 2, 7, 15, 16)
    whole = build_network("unet", problem)(torch.randn(1, 1, 7, 15, 16))[1]
    assert [one.shape[2:] for one in features][: len(whole)] == [one.shape[2:] for one in whole]


def test_a_coarse_network_sees_means_and_is_the_networks_below_them() -> None:
    network = make("unet_coarse", 2).eval()
    image = torch.randn(1, 2, 32, 48)
    means = image.reshape(1, 2, 16, 2, 24, 2).mean(dim=(3, 5))
    with torch.no_grad():
        expected = F.interpolate(network.network(means)[0], scale_factor=2, mode="bilinear")
        torch.testing.assert_close(network(image)[0], expected)
