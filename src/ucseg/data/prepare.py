"""Cases as the network sees them, made once and kept: oriented, resampled and normalised, as memory-mapped arrays.

An entry's name holds a digest of the content of image and mask; its folder, of everything in the plan and the dataset
that decides what is in it. So a changed file or plan is made anew, a changed patch or batch is not, and an entry that
is there is right: it was written whole under another name first.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic, process_time
from types import ModuleType

import numpy as np
from rich.console import Console
from rich.progress import track

from ucseg.data.addresses import first_file
from ucseg.data.atomic import whole_file
from ucseg.data.formats import files_of, read_scan
from ucseg.data.manifest import Dataset, DatasetConfig
from ucseg.data.masks import read_label
from ucseg.data.parallel import for_each
from ucseg.data.plan import Plan
from ucseg.data.preprocess import label_to_network_grid, to_network_grid
from ucseg.errors import UserError
from ucseg.types import Array, Case

PREPROCESSING = 1
"""Raise it when preprocessing changes what it makes: older entries are then left aside."""
DECIDING = ("unit", "spacing", "size", "slice_axis", "channels", "classes", "normalisation", "nonzero", "ct_window")
"""The values of the plan that decide what an entry holds."""
WORTH_PROCESSES = 3.0
"""Seconds that threads would leave each core idle: more, and processes, which import everything anew, are faster."""
SEEN_ENOUGH = 1.0
"""Seconds after which that is known; the first cases load what they need of the libraries."""
BATCH = 0.2
"""Seconds of work that a process is given at a time."""


@dataclass(frozen=True)
class PreparedCase:
    """One case on the network's grid.

    Attributes:
        case, subject: as in cases.csv.
        image: .npy, C x S float16 (float32 if a value does not fit), to be memory-mapped.
        label: .npy, S uint8; None: unlabelled.
        shape: S.
    """

    case: str
    subject: str
    image: Path
    label: Path | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """A dataset on the network's grid. There is no field for test cases: training never needs them.

    Attributes:
        plan: that it was made with.
        labelled, unlabelled: training cases.
        validation: validation cases, all labelled.
        left_out: (case, reason) of those that could not be prepared.
        made: how many entries were made now; the others were there.
    """

    plan: Plan
    labelled: list[PreparedCase]
    unlabelled: list[PreparedCase]
    validation: list[PreparedCase]
    left_out: list[tuple[str, str]]
    made: int = 0


def prepare(
    dataset: Dataset, plan: Plan, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> Prepared:
    """Prepare the training and validation cases of a dataset; what is in the cache already is only found again.

    Args:
        dataset: no test case of it is opened, and no mask that is hidden.
        plan: what the network sees.
        cache: folder of the arrays; None: `cache` in the dataset's folder.
        workers: most cases at a time; None: one a core, at most 16.
        progress: show a bar on stderr.

    Raises:
        UserError: no labelled training case could be prepared. A single broken case is left out and named.
    """
    if len(plan.classes) != len(dataset.config.classes):
        raise UserError(
            f"{dataset.folder}: the plan has {len(plan.classes)} classes, the dataset {len(dataset.config.classes)}; "
            "make the plan anew with `ucseg plan`."
        )
    folder = (cache or dataset.folder / "cache") / _deciding_digest(plan, dataset.config)
    useless = "a validation case without a mask measures nothing; give it one, or make it a training case."
    left_out = [(case.case, useless) for case in dataset.validation if case.mask is None]
    cases = dataset.training + [case for case in dataset.validation if case.mask is not None]
    digests = for_each(content_digest, cases)
    done: dict[str, PreparedCase | str] = {}
    missing: list[_Task] = []
    for case, digest in zip(cases, digests, strict=True):
        task = _Task(case, dataset.config, plan, folder, digest)
        entry = digest[1:] if digest.startswith("!") else _entry(task)
        if entry is None:
            missing.append(task)
        else:
            done[case.case] = entry
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
    shown = track(
        _make_all(missing, workers),
        "preparing cases",
        len(missing),
        console=Console(stderr=True),
        disable=not (progress and missing),
    )
    done.update(shown)
    left_out += [(case.case, found) for case in cases if isinstance(found := done[case.case], str)]
    good = {case: found for case, found in done.items() if not isinstance(found, str)}
    prepared = Prepared(
        plan,
        [good[case.case] for case in dataset.labelled if case.case in good],
        [good[case.case] for case in dataset.unlabelled if case.case in good],
        [good[case.case] for case in dataset.validation if case.case in good],
        left_out,
        sum(task.case.case in good for task in missing),
    )
    if not prepared.labelled:
        reasons = "\n".join(f"{case}: {reason}" for case, reason in left_out[:5])
        raise UserError(f"{dataset.folder}: no labelled training case could be prepared.\n{reasons}".strip())
    return prepared


@dataclass(frozen=True)
class _Task:
    case: Case
    config: DatasetConfig
    plan: Plan
    folder: Path
    digest: str

    @property
    def image(self) -> Path:
        return self.folder / f"{self._name}.image.npy"

    @property
    def label(self) -> Path | None:
        return self.folder / f"{self._name}.label.npy" if self.case.mask is not None else None

    @property
    def _name(self) -> str:
        return re.sub(r"[^\w.-]", "_", self.case.case)[-80:] + f".{self.digest}"


def _deciding_digest(plan: Plan, config: DatasetConfig) -> str:
    values = plan.model_dump(mode="json", include=set(DECIDING))
    masks = config.model_dump(mode="json", include={"classes", "mask_threshold", "fill_outlines"})
    text = json.dumps([PREPROCESSING, values, masks], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def content_digest(case: Case) -> str:
    """Of image and mask; or "!" and why there is none."""
    total = hashlib.blake2b(digest_size=8)
    for path in [case.image] + ([case.mask] if case.mask is not None else []):
        try:
            files = files_of(path)
        except UserError as error:
            return f"!{error}"
        if path not in files:  # which array, which channels, which series
            total.update(str(path)[len(str(first_file(path).parent)) :].encode())
        for part in files:
            try:
                with part.open("rb") as file:
                    total.update(hashlib.file_digest(file, "blake2b").digest())
            except OSError as error:
                return f"!{part}: cannot be read ({error.strerror}); mend cases.csv or bring the file back."
    return total.hexdigest()


def _entry(task: _Task) -> PreparedCase | None:
    """The case as it lies in the cache; None if it does not, or is damaged."""
    try:
        image = np.load(task.image, mmap_mode="r")
        if task.label is not None and np.load(task.label, mmap_mode="r").shape != image.shape[1:]:
            return None
    except (OSError, ValueError):
        return None
    return PreparedCase(task.case.case, task.case.subject, task.image, task.label, image.shape[1:])


def _make(task: _Task) -> PreparedCase | str:
    """Prepare one case and write it; or say why it cannot be."""
    case = task.case
    try:
        scan = read_scan(case.image)
        image, grid = to_network_grid(scan, task.plan)
        if case.mask is not None and task.label is not None:
            label = read_label(case.mask, scan.array.shape[1:], task.config, scan.geometry)
            _save(label_to_network_grid(label, grid), task.label)
        fits = np.abs(image).max(initial=0) <= np.finfo(np.float16).max
        _save(image.astype(np.float16) if fits else image, task.image)
    except UserError as error:
        return str(error)
    except Exception as error:
        error.add_note(f"while preparing case {case.case} ({case.image})")
        raise
    return PreparedCase(case.case, case.subject, task.image, task.label, grid.shape)


def _save(array: Array, path: Path) -> None:
    with whole_file(path, ".npy") as temporary:
        np.save(temporary, array)


def _make_all(tasks: list[_Task], workers: int | None) -> Iterator[tuple[str, PreparedCase | str]]:
    workers = max(1, min(workers or min(16, _cores()), len(tasks)))
    left = deque(tasks)
    seconds = yield from _in_threads(left, workers)
    if left:
        # Sending a case costs a millisecond, as much as making a small one; the last batches must not keep one waiting.
        batch = max(1, min(int(BATCH / seconds), len(left) // (4 * workers)))
        yield from _in_processes(list(left), workers, batch)


def _in_threads(left: deque[_Task], workers: int) -> Generator[tuple[str, PreparedCase | str], None, float]:
    """Threads begin at once and share memory. They empty `left`, unless processes would save time on what remains.

    Large arrays are worked on without Python's lock, and threads keep all cores busy; small scans are mostly Python, of
    which one thread runs at a time.

    Returns:
        processor seconds of a task.
    """
    done, begun, used = 0, monotonic(), process_time()
    pool = ThreadPoolExecutor(workers)
    running: dict[Future[PreparedCase | str], str] = {}
    try:
        while left or running:
            while left and len(running) < 2 * workers:
                task = left.popleft()
                running[pool.submit(_make, task)] = task.case.case
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done += 1
                yield running.pop(future), future.result()
            passed, worked = monotonic() - begun, process_time() - used
            idle = passed - worked / workers  # of each core
            if workers > 1 and passed > SEEN_ENOUGH and len(left) * idle / done > WORTH_PROCESSES:
                break
        yield from ((running[future], future.result()) for future in as_completed(running))
        return (process_time() - used) / max(1, done)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(tasks: list[_Task], workers: int, batch: int) -> Iterator[tuple[str, PreparedCase | str]]:
    # Spawned, not forked: a fork would copy locks that torch's and rich's threads may hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        with _main_left_alone():
            futures = [pool.submit(_make_some, tasks[at : at + batch]) for at in range(0, len(tasks), batch)]
        for future in as_completed(futures):
            yield from future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died while preparing cases, most likely for want of memory; "
            "run it again with fewer workers (--workers 1): what is done is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _make_some(tasks: list[_Task]) -> list[tuple[str, PreparedCase | str]]:
    return [(task.case.case, _make(task)) for task in tasks]


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers in order
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed ends no worker, and they would wait for its next case for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Workers started in here do not run the user's script again.

    Spawned processes import the main module, so that a script which calls `ucseg.prepare` without a guard would start
    itself over in every worker. Nothing of it is needed there: the workers' function lives in this module.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
