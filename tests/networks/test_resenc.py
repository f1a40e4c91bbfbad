"""The residual encoder U-Net has the modules and the names of the public checkpoints, and computes what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg.networks import build_network
from ucseg.networks.weights import fit_networks, load, places, read_weights
from ucseg.types import Problem

WIDTHS, BLOCKS = (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6)
"""ResEnc L: six levels, one more than a plan has."""


def checkpoint_names(levels: int, channels: int, heads: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in a checkpoint of nnssl, the second names of its convolutions and norms among them.

    Written from the published list of names, not from our network.
    """

    def layer(name: str, inputs: int, outputs: int, edge: int = 3, bias: bool = True) -> Iterator[tuple[str, tuple]]:
        for alias, of in (("conv", "norm"), ("all_modules.0", "all_modules.1")):
            yield f"{name}.{alias}.weight", (outputs, inputs, *(edge,) * 3)
            if bias:
                yield f"{name}.{alias}.bias", (outputs,)
            yield f"{name}.{of}.weight", (outputs,)
            yield f"{name}.{of}.bias", (outputs,)

    for start in ("encoder", "decoder.encoder"):
        yield from layer(f"{start}.stem.convs.0", channels, WIDTHS[0])
        for level in range(levels):
            inputs = WIDTHS[max(level - 1, 0)]
            for block in range(BLOCKS[level]):
                name = f"{start}.stages.{level}.blocks.{block}"
                yield from layer(f"{name}.conv1", WIDTHS[level] if block else inputs, WIDTHS[level])
                yield from layer(f"{name}.conv2", WIDTHS[level], WIDTHS[level])
                if not block and inputs != WIDTHS[level]:
                    yield from layer(f"{name}.skip.1", inputs, WIDTHS[level], 1, bias=False)
    for stage in range(levels - 1):
        below, here = WIDTHS[levels - 1 - stage], WIDTHS[levels - 2 - stage]
        yield f"decoder.transpconvs.{stage}.weight", (below, here, 2, 2, 2)
        yield f"decoder.transpconvs.{stage}.bias", (here,)
        yield from layer(f"decoder.stages.{stage}.convs.0", 2 * here, here)
        yield f"decoder.seg_layers.{stage}.weight", (heads, here, 1, 1, 1)
        yield f"decoder.seg_layers.{stage}.bias", (heads,)


def checkpoint(path: Path, levels: int, channels: int = 1, heads: int = 1) -> dict[str, Tensor]:
    """Write a file as nnssl does: the weights beside a plan. A tensor is one number, repeated, so the file is small."""
    weights: dict[str, Tensor] = {}
    for number, (name, shape) in enumerate(checkpoint_names(levels, channels, heads)):
        weights[name] = torch.full((1,) * len(shape), 0.001 * number).expand(shape)
    plan = {"architecture_plans": {"arch_class_name": "ResEncL"}, "key_to_encoder": "encoder.stages"}
    torch.save({"network_weights": weights, "nnssl_adaptation_plan": plan, "trainer_name": "MAE"}, path)
    return weights


@pytest.mark.parametrize(("levels", "tensors", "new"), [(6, 956, ["decoder"]), (5, 752, ["decoder.seg_layers"])])
def test_a_checkpoint_of_nnssl_fits(tmp_path: Path, levels: int, tensors: int, new: list[str]) -> None:
    """956 is what the published checkpoints hold. Their sixth level is left out, and so is the decoder on it."""
    made = checkpoint(tmp_path / "checkpoint_final.pth", levels)
    assert len(made) == tensors
    network = build_network("resenc", Problem(3, 1, 3, (32,) * 3, (8,) * 3))
    holder = torch.nn.ModuleDict({"student": network})
    fit = fit_networks(holder, read_weights(tmp_path / "checkpoint_final.pth"))
    assert places(fit.missing, list(holder.state_dict())) == [f"student.{name}" for name in new]
    load(holder, fit)
    own = network.state_dict()
    kept = [name for name in own if not name.startswith(tuple(new))]
    assert all(torch.equal(own[name], made[name]) for name in kept)


@pytest.mark.parametrize("dims", [2, 3])
def test_blocks_add_their_input_and_step_down_by_the_plans_strides(dims: int) -> None:
    strides = ((2,) * dims, (1,) * (dims - 1) + (2,))
    torch.manual_seed(0)
    network = build_network("resenc", Problem(dims, 1, 2, (8,) * dims, (4,) * dims, strides=strides)).eval()
    image = torch.randn(2, 1, *(8,) * dims)
    with torch.no_grad():
        maps = network.encode(image)
        assert [tuple(one.shape[1:]) for one in maps] == [
            (32, *(8,) * dims), (64, *(4,) * dims), (128, *(4,) * (dims - 1), 2)
        ]  # fmt: skip
        # At the start a block is its skip: the activation of the mean over the stride, projected.
        block = network.encoder.stages[1].blocks[0]
        pooled = (F.avg_pool2d if dims == 2 else F.avg_pool3d)(maps[0], 2)
        expected = F.leaky_relu(block.skip[1](pooled), 0.01)
        torch.testing.assert_close(block(maps[0]), expected)
