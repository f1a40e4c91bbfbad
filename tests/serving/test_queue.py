"""Who sees which case next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refusals import refused
from ucseg.dataset.case import Case
from ucseg.labelling.measures import Measure
from ucseg.serving import queue as module
from ucseg.serving.queue import STRATEGIES, Queue

NAMES = [f"case{number}" for number in range(6)]


def measure(name: str, entropy: float, disagreement: float = 0.5) -> Measure:
    return Measure(name, None, entropy, disagreement, entropy, (entropy,), (10,), (entropy,) * 4)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Queue]:
    cases = [Case(name, name, tmp_path / f"{name}.png", None, "train") for name in NAMES]

    def made(measures: dict[str, Measure] | None = None, number: int = 0) -> Queue:
        return Queue(tmp_path / "queue.json", lambda: (cases, []), lambda: measures or {}, lambda: number)

    return made


def names(queue: Queue, strategy: str = "random") -> list[str]:
    return [case.case for case in queue.order(strategy)]


def test_what_the_model_has_not_seen_comes_by_chance_and_last(make: Callable[..., Queue]) -> None:
    assert sorted(names(make())) == NAMES
    assert names(make()) == names(make())
    assert names(make(number=1)) != names(make()), "each round makes draws of its own"
    seen = {"case1": measure("case1", 0.2), "case4": measure("case4", 0.9)}
    assert names(make(seen), "entropy")[:2] == ["case4", "case1"]
    assert sorted(names(make(seen), "entropy")) == NAMES
    for strategy in STRATEGIES:
        assert sorted(names(make(seen), strategy)) == NAMES
    with refused("one-network"):
        make({"case1": measure("case1", 0.2, float("nan"))}).order("disagreement")


def test_two_people_do_not_get_the_same_case(make: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make()
    order = names(queue)
    given = [queue.next("random", who) for who in ("a", "b", "a")]
    assert [case and case.case for case in given] == [order[0], order[1], order[0]]
    monkeypatch.setattr(module, "GIVEN_FOR", -1.0)
    late = queue.next("random", "c")
    assert late is not None
    assert late.case == order[0], "after a while it is free again"


def test_what_people_said_is_kept(make: Callable[..., Queue]) -> None:
    queue = make()
    queue.say("case3", "sent", {"who": "me"})
    queue.say("case2", "rejected", {"who": "me"})
    again = make()
    assert names(again)[0] == "case3"
    assert "case2" not in names(again)
    assert again.said["rejected"]["case2"] == {"who": "me"}
    again.say("case2", "open", {})
    again.say("case3", "rejected", {})
    assert sorted(names(make())) == [name for name in NAMES if name != "case3"]


@pytest.mark.parametrize("text", ['{"rejected": ["case1"]}', '{"sent": "case1"}', '{"sent": null}'])
def test_a_queue_that_ucseg_did_not_write(make: Callable[..., Queue], tmp_path: Path, text: str) -> None:
    (tmp_path / "queue.json").write_text(text)
    with refused("queue-damaged", naming=["queue.json"]):
        make()
