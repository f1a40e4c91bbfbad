"""Scans in threads whose windows pass through the networks together."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Barrier, Lock

import numpy as np
import pytest
from threshold_run import plan_2d, plan_3d

from ucseg.batches.preprocess import grid_of
from ucseg.inference.maps import Layout
from ucseg.inference.scan_predictor import ScanPredictor
from ucseg.inference.together import AT_WORK, Lacking, at_once
from ucseg.scans.scan import Geometry
from ucseg.types import Array


class Doubling(ScanPredictor):
    """Answers twice the windows; `most` windows at once fit into its memory."""

    precision, place, weights, method_name = "fp32", "cpu", "none", "doubling"

    def __init__(self, most: int = 100, stop: bool = False, together: int = 1) -> None:
        super().__init__(plan_2d(), batch=4, mirror=False)
        self.together = together
        self.most, self.stop, self.seen = most, stop, list[int]()

    def answer(self, image: Array) -> tuple[Array, Layout]:
        if self.stop:
            raise KeyboardInterrupt
        first = not self.seen
        self.seen.append(len(image))
        until = time.monotonic() + 60
        while first and self._desk is not None and time.monotonic() < until:
            if len(self._desk._asked) + self._desk._news.qsize() >= self.together:
                break  # the others that ask at the same time have asked
            time.sleep(0.001)
        if len(image) > self.most:
            raise MemoryError
        return image * 2, Layout(1, ())


def work_of(predictor: Doubling, together: int) -> tuple[list[float], list[float]]:
    """What each of eight threads got, and expected; so many of them ask at the same time."""
    barrier, expected = Barrier(together), list[float]()

    def ask(value: float) -> float:
        barrier.wait(60)
        assert predictor._desk is not None
        found, _ = predictor._desk.ask(predictor, np.full((1, 1, 16, 16 + 16 * (value == 3)), value, np.float32))
        return float(found.max())

    found: list[float] = []
    at_once([predictor], ask, [float(value) for value in range(8)], found.append, lambda _: 1.0)
    expected = [2.0 * value for value in range(8)]
    return sorted(found), expected


@pytest.mark.parametrize(("most", "joins"), [(100, True), (1, True), (100, False)])
def test_windows_of_several_scans_become_one_batch(most: int, joins: bool) -> None:
    predictor = Doubling(most, together=4)
    predictor.joins_scans = joins
    found, expected = work_of(predictor, together=4)
    assert found == expected
    assert max(predictor.seen) <= 4, "no more than fit into one pass"
    done = [count for count in predictor.seen if count <= most]
    assert sum(done) == 8
    assert (len(done) < 8) == (most > 1 and joins)
    assert predictor._desk is None


def test_what_stops_the_networks_ends_the_threads_that_wait() -> None:
    with pytest.raises(KeyboardInterrupt):
        work_of(Doubling(stop=True), together=1)


def test_an_error_of_one_scan_reaches_the_caller() -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        at_once([Doubling()], fail, [1, 2, 3], lambda _: None, lambda _: 1.0)


def test_large_scans_are_alone() -> None:
    lock, at_work, most = Lock(), list[int](), list[int]()

    def work(numbers: int) -> None:
        with lock:
            at_work.append(numbers)
            most.append(sum(at_work))
        with lock:
            at_work.remove(numbers)

    at_once([Doubling()], work, [AT_WORK * 2, 5, AT_WORK * 3, 5], lambda _: None, float)
    assert AT_WORK * 2 in most and AT_WORK * 3 in most
    assert all(sum_ in (5, 10, AT_WORK * 2, AT_WORK * 3) for sum_ in most)


def test_what_memory_did_not_suffice_for_is_tried_again_alone() -> None:
    together, tried, done = Barrier(3), list[int](), list[str]()

    def work(item: int) -> str | Lacking[str]:
        tried.append(item)
        if len(tried) <= 3:
            together.wait(60)
        return "done" if item == 0 or (item == 1 and len(tried) > 3) else Lacking(f"{item} failed")

    at_once([Doubling()], work, [0, 1, 2], done.append, lambda _: 1.0)
    assert sorted(tried) == [0, 1, 1, 2, 2]
    assert sorted(done) == ["2 failed", "done", "done"]

    at_once([Doubling()], work, [4], done.append, lambda _: 1.0)
    assert (tried[5:], done[3:]) == ([4], ["4 failed"]), "it was alone"


def test_classes_count_and_the_grid_of_the_network() -> None:
    def memory(spacing: float, classes: int = 2, probabilities: bool = False) -> float:
        plan = plan_3d(spacing=(1.0, 1.0, 1.0), classes={value: f"c{value}" for value in range(classes)})
        predictor = Doubling()
        ScanPredictor.__init__(predictor, plan, batch=1)
        grid = grid_of((24, 24, 24), Geometry(np.diag([spacing] * 3 + [1.0])), plan, Path("scan.nii"))
        return predictor.memory_of(grid, probabilities)

    assert memory(1, classes=65) > 65 * 4 * 24**3
    assert memory(1, classes=65) > 20 * memory(1)
    assert memory(2) > 6 * memory(1)
    assert memory(1, probabilities=True) - memory(1) == 2 * 4 * 24**3
