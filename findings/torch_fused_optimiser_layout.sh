#!/bin/sh
# torch 2.13.0 on a CPU: after `network.to(memory_format=torch.channels_last)`, SGD(fused=True) and AdamW(fused=True)
# update wrong weights, without an error.
#
# Expected: a memory layout changes speed, not results. The loop (fused=False) keeps that promise.
# What happens: the one-pass kernels for CPUs walk through weights, gradients and momentum in the order in which each lies
#   in memory. Weights turned to channels_last between two steps lie otherwise than the momentum of the steps before.
#   So the momentum of one weight moves another. The same holds for gradients of another layout, which inductor can give.
#   On a GPU the same call ends with an error that names the layout (issue 110758).
# Why it matters: convolutional networks are turned to channels_last for speed, also when a run is loaded and goes on.
#   Its first steps then throw the weights about. The loss says so at best.
# Source: https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html (layout and results),
#   https://github.com/pytorch/pytorch/issues/110758 and /126585 (the error on a GPU).
#
# Exit 0: as described. Anything else: the behaviour changed, or torch cannot be installed.
# Needs Python 3.11 or newer and pip. Takes about a minute, most of it for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/environment/bin/python" - <<'END'
"""Three steps of a convolution; before the third its weights are turned to channels_last, or not."""

import sys

import torch
from torch import nn


def trained(optimiser, fused, turned):
    torch.manual_seed(0)
    network = nn.Conv2d(4, 8, 3)
    rule = optimiser(network.parameters(), fused=fused)
    for step in range(3):
        if turned and step == 2:
            network.to(memory_format=torch.channels_last)
        image = torch.randn(2, 4, 9, 9)
        rule.zero_grad()
        network(image).square().mean().backward()
        rule.step()
    return network.weight.detach().clone()


print("torch", torch.__version__)
as_described = True
for name, optimiser in (
    ("SGD", lambda weights, fused: torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=fused)),
    ("AdamW", lambda weights, fused: torch.optim.AdamW(weights, lr=0.01, fused=fused)),
):
    for fused in (False, True):
        apart = float((trained(optimiser, fused, True) - trained(optimiser, fused, False)).abs().max())
        moved = float((trained(optimiser, fused, False) - trained(optimiser, False, False)).abs().max())
        print(f"{name}(fused={fused}): weights turned and not turned differ by {apart:.1e} at most, ", end="")
        print(f"not turned from fused=False by {moved:.1e}")
        as_described &= (apart > 1e-3) == fused and moved < 1e-5
sys.exit(not as_described)
END
