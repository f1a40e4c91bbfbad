"""UPG (docs/methods/uc_seg.md) written out: tokens, heads, voxels and channels in loops, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ucseg.networks.pseudo_label_generator import Gate, PseudoLabelGenerator, UncertaintyAttention

Array = NDArray[np.float64]
Site = tuple[int, ...]


def numbers(x: Tensor) -> Array:
    return x.detach().double().numpy()


def linear(layer: nn.Module, x: Array) -> Array:
    """y_i = sum_j W_ij x_j + b_i."""
    weight = numbers(layer.weight)  # type: ignore[arg-type]
    bias = np.zeros(len(weight)) if layer.bias is None else numbers(layer.bias)  # type: ignore[arg-type]
    return np.array([row @ x + b for row, b in zip(weight, bias, strict=True)])


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def resized_along(values: Array, size: int, axis: int) -> Array:
    """Linear interpolation between voxel centres, edges held."""
    old = values.shape[axis]
    out = []
    for i in range(size):
        place = min(max((i + 0.5) * old / size - 0.5, 0.0), old - 1.0)
        low = int(place)
        high = min(low + 1, old - 1)
        out.append((1 - (place - low)) * values.take(low, axis) + (place - low) * values.take(high, axis))
    return np.stack(out, axis=axis)


def literal_attention(module: UncertaintyAttention, u_query: Array, u_context: Array, token: Site) -> Array:
    """One image: two maps S -> the fusion maps, outputs x S. No dropout: evaluation."""
    shape = u_query.shape
    grid = tuple(-(-n // edge) for n, edge in zip(shape, token, strict=True))
    cells = list(itertools.product(*(range(n) for n in grid)))
    inside = list(itertools.product(*(range(edge) for edge in token)))

    def place(cell: Site, offset: Site) -> Site:
        return tuple(c * edge + o for c, edge, o in zip(cell, token, offset, strict=True))

    position = numbers(module.position)[0]
    for axis, n in enumerate(grid, start=1):
        position = resized_along(position, n, axis)

    def embedded(layer: nn.Module, u: Array) -> list[Array]:
        out = []
        for cell in cells:
            # Beyond the edge of the map its last value goes on.
            voxels = [tuple(min(i, n - 1) for i, n in zip(place(cell, o), shape, strict=True)) for o in inside]
            out.append(linear(layer, np.array([u[v] for v in voxels])) + position[(slice(None), *cell)])
        return out

    asked, context = embedded(module.embed_query, u_query), embedded(module.embed_context, u_context)
    queries = [linear(module.query, x) for x in asked]
    keys, values = [linear(module.key, x) for x in context], [linear(module.value, x) for x in context]
    width = len(queries[0]) // 8
    out = np.zeros(
        (len(numbers(module.to_pixels.bias)) // len(inside), *(n * e for n, e in zip(grid, token, strict=True)))
    )
    for i, cell in enumerate(cells):
        heads: list[float] = []
        for head in range(8):
            part = slice(head * width, (head + 1) * width)
            scores = [sum(queries[i][part] * key[part]) / math.sqrt(width) for key in keys]
            total = sum(math.exp(s) for s in scores)
            mixed = sum(math.exp(s) / total * value[part] for s, value in zip(scores, values, strict=True))
            heads += list(np.asarray(mixed))
        x = linear(module.project, np.array(heads))
        hidden = np.array([gelu(v) for v in linear(module.mlp[0], x)])
        pixels = linear(module.to_pixels, x + linear(module.mlp[2], hidden))
        for index, (output, offset) in enumerate(itertools.product(range(len(out)), inside)):
            out[(output, *place(cell, offset))] = pixels[index]
    return out[(slice(None), *(slice(0, n) for n in shape))]


def vacuities(*shape: int, seed: int) -> Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CASES = [
    pytest.param((8, 12), (4, 4), (8, 12), id="2D"),
    pytest.param((8, 12), (4, 2), (8, 12), id="2D, oblong tokens"),
    pytest.param((8, 8), (4, 4), (7, 13), id="2D, a size that the token does not divide, other than the patch"),
    pytest.param((4, 4, 8), (2, 2, 4), (4, 4, 8), id="3D"),
    pytest.param((4, 4, 4), (2, 4, 2), (5, 3, 6), id="3D, odd"),
]


@pytest.mark.parametrize(("patch", "token", "shape"), CASES)
def test_attention_is_the_literal_one(patch: Site, token: Site, shape: Site) -> None:
    outputs = 2
    torch.manual_seed(0)
    module = UncertaintyAttention(len(patch), patch, token, outputs, 96).double().eval()
    with torch.no_grad():
        module.position.mul_(20)  # large enough to tell where each token is
    u_1, u_2 = vacuities(*shape, seed=1), vacuities(*shape, seed=2)
    found = numbers(module(u_1, u_2))
    assert found.shape == (2, outputs, *shape)
    expected = literal_attention(module, numbers(u_1)[0, 0], numbers(u_2)[0, 0], token)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dims", "width", "embedding", "head"), [(2, None, 96, 64), (3, None, 1024, 128), (3, 96, 96, 64)]
)
def test_widths_are_the_published_ones_unless_given(dims: int, width: int | None, embedding: int, head: int) -> None:
    module = PseudoLabelGenerator(dims, 2, (8,) * dims, (4,) * dims, "softmax", True, attention=width).attention
    assert module.embed_query.out_features == module.embed_context.out_features == embedding
    assert module.position.shape == (1, embedding, *(2,) * dims)
    assert module.query.out_features == module.key.out_features == module.value.out_features == 8 * head
    assert (module.mlp[0].in_features, module.mlp[0].out_features, module.mlp[2].out_features) == (
        embedding,
        384,
        embedding,
    )
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert module.embed_query.in_features == 4**dims


def literal_fusion(module: PseudoLabelGenerator, z: list[Array], a: Array) -> Array:
    """One voxel: both logits (C), both weights -> fused logits, with the running statistics of the norms."""
    weighted = [a[0] * z[0], a[1] * z[1]]
    x = np.concatenate(weighted)
    for layer in module.fusion:
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            weight = numbers(layer.weight).reshape(layer.out_channels, layer.in_channels)
            bias = 0.0 if layer.bias is None else numbers(layer.bias)
            x = np.array([sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]) + bias
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            assert layer.running_mean is not None and layer.running_var is not None
            x = (x - numbers(layer.running_mean)) / np.sqrt(numbers(layer.running_var) + layer.eps)
            x = x * numbers(layer.weight) + numbers(layer.bias)
        else:
            x = np.array([v if v > 0 else 0.2 * v for v in x])
    return x + weighted[0] + weighted[1] if module.residual else x


@pytest.mark.parametrize("gate", ["softmax", "published", "none"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)])
def test_fusion_is_six_pointwise_convolutions_of_the_weighted_logits(gate: Gate, residual: bool, shape: Site) -> None:
    torch.manual_seed(3)
    classes = 3
    module = PseudoLabelGenerator(len(shape), classes, shape, (2,) * len(shape), gate, residual)
    z = [3 * torch.randn(2, classes, *shape) for _ in range(2)]
    u_1, u_2 = (vacuities(*shape, seed=seed).float() for seed in (4, 5))
    with torch.no_grad():
        module.train()(*z, u_1, u_2)  # running statistics that are not the trivial ones
        nn.init.normal_(module.fusion[-1].weight)  # type: ignore[arg-type]
        nn.init.normal_(module.fusion[-1].bias)  # type: ignore[arg-type]
        module.eval()
        found, weights = numbers(module(*z, u_1, u_2)), numbers(module.weights(u_1, u_2))
        maps = None if gate == "none" else numbers(module.attention(u_1, u_2))
    for voxel in itertools.product(range(2), *(range(n) for n in shape)):
        here = (voxel[0], slice(None), *voxel[1:])
        if gate == "softmax":
            assert maps is not None
            e = [math.exp(v) for v in maps[here]]
            a = np.array([v / sum(e) for v in e])
        elif gate == "published":
            assert maps is not None
            a = np.array([maps[here][0]] * 2)
        else:
            a = np.array([0.5, 0.5])
        np.testing.assert_allclose(weights[here], a, rtol=1e-5)
        expected = literal_fusion(module, [numbers(z[0])[here], numbers(z[1])[here]], a)
        np.testing.assert_allclose(found[here], expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_fusion_ends_in_a_plain_convolution_so_that_logits_may_be_negative(dims: int) -> None:
    module = PseudoLabelGenerator(dims, 4, (4,) * dims, (2,) * dims, "softmax", residual=False)
    convolutions = [m for m in module.fusion if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    assert [c.in_channels for c in convolutions] == [8, 16, 32, 64, 32, 16]
    assert [c.out_channels for c in convolutions] == [16, 32, 64, 32, 16, 4]
    assert all(set(c.kernel_size) == {1} for c in convolutions)
    assert module.fusion[-1] is convolutions[-1] and convolutions[-1].bias is not None
    assert [m.negative_slope for m in module.fusion if isinstance(m, nn.LeakyReLU)] == [0.2] * 5


@pytest.mark.parametrize("dims", [2, 3])
def test_with_the_residual_the_module_starts_as_the_weighted_mean_of_both_subnets(dims: int) -> None:
    torch.manual_seed(0)
    shape = (6,) * dims
    module = PseudoLabelGenerator(dims, 2, shape, (2,) * dims, "softmax", residual=True)
    z_1, z_2, u_1, u_2 = (
        torch.randn(1, 2, *shape),
        torch.randn(1, 2, *shape),
        torch.rand(1, 1, *shape),
        torch.rand(1, 1, *shape),
    )
    module.eval()
    a = module.weights(u_1, u_2)
    assert ((a > 0) & (a < 1)).all()
    torch.testing.assert_close(module(z_1, z_2, u_1, u_2), a[:, :1] * z_1 + a[:, 1:] * z_2)
