"""Each strategy ranks by what it says it ranks by, and every draw is of the seed and the case's name alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from refusals import refused
from ucseg.labelling.measures import APART, Measure
from ucseg.labelling.names import STRATEGIES
from ucseg.labelling.strategies import NEARLY_CHANCE, choose, likeliest


def case(name: str, **figures: Any) -> Measure:
    values: dict[str, Any] = {
        "slice": None, "entropy": 0.1, "disagreement": 0.1, "failure_score": 0.1, "class_entropy": (0.1, 0.1),
        "foreground": (10, 10), "look": (0.0, 0.0),
    }  # fmt: skip
    return Measure(name, **values | figures)


def names(*args: Any, **kwargs: Any) -> list[str]:
    return [choice.measure.case for choice in choose(*args, **kwargs)]


MANY = [case(f"c{number}", look=(float(number), 1.0)) for number in range(40)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_ranks_each_candidate_once(strategy: str) -> None:
    assert sorted(names(strategy, MANY, 100)) == sorted(one.case for one in MANY)
    assert names(strategy, MANY, 5) == names(strategy, MANY, 100)[:5]
    assert names(strategy, [], 5) == []


@pytest.mark.parametrize("strategy", ["random", "foreground-random", "class-entropy"])
def test_draws_are_of_the_seed_and_the_name(strategy: str) -> None:
    assert names(strategy, MANY, 40) == names(strategy, MANY[::-1], 40)
    assert names(strategy, MANY, 40) != names(strategy, MANY, 40, seed=1)
    if strategy == "random":  # a case that leaves the list moves no other one
        first, *others = names(strategy, MANY, 40)
        assert names(strategy, [one for one in MANY if one.case != first], 40) == others


def test_the_highest_entropy_and_disagreement_come_first() -> None:
    cases = [case("a", entropy=0.2, disagreement=0.5), case("b", entropy=0.9), case("c", entropy=0.3, disagreement=0.9)]
    assert names("entropy", cases, 3) == ["b", "c", "a"]
    assert names("disagreement", cases, 2) == ["c", "a"]
    assert [choice.score for choice in choose("entropy", cases, 2)] == [0.9, 0.3]


def test_disagreement_needs_two_networks() -> None:
    with refused("one-network", naming="disagreement"):
        choose("disagreement", [case("a", disagreement=float("nan"))], 1)


def test_foreground_counts_in_two_of_three_draws() -> None:
    """One case has nearly all of the foreground: it comes first in nearly two of three lists."""
    cases = [case("full", foreground=(10**6, 10**6)), *(case(f"c{n}", foreground=(1, 1)) for n in range(20))]
    first = Counter(names("foreground-random", cases, 1, seed=seed)[0] for seed in range(20))
    assert first["full"] >= 18
    third = Counter(names("foreground-random", cases[1:], 3, seed=seed)[2] for seed in range(60))
    assert len(third) > 10


def test_foreground_random_of_empty_masks_is_random() -> None:
    empty = [case(f"c{n}", foreground=(0, 0)) for n in range(6)]
    assert sorted(names("foreground-random", empty, 6)) == sorted(one.case for one in empty)


def test_class_entropy_takes_the_classes_in_turn_and_then_all() -> None:
    cases = [
        case("one", class_entropy=(0.9, 0.01), entropy=0.1),
        case("two", class_entropy=(0.01, 0.9), entropy=0.1),
        case("all", class_entropy=(0.01, 0.01), entropy=0.9),
        *(case(f"c{n}", class_entropy=(0.02, 0.02), entropy=0.02) for n in range(10)),
    ]
    for seed in range(5):
        found = names("class-entropy", cases, 3, seed=seed, power=1000)
        assert {*found[:2]} == {"one", "two"}
        assert found[2] == "all"
    assert len({tuple(names("class-entropy", cases, 3, seed=seed, power=0.01)) for seed in range(5)}) > 1


def test_how_near_to_chance_class_entropy_is_follows_from_scores_and_power() -> None:
    cases = [case(f"c{n}", class_entropy=(0.1 + 0.01 * n, 0.0), entropy=0.1) for n in range(10)]
    assert likeliest(cases, 1) == pytest.approx(0.19 / 0.145)
    assert likeliest(cases, 1) < NEARLY_CHANCE < likeliest(cases, 100) < 10
    assert likeliest([case("a", class_entropy=(0.0, 0.0), entropy=0.0)] * 3, 1) == 1


def test_diversity_takes_the_farthest_from_what_is_labelled_and_chosen() -> None:
    cases = [case("near", look=(0.1, 0.0)), case("far", look=(9.0, 0.0)), case("beside", look=(8.8, 0.0)),
             case("middle", look=(4.5, 0.0))]  # fmt: skip
    assert names("diversity", cases, 4, labelled=[case("known", look=(0.0, 0.0))]) == [
        "far",
        "middle",
        "beside",
        "near",
    ]


def test_slices_of_a_scan_are_apart() -> None:
    slices = [case("scan", slice=number, entropy=1 - 0.001 * abs(number - 50)) for number in range(100)]
    other = [case("other", slice=number, entropy=0.5) for number in range(3)]
    found = [(one.measure.case, one.measure.slice) for one in choose("entropy", [*slices, *other], 4)]
    assert found[0] == ("scan", 50)
    numbers = sorted(number for name, number in found if name == "scan" and number is not None)
    assert min(b - a for a, b in pairwise(numbers)) > 100 // APART
