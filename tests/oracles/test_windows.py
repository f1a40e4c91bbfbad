"""Windowed self-attention is attention over the tokens of a window, pair by pair; shifted windows join neighbours."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ucseg.networks.blocks import cut_windows, join_windows
from ucseg.networks.swin_unet import HEAD_WIDTH, WindowAttention

GRIDS = [(8, 8), (16, 24), (13, 5), (3, 20), (1, 1), (4, 4, 4), (5, 9, 2)]


def literal(module: WindowAttention, x: Tensor) -> Tensor:
    """Every token against every other one: those of its window count, each with the bias of their offset."""
    grid = x.shape[1:-1]
    window = [min(module.window, size) for size in grid]
    shift = [w // 2 if module.shifted and size > w else 0 for size, w in zip(grid, window, strict=True)]
    places = list(itertools.product(*map(range, grid)))
    weight, bias = module.query_key_value.weight, module.query_key_value.bias
    out = torch.zeros_like(x)
    for image in range(len(x)):
        qkv = {place: (weight @ x[(image, *place)] + bias).reshape(3, module.heads, HEAD_WIDTH) for place in places}
        for at in places:
            mine = [(p + s) // w for p, s, w in zip(at, shift, window, strict=True)]
            others = [
                other
                for other in places
                if [(p + s) // w for p, s, w in zip(other, shift, window, strict=True)] == mine
            ]
            heads = []
            for head in range(module.heads):
                offsets = [tuple(a - b + module.window - 1 for a, b in zip(at, o, strict=True)) for o in others]
                score = torch.stack(
                    [
                        qkv[at][0, head] @ qkv[o][1, head] / HEAD_WIDTH**0.5 + module.bias[(head, *offset)]
                        for o, offset in zip(others, offsets, strict=True)
                    ]
                ).softmax(dim=0)
                heads.append(sum(a * qkv[o][2, head] for a, o in zip(score, others, strict=True)))
            out[(image, *at)] = module.project.weight @ torch.cat(heads) + module.project.bias
    return out


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_attention_in_windows_is_attention_over_their_tokens(grid: tuple[int, ...], shifted: bool) -> None:
    torch.manual_seed(0)
    module = WindowAttention(len(grid), 2 * HEAD_WIDTH, shifted).double()
    with torch.no_grad():
        module.bias.mul_(50)
        x = torch.randn(1, *grid, 2 * HEAD_WIDTH, dtype=torch.float64)
        # Scores are in float32 whatever the precision.
        torch.testing.assert_close(module(x), literal(module, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grid", [(16, 8), (4, 8, 12)])
def test_windows_are_cut_and_joined_again(grid: tuple[int, ...]) -> None:
    x, window = torch.randn(2, *grid, 3), (4,) * len(grid)
    cut = cut_windows(x, window)
    assert torch.equal(cut[1, 0, 1], x[(1, *(0,) * (len(grid) - 1), 1)])
    assert torch.equal(join_windows(cut, grid, window), x)


def test_two_blocks_carry_a_change_over_the_edge_of_a_window_and_one_does_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 16, HEAD_WIDTH)
    changed = x.clone()
    changed[0, 7, 7] += 1
    for shifted, reaches in ((False, False), (True, True)):
        module = WindowAttention(2, HEAD_WIDTH, shifted)
        with torch.no_grad():
            assert bool((module(x)[0, 8, 8] != module(changed)[0, 8, 8]).any()) == reaches
