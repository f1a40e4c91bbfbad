"""Which cases come next? One function a strategy: a key for each candidate, and the highest key is chosen.

random               every case is as likely
foreground-random    two of three by the volume of a class drawn for each, in the model's masks; the third at random.
                     After "Random 66% FG" of nnActive (Lüth et al. 2025, arXiv:2511.19183), which draws voxels
entropy              the highest mean entropy of the prediction
disagreement         the method's networks differ most
class-entropy        ClaSP PE (Lüth et al. 2026, arXiv:2601.13677): two of three by the entropy of one class, the
                     classes in turn, the third by that of all; with noise
diversity            the farthest from all that is labelled or chosen (k-centre greedy; Sener & Savarese 2018,
                     arXiv:1708.00489)

Every draw is a function of the seed and of the case's name. So a case that leaves the list changes no other draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ucseg.errors import UserError
from ucseg.labelling.measures import APART, Measure
from ucseg.randomness import numpy_generator
from ucseg.types import Array

PURPOSE = "label next"

NEARLY_CHANCE = 3.0
"""Where the likeliest candidate is less than so many times as likely as an average one, chance decides more."""

Key = Callable[[int, list[int]], Array]
"""The place in the list, and what is chosen -> a key for each candidate; -inf: not by this rule."""


@dataclass(frozen=True)
class Choice:
    """A candidate and its score: what its strategy ranks by, before noise; NaN where that is chance alone."""

    measure: Measure
    score: float


def choose(
    strategy: str,
    candidates: Sequence[Measure],
    count: int,
    *,
    seed: int = 0,
    labelled: Sequence[Measure] = (),
    power: float = 1.0,
) -> list[Choice]:
    """The best candidates, best first; fewer than `count` where there are no more.

    Args:
        strategy: one of STRATEGIES.
        candidates: whole cases, or all slices of the candidates' scans.
        labelled: training cases with a mask, for "diversity".
        power: of the score in "class-entropy": at 1 its noise decides nearly alone, at 100 the score does.

    Raises:
        UserError: "disagreement", and the method has one network.
    """
    if not candidates:
        return []
    scores, key = _rule(strategy, candidates, seed, labelled, power)
    chance = _draws(candidates, seed, 1)[:, 0]
    lengths: dict[str, int] = {}
    for one in candidates:
        lengths[one.case] = max(lengths.get(one.case, 0), 1 + (one.slice or 0))
    free = np.ones(len(candidates), bool)
    chosen: list[int] = []
    found: list[Choice] = []
    while len(chosen) < count and free.any():
        place = len(chosen)
        keys = key(place, chosen)
        if not np.isfinite(keys[free]).any():  # no candidate has what this rule looks for
            keys = chance
        best = int(np.argmax(np.where(free, keys, -np.inf)))
        chosen.append(best)
        one = candidates[best]
        found.append(Choice(one, float(scores(place, chosen)[best])))
        free[best] = False
        if one.slice is not None:
            near = lengths[one.case] // APART
            for index, other in enumerate(candidates):
                if other.case == one.case and other.slice is not None and abs(other.slice - one.slice) <= near:
                    free[index] = False
    return found


def likeliest(candidates: Sequence[Measure], power: float) -> float:
    """How many times as likely as an average one the likeliest candidate of "class-entropy" is; 1: chance alone.

    Of the scores of each class and of all, that which decides most.
    """
    scores = np.array([[one.entropy, *one.class_entropy] for one in candidates])
    high = scores.max(axis=0)
    shares = (scores[:, high > 0] / high[high > 0]) ** power
    return float((1 / shares.mean(axis=0)).max(initial=1.0))


def _rule(
    strategy: str, candidates: Sequence[Measure], seed: int, labelled: Sequence[Measure], power: float
) -> tuple[Key, Key]:
    """Scores and keys of a strategy."""
    classes = len(candidates[0].foreground)
    draws = _draws(candidates, seed, 1 + classes)
    entropy = np.array([one.entropy for one in candidates])
    if strategy == "random":
        return lambda place, chosen: np.full(len(candidates), np.nan), lambda place, chosen: draws[:, 0]
    if strategy == "entropy":
        return lambda place, chosen: entropy, lambda place, chosen: entropy
    if strategy == "disagreement":
        scores = np.array([one.disagreement for one in candidates])
        if np.isnan(scores).any():
            raise UserError(
                "one-network",
                "--strategy disagreement: the method of this run has one network; choose another strategy.",
            )
        return lambda place, chosen: scores, lambda place, chosen: scores
    if strategy == "foreground-random":
        volumes = np.array([one.foreground for one in candidates], float)
        return _stratified(volumes, volumes.sum(axis=1), np.ones(len(candidates)), draws, 1.0, _drawn(seed, classes))
    if strategy == "class-entropy":
        by_class = np.array([one.class_entropy for one in candidates])
        return _stratified(by_class, entropy, entropy, draws, power, _in_turn(seed, classes))
    return _farthest(candidates, labelled)


def _stratified(
    by_class: Array, whole: Array, of_third: Array, draws: Array, power: float, class_at: Callable[[int], int]
) -> tuple[Key, Key]:
    """Two of three by one class, the third by all: the score to a power, with noise (power noising).

    The largest of power * log(score) + Gumbel noise is a draw with chances that are the score's power.

    Args:
        by_class: candidates x classes.
        whole: the score of a third one.
        of_third: the score that it is drawn by.
        draws: candidates x 1 + classes, Gumbel noise.
    """

    def scores(place: int, chosen: list[int]) -> Array:
        return whole if place % 3 == 2 else np.asarray(by_class[:, class_at(place)])

    def keys(place: int, chosen: list[int]) -> Array:
        third = place % 3 == 2
        score, noise = (of_third, draws[:, 0]) if third else (scores(place, chosen), draws[:, 1 + class_at(place)])
        with np.errstate(divide="ignore"):
            return np.asarray(power * np.log(score) + noise)

    return scores, keys


def _farthest(candidates: Sequence[Measure], labelled: Sequence[Measure]) -> tuple[Key, Key]:
    looks = np.array([one.look for one in [*candidates, *labelled]])
    looks = (looks - looks.mean(axis=0)) / (looks.std(axis=0) + 1e-6)
    own, centres = looks[: len(candidates)], looks[len(candidates) :]
    if not len(centres):
        centres = own.mean(axis=0, keepdims=True)
    nearest = np.min([np.linalg.norm(own - centre, axis=1) for centre in centres], axis=0)
    steps = [nearest]  # before each choice

    def distances(place: int, chosen: list[int]) -> Array:
        while len(steps) <= place:
            last = own[chosen[len(steps) - 1]]
            steps.append(np.minimum(steps[-1], np.linalg.norm(own - last, axis=1)))
        return np.asarray(steps[place])

    return distances, distances


def _draws(candidates: Sequence[Measure], seed: int, count: int) -> Array:
    """Gumbel noise, candidates x `count`; each row is of the seed, the case's name and the slice alone."""
    of_one = (numpy_generator(seed, f"{PURPOSE}/{one.case}/{one.slice}") for one in candidates)
    return np.array([generator.gumbel(size=count) for generator in of_one])


def _drawn(seed: int, classes: int) -> Callable[[int], int]:
    return lambda place: int(numpy_generator(seed, f"{PURPOSE}/class", place).integers(classes))


def _in_turn(seed: int, classes: int) -> Callable[[int], int]:
    order = numpy_generator(seed, f"{PURPOSE}/classes").permutation(classes)
    return lambda place: int(order[(place - place // 3) % classes])
