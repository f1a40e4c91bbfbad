"""CCP against plain Python: prototypes, the first-in-first-out memory, and both contrasts, in loops."""

from __future__ import annotations

import itertools
import math
from collections import deque

import pytest
import torch
from torch import Tensor

from ucseg.losses.contrastive import PrototypeMemory, class_prototypes, region_consistency

Vector = list[float]
Lists = list[list[Vector]]


def unit(v: Vector) -> Vector:
    norm = math.sqrt(sum(x * x for x in v))
    return [x / norm for x in v]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean(vectors: Lists | list[Vector]) -> Vector:
    return [sum(values) / len(vectors) for values in zip(*vectors, strict=True)]  # type: ignore[arg-type]


def info_nce(positive: float, negatives: list[float], temperature: float) -> float:
    """-log( exp(positive / T) / (exp(positive / T) + sum exp(negative / T)) )."""
    top = math.exp(positive / temperature)
    return -math.log(top / (top + sum(math.exp(v / temperature) for v in negatives)))


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_memories(
    classes: int, width: int, entries: int, pushes: int, seed: int
) -> tuple[PrototypeMemory, list[deque[Vector]]]:
    """The same random pushes into the memory and into one deque a class."""
    memory, expected = PrototypeMemory(classes, width, entries), [deque[Vector](maxlen=entries) for _ in range(classes)]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(pushes):
        size = int(torch.randint(1, 3 * entries, (), generator=generator))  # more than fit, too
        prototypes = torch.nn.functional.normalize(torch.randn(size, classes, width, generator=generator), dim=2)
        keep = torch.rand(size, classes, generator=generator) < 0.5
        memory.push(prototypes, keep)
        for b, c in itertools.product(range(size), range(classes)):
            if keep[b, c]:
                expected[c].append(prototypes[b, c].tolist())
    return memory, expected


@pytest.mark.parametrize("pushes", [0, 1, 3, 20])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_memory_holds_the_last_entries_of_each_class_by_itself(classes: int, pushes: int) -> None:
    memory, expected = draw_memories(classes, 3, 5, pushes, seed=pushes)
    for c in range(classes):
        held = memory.values[c, :5][memory.filled[c]].tolist()
        assert sorted(held) == sorted(expected[c])
    assert not memory.values[:, 5].any(), "an empty spare slot"
    assert int(memory.filled.sum()) == sum(len(entries) for entries in expected)


def test_a_class_that_never_occurs_stays_empty_while_others_fill_up() -> None:
    """One write pointer a class: a shared one left most of the memory at its random start for ever."""
    memory = PrototypeMemory(3, 2, 4)
    assert not memory.filled.any() and not memory.values.any(), "no random start"
    for value in range(1, 7):
        prototypes = torch.full((1, 3, 2), float(value))
        memory.push(prototypes, torch.tensor([[True, value % 2 == 0, False]]))
    assert memory.filled.sum(dim=1).tolist() == [4, 3, 0]
    assert sorted(memory.values[0, :4, 0].tolist()) == [3.0, 4.0, 5.0, 6.0]
    assert sorted(memory.values[1, :3, 0].tolist()) == [2.0, 4.0, 6.0]


def test_entries_have_no_gradient_and_are_saved() -> None:
    memory = PrototypeMemory(2, 3, 4)
    memory.push(draw(2, 2, 3, seed=0).requires_grad_(), torch.ones(2, 2, dtype=torch.bool))
    assert not memory.values.requires_grad
    copy = PrototypeMemory(2, 3, 4)
    copy.load_state_dict(memory.state_dict())
    prototypes, present = draw(1, 2, 3, seed=1), torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(copy.contrast(prototypes, present), memory.contrast(prototypes, present))


def literal_contrast(
    prototypes: Lists, present: list[list[bool]], memory: list[deque[Vector]], temperature: float
) -> float:
    losses = []
    for b, c in itertools.product(range(len(prototypes)), range(len(memory))):
        negatives = [entry for other, entries in enumerate(memory) if other != c for entry in entries]
        if not present[b][c] or not memory[c] or not negatives:
            continue
        own = mean(list(memory[c]))
        losses.append(
            info_nce(dot(prototypes[b][c], own), [dot(prototypes[b][c], entry) for entry in negatives], temperature)
        )
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("pushes", [0, 1, 2, 9])
@pytest.mark.parametrize("classes", [2, 4])
def test_ife_is_info_nce_against_the_memory(classes: int, pushes: int, temperature: float) -> None:
    memory, expected = draw_memories(classes, 3, 5, pushes, seed=10 + pushes)
    prototypes = torch.nn.functional.normalize(draw(3, classes, 3, seed=20), dim=2).requires_grad_()
    present = torch.rand(3, classes, generator=torch.Generator().manual_seed(21)) < 0.7
    loss = memory.contrast(prototypes, present, temperature)
    literal = literal_contrast(prototypes.tolist(), present.tolist(), expected, temperature)
    assert float(loss.detach()) == pytest.approx(literal, rel=1e-5, abs=1e-7)
    loss.backward()
    assert prototypes.grad is not None
    for b, c, k in itertools.product(range(3), range(classes), range(3)):
        shifted = []
        for sign in (1, -1):
            moved = prototypes.tolist()
            moved[b][c][k] += sign * 1e-5
            shifted.append(literal_contrast(moved, present.tolist(), expected, temperature))
        expected_gradient = (shifted[0] - shifted[1]) / 2e-5
        assert float(prototypes.grad[b, c, k]) == pytest.approx(expected_gradient, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 12), (4, 8, 4)])
def test_prototypes_are_the_mean_over_the_mask_on_the_feature_grid(shape: tuple[int, ...]) -> None:
    """A feature voxel counts by the share of its block of the mask that belongs to the class."""
    factor, classes, batch, width = 4, 3, 2, 5
    grid = tuple(size // factor for size in shape)
    features = draw(batch, width, *grid, seed=30)
    label = torch.randint(0, 2, (batch, *shape), generator=torch.Generator().manual_seed(31))
    label[1, label[1] == 1] = 0
    label[(1, *(0 for _ in shape))] = 2  # one voxel of a class, and one class absent
    [(prototypes, present)] = class_prototypes([features], label, classes)
    for b, c in itertools.product(range(batch), range(classes)):
        total, sums = 0.0, [0.0] * width
        for site in itertools.product(*(range(n) for n in grid)):
            block = itertools.product(*(range(i * factor, (i + 1) * factor) for i in site))
            weight = sum(int(label[(b, *voxel)]) == c for voxel in block) / factor ** len(shape)
            total += weight
            sums = [s + weight * float(features[(b, k, *site)]) for k, s in enumerate(sums)]
        assert bool(present[b, c]) == (total > 0)
        if total:
            assert prototypes[b, c].tolist() == pytest.approx(unit([s / total for s in sums]), rel=1e-4, abs=1e-5)
    assert present.tolist() == [[True, True, False], [True, False, True]]


def test_a_prototype_does_not_depend_on_the_size_of_its_mask() -> None:
    features = torch.ones(1, 4, 4, 4) * torch.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    small, large = torch.zeros(1, 16, 16, dtype=torch.long), torch.ones(1, 16, 16, dtype=torch.long)
    small[0, 0, 0] = 1
    [(of_small, _)], [(of_large, _)] = (class_prototypes([features], label, 2) for label in (small, large))
    torch.testing.assert_close(of_small[:, 1], of_large[:, 1])


def pooled(features: Tensor, regions: int) -> list[Vector]:
    """Every region of every image as a unit vector: mean over voxels floor(i n / r) ... ceil((i + 1) n / r) - 1."""
    out = []
    shape = tuple(features.shape[2:])
    counts = [min(regions, n) for n in shape]
    for b in range(len(features)):
        for region in itertools.product(*(range(r) for r in counts)):
            sides = [range(i * n // r, -(-(i + 1) * n // r)) for i, n, r in zip(region, shape, counts, strict=True)]
            vectors = [features[(b, slice(None), *voxel)].tolist() for voxel in itertools.product(*sides)]
            out.append(unit(mean(vectors)))
    return out


def literal_regions(features_1: Tensor, features_2: Tensor, regions: int, temperature: float) -> float:
    losses = []
    first, second = pooled(features_1, regions), pooled(features_2, regions)
    for a, b in ((first, second), (second, first)):
        for i, vector in enumerate(a):
            negatives = [dot(vector, other) for j, other in enumerate(b) if j != i]
            losses.append(info_nce(dot(vector, b[i]), negatives, temperature))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("grid", [(6, 3), (7, 5), (2, 4), (4, 3, 2)])
def test_ic_is_info_nce_between_the_same_regions_in_both_directions(grid: tuple[int, ...]) -> None:
    features_1, features_2 = draw(2, 4, *grid, seed=40).requires_grad_(), draw(2, 4, *grid, seed=41).requires_grad_()
    loss = region_consistency(features_1, features_2, 3, 0.3)
    expected = literal_regions(features_1.detach(), features_2.detach(), 3, 0.3)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    for leaf, swap in ((features_1, False), (features_2, True)):
        assert leaf.grad is not None
        for index in range(0, leaf.numel(), leaf.numel() // 4):
            shifted = []
            for sign in (1, -1):
                moved = leaf.detach().double().flatten()
                moved[index] += sign * 1e-5
                moved = moved.reshape(leaf.shape)
                pair = (features_1.detach(), moved) if swap else (moved, features_2.detach())
                shifted.append(literal_regions(*pair, 3, 0.3))
            found = float(leaf.grad.flatten()[index])
            assert found == pytest.approx((shifted[0] - shifted[1]) / 2e-5, rel=1e-3, abs=1e-6)


def test_contrasts_do_not_grow_with_the_features() -> None:
    """Normalised: features a thousand times as large give the same losses."""
    features, other = draw(2, 4, 6, 6, seed=50), draw(2, 4, 6, 6, seed=51)
    label = torch.randint(0, 2, (2, 24, 24), generator=torch.Generator().manual_seed(52))
    torch.testing.assert_close(region_consistency(1000 * features, other), region_consistency(features, other))
    large, small = (class_prototypes([scale * features], label, 2)[0][0] for scale in (1000, 1))
    torch.testing.assert_close(large, small)
