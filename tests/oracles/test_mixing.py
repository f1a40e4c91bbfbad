"""Copy-paste against loops, and what must hold of the box over many draws."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from ucseg.method_parts.mixing import cutmix, mixup, paste, sample_box, sample_cutmix_boxes
from ucseg.types import Progress


@pytest.mark.parametrize("shape", [(9, 6), (6, 9, 3)])
def test_the_box_takes_two_thirds_of_each_side_at_every_place_alike(shape: tuple[int, ...]) -> None:
    starts: list[Counter[int]] = [Counter() for _ in shape]
    draws = 900
    for t in range(draws):
        box = sample_box(shape, 2 / 3, Progress(t, draws).generator("mixing"))
        for axis, (side, size) in enumerate(zip(box, shape, strict=True)):
            assert side.stop - side.start == 2 * size // 3
            assert side.start >= 0 and side.stop <= size
            starts[axis][side.start] += 1
    for counter, size in zip(starts, shape, strict=True):
        places = size - 2 * size // 3 + 1
        assert set(counter) == set(range(places)), "both ends occur"
        assert all(abs(count - draws / places) < 5 * (draws / places) ** 0.5 for count in counter.values())


def test_the_box_is_a_function_of_seed_and_step() -> None:
    def box(step: int, seed: int) -> tuple[slice[int, int, None], ...]:
        return sample_box((96, 96, 96), 2 / 3, Progress(step, 100, seed).generator("mixing"))

    assert box(5, 1) == box(5, 1)
    assert len({str(box(step, 1)) for step in range(9)}) > 1
    assert len({str(box(5, seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_the_box_has_a_voxel_at_least_and_the_whole_image_at_most(share: float) -> None:
    box = sample_box((5, 7), share, torch.Generator().manual_seed(0))
    assert [side.stop - side.start for side in box] == ([1, 1] if share < 1 else [5, 7])


@pytest.mark.parametrize("shape", [(6, 9), (3, 6, 4)])
def test_inside_the_box_is_the_foreground_and_outside_the_background(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    background, foreground = torch.randn(2, 2, 3, *shape, generator=generator)
    labels = torch.randint(0, 4, (2, 2, *shape), generator=generator)
    box = sample_box(shape, 2 / 3, generator)
    before = background.clone()
    image, target = paste(background, foreground, box), paste(labels[0], labels[1], box)
    for voxel in itertools.product(*(range(n) for n in shape)):
        inside = all(side.start <= i < side.stop for i, side in zip(voxel, box, strict=True))
        for b in range(2):
            source = foreground if inside else background
            assert torch.equal(image[(b, slice(None), *voxel)], source[(b, slice(None), *voxel)])
            assert target[(b, *voxel)] == labels[(int(inside), b, *voxel)]
    assert torch.equal(background, before)


def test_mixup_pairs_each_image_with_the_next_and_the_last_with_the_first() -> None:
    x = torch.tensor([0.0, 1.0, 10.0]).reshape(3, 1, 1, 1).expand(3, 2, 4, 4)
    assert mixup(x, 0.25)[:, 0, 0, 0].tolist() == [0.75, 7.75, 2.5]
    assert torch.equal(mixup(x[:1], 0.3), x[:1]), "mixed with itself"


@pytest.mark.parametrize("shape", [(40, 60), (20, 30, 25)])
def test_cutmix_boxes_have_a_uniform_share_of_the_voxels_and_lie_inside(shape: tuple[int, ...]) -> None:
    boxes = sample_cutmix_boxes(shape, 600, torch.Generator().manual_seed(0), rate=0.75)
    found = [box for box in boxes if box is not None]
    assert 0.7 < len(found) / len(boxes) < 0.8
    shares, ratios = [], []
    for box in found:
        edges = [side.stop - side.start for side in box]
        assert all(0 <= side.start < side.stop <= size for side, size in zip(box, shape, strict=True))
        shares.append(math.prod(e / s for e, s in zip(edges, shape, strict=True)))
        ratios.append((edges[1] / shape[1]) / (edges[0] / shape[0]))
    assert max(shares) < 0.45 and min(shares) < 0.05
    assert sum(shares) / len(shares) == pytest.approx(0.2, abs=0.03), "the edge cuts some"
    assert min(ratios) < 0.6 and max(ratios) > 2.0
    assert sample_cutmix_boxes(shape, 3, torch.Generator().manual_seed(0), rate=0.0) == [None] * 3


def test_cutmix_pastes_the_next_image_into_those_that_have_a_box() -> None:
    x = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 2, 4, 5)
    box = (slice(1, 3), slice(0, 2))
    mixed = cutmix(x, [box, None, box])
    for i, j in itertools.product(range(4), range(5)):
        inside = 1 <= i < 3 and j < 2
        assert mixed[:, 0, i, j].tolist() == [1.0 if inside else 0.0, 1.0, 0.0 if inside else 2.0]
    assert torch.equal(cutmix(x[:, 0], [box, None, box]), mixed[:, 0]), "targets, without channels, alike"
    assert torch.equal(cutmix(x[:1], [box]), x[:1]), "alone it stays"
