"""Classes drawn one by one: the inner one of two counts, in whatever order; others may share an edge, no more."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ucseg.scans.nesting import put

SHAPES = {"a": slice(0, 90), "b": slice(10, 60), "c": slice(20, 40), "other": slice(95, 120)}


@pytest.mark.parametrize("order", list(itertools.permutations(SHAPES)), ids=",".join)
def test_the_innermost_class_counts(order: tuple[str, ...]) -> None:
    label = np.zeros(130, np.uint8)
    pairs = set[tuple[int, int]]()
    for number, name in enumerate(order, start=1):
        inside = np.zeros(130, bool)
        inside[SHAPES[name]] = True
        found = put(label, inside, number)
        assert found is not None
        pairs |= found
    number = {name: at for at, name in enumerate(order, start=1)}
    expected = np.zeros(130, np.uint8)
    for name, where in SHAPES.items():
        expected[where] = number[name]
    assert np.array_equal(label, expected)
    assert {(number["c"], number["b"]), (number["b"], number["a"])} <= pairs
    assert not [pair for pair in pairs if number["other"] in pair]


@pytest.mark.parametrize(
    ("second", "refused"),
    [(slice(20, 60), True), (slice(47, 147), True), (slice(0, 50), True), (slice(1, 50), True), (slice(30, 51), False)],
)
def test_a_class_that_is_partly_inside_or_drawn_twice_is_refused(second: slice, refused: bool) -> None:
    label = np.zeros(160, np.uint8)
    label[:50] = 1
    before = label.copy()
    inside = np.zeros(160, bool)
    inside[second] = True
    found = put(label, inside, 2)
    assert (found is None) == refused
    if refused:
        assert np.array_equal(label, before)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_two_classes_touch_the_smaller_one_counts(order: tuple[int, int]) -> None:
    """Two of 50 voxels are drawn beyond the edge: neither class lies inside the other."""
    places = [slice(0, 50), slice(48, 148)]
    label = np.zeros(160, np.uint8)
    for number, which in enumerate(order, start=1):
        inside = np.zeros(160, bool)
        inside[places[which]] = True
        assert put(label, inside, number) == set()
    expected = np.zeros(160, np.uint8)
    for which in (1, 0):
        expected[places[which]] = order.index(which) + 1
    assert np.array_equal(label, expected)
