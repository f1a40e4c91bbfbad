"""Several scans at a time: a thread for each, and their windows through the networks as one batch.

Of small scans, reading, resampling and writing take about as long as the networks, and a GPU waits for them. So each
scan has a thread that does all of its work but one part: it hands windows to the thread of the caller, which alone
computes networks. Windows of one size that wait there at the same time become one batch.

On a CPU the answers to a batch and to its parts differ by rounding at most. So do the masks, where two classes are
equally likely.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from ucseg.inference.maps import Layout
from ucseg.machine.cores import cores
from ucseg.machine.memory import free_memory, is_out_of_memory
from ucseg.training.allocator import give_back
from ucseg.types import Array

if TYPE_CHECKING:
    from ucseg.inference.scan_predictor import ScanPredictor

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_WORK = 2**30
"""Bytes that the scans at work take together, at most. A scan that takes more is alone."""
MOST = 64
"""Scans at work."""


@dataclass(frozen=True)
class Lacking(Generic[Result]):
    """What stands for an item that memory did not suffice for, if it does not suffice either when it is alone."""

    result: Result


@dataclass(eq=False)
class _Question:
    """Windows of one scan, B x Cin x S, and where its thread waits for the answer."""

    predictor: ScanPredictor
    windows: Array
    answer: Future[tuple[Array, Layout]] = field(default_factory=Future)

    def joins(self, other: _Question) -> bool:
        """Whether both can be of one batch."""
        alike = self.predictor is other.predictor and self.windows.shape[1:] == other.windows.shape[1:]
        return alike and self.predictor.joins_scans

    @property
    def voxels(self) -> int:
        """That a pass through the networks holds, mirrors and all."""
        return len(self.windows) * math.prod(self.windows.shape[2:]) * len(self.predictor.mirrors)


class Desk:
    """Where the threads of scans ask for answers. One thread, the caller's, gives them."""

    def __init__(self) -> None:
        self._news: SimpleQueue[Any] = SimpleQueue()
        self._asked: list[_Question] = []
        self._closed, self._lock = False, Lock()

    def ask(self, predictor: ScanPredictor, windows: Array) -> tuple[Array, Layout]:
        """As `ScanPredictor.answer`, but another thread computes it."""
        question = _Question(predictor, windows)
        with self._lock:
            if self._closed:
                raise CancelledError
            self._news.put(question)
        return question.answer.result()

    def tell(self, ended: Future[Any]) -> None:
        """A thread has ended its scan."""
        self._news.put(ended)

    def ended(self) -> list[Future[Any]]:
        """The scans that have ended. While there is none, questions are answered."""
        while True:
            found = self._take_in(wait=not self._asked)
            if found:
                return found
            if self._asked:
                self._answer(self._next_batch())

    def close(self) -> None:
        """Nobody answers any more: scans that wait for it end with an error."""
        with self._lock:
            self._closed = True
        self._take_in(wait=False)
        for question in self._asked:
            question.answer.cancel()

    def _take_in(self, wait: bool) -> list[Future[Any]]:
        ended: list[Future[Any]] = []
        try:
            news = self._news.get(block=wait)
            while True:
                (self._asked if isinstance(news, _Question) else ended).append(news)
                news = self._news.get(block=False)
        except Empty:
            return ended

    def _next_batch(self) -> list[_Question]:
        """The oldest question, and others like it that fit into the same pass."""
        first, *others = self._asked
        batch, room = [first], first.predictor.voxels_at_once - first.voxels
        for one in others:
            if one.joins(first) and one.voxels <= room:
                batch.append(one)
                room -= one.voxels
        return batch

    def _answer(self, batch: Sequence[_Question]) -> None:
        try:
            windows = batch[0].windows if len(batch) == 1 else np.concatenate([one.windows for one in batch])
            values, layout = batch[0].predictor.answer(windows)
        except Exception as error:
            if len(batch) > 1 and is_out_of_memory(error):  # each may fit by itself
                for one in batch:
                    self._answer([one])
                return
            for one in batch:
                one.answer.set_exception(error)
        else:
            for one in batch:
                one.answer.set_result((values[: len(one.windows)], layout))
                values = values[len(one.windows) :]
        self._asked = [one for one in self._asked if not one.answer.done()]


def at_once(
    predictors: Sequence[ScanPredictor],
    work: Callable[[Item], Result | Lacking[Result]],
    items: Sequence[Item],
    done: Callable[[Result], None],
    size: Callable[[Item], float],
) -> None:
    """`work` of each item in a thread, which may let any of the predictors predict a scan.

    What is `Lacking` beside others is tried again when all else has ended, alone.

    Args:
        done: called in this thread with each result, in the order in which they end.
        size: about how many bytes the work takes, for `AT_WORK`.

    Raises:
        Exception: the first one of `work` or `done`. What has not started is dropped, and what waits for networks ends.
    """
    desk, waiting = Desk(), deque(items)
    running, crowded, again = dict[Future[Any], tuple[Item, float]](), set[Future[Any]](), deque[Item]()
    windows = max(max(1, one.batch // len(one.mirrors)) for one in predictors)
    # As many as the networks take at once, as many again that wait for them, and those that cores work on.
    most = min(MOST, len(items), 2 * windows + cores())
    if not items:
        return
    room = min(AT_WORK, free_memory())
    with ExitStack() as stack:
        for one in predictors:
            stack.enter_context(one.answers_at(desk))
        pool, started = ThreadPoolExecutor(most), Event()
        stack.callback(pool.shutdown, cancel_futures=True)
        stack.callback(desk.close)
        stack.callback(started.set)
        for _ in range(most):  # all threads start now: later there may be no memory for one
            pool.submit(started.wait)
        started.set()

        def begin(item: Item, takes: float) -> None:
            future: Future[Any] = pool.submit(work, item)
            running[future] = item, takes
            if len(running) > 1:
                crowded.update(running)
            future.add_done_callback(desk.tell)

        following = size(waiting[0])
        while waiting or running or again:
            while waiting and len(running) < most:
                if running and sum(takes for _, takes in running.values()) + following > room:
                    break
                begin(waiting.popleft(), following)
                following = size(waiting[0]) if waiting else 0.0
            if again and not running:
                give_back()  # errors, their frames and questions hold each other, and with them all maps of a scan
                begin(again.popleft(), math.inf)
            for ended in desk.ended():
                (item, _), result = running.pop(ended), ended.result()
                if not isinstance(result, Lacking):
                    done(result)
                elif ended in crowded:
                    again.append(item)
                else:
                    done(result.result)
                crowded.discard(ended)
