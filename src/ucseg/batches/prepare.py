"""What is in the cache? Cases as the network sees them: oriented, resampled and normalised, as memory-mapped arrays.

The name of an entry has a digest of image and mask. Its folder has one of the values of plan and dataset that decide
what the entry holds. So a new file or spacing makes a new entry, and a new patch or batch does not. Entries are written
under another name first: one that exists is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ucseg.batches.preprocess import grid_of, label_to_network_grid, to_network_grid
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CACHE, CASES_FILE, Dataset
from ucseg.dataset.masks import classes_held, read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.splits import may_join_training
from ucseg.errors import UserError
from ucseg.machine.pool import on_all_cores
from ucseg.machine.writing import make_folder, whole_file
from ucseg.planning.origin import READING, require_fit
from ucseg.planning.plan import Plan
from ucseg.scans.content import file_digest
from ucseg.scans.npy import open_npy
from ucseg.scans.reading import files_of, read_header, read_scan
from ucseg.types import NOT_ANNOTATED, Array

PREPROCESSING = 5
"""Raise it when preprocessing makes something else: older entries are then not used."""
DECIDING = ("unit", "spacing", "size", "slice_axis", "channels", "classes", "normalisation", "nonzero", "ct_window")
"""The values of the plan that decide what an entry holds."""


@dataclass(frozen=True)
class PreparedCase:
    """One case on the network's grid.

    Attributes:
        image: .npy, C x S float16 (float32 if a value does not fit), to be memory-mapped.
        label: .npy, S uint8; None: unlabelled.
        shape: S.
        lost: classes that the mask holds and the label does not: they are too small for the grid.
        partly: the label is NOT_ANNOTATED in places.
    """

    case: str
    subject: str
    image: Path
    label: Path | None
    shape: tuple[int, ...]
    lost: tuple[int, ...] = ()
    partly: bool = False


@dataclass(frozen=True)
class Prepared:
    """A dataset on the network's grid. It has no test cases: training never needs them.

    Attributes:
        labelled, unlabelled: training cases.
        left_out: (case, reason) of those that could not be prepared.
        made: how many entries are new; the others were in the cache.
    """

    plan: Plan
    labelled: list[PreparedCase]
    unlabelled: list[PreparedCase]
    validation: list[PreparedCase]
    left_out: list[tuple[str, str]]
    made: int = 0

    def __repr__(self) -> str:
        return (
            f"<Prepared: {len(self.labelled)} labelled, {len(self.unlabelled)} unlabelled and {len(self.validation)} "
            f"validation cases, {len(self.left_out)} left out>"
        )

    @property
    def lost(self) -> list[tuple[str, str]]:
        """Each case whose mask lost a class on the network's grid, with the class's name."""
        return [(case.case, self.plan.classes[c]) for case in self.labelled + self.validation for c in case.lost]


def prepare(
    dataset: Dataset, plan: Plan, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> Prepared:
    """Prepare the training and validation cases of a dataset, except those that are in the cache.

    Args:
        cache: folder of the arrays; None: `cache` in the dataset's folder.
        workers: most cases at a time; None: one a core, at most 16.
        progress: show a bar on stderr.

    Raises:
        UserError: the plan is not one of this dataset, no labelled training case could be prepared, or the cache
            cannot be written to. A single broken case is left out and reported.
    """
    require_fit(plan, dataset, f"{dataset.folder}: the plan")
    folder = (cache or dataset.folder / CACHE) / _deciding_digest(plan, dataset.config)
    free = {case.case for case in may_join_training(dataset.validation)}
    left_out = [
        (case.case, f"a validation case needs a mask; give it one, or {_instead(case.case in free)}.")
        for case in dataset.validation
        if case.mask is None
    ]
    cases = dataset.training + [case for case in dataset.validation if case.mask is not None]
    make_folder(folder, "--cache")
    tasks = [_Task(case, dataset.config, plan, folder) for case in cases]
    shown = track(
        on_all_cores(_found_or_made, tasks, workers),
        "preparing cases",
        len(tasks),
        console=Console(stderr=True),
        disable=not progress,
    )
    done: dict[str, PreparedCase | str] = {}
    made = 0
    for case, entry, new in shown:
        done[case] = entry
        made += new
    left_out += [(case.case, found) for case in cases if isinstance(found := done[case.case], str)]
    good = {case: found for case, found in done.items() if not isinstance(found, str)}
    prepared = Prepared(
        plan,
        [good[case.case] for case in dataset.labelled if case.case in good],
        [good[case.case] for case in dataset.unlabelled if case.case in good],
        [good[case.case] for case in dataset.validation if case.case in good],
        left_out,
        made,
    )
    if not prepared.labelled:
        reasons = "\n".join(f"{case}: {reason}" for case, reason in left_out[:5])
        raise UserError(
            "nothing-prepared", f"{dataset.folder}: no labelled training case could be prepared.\n{reasons}".strip()
        )
    return prepared


def _instead(free: bool) -> str:
    """Of a mask for a validation case. `free`: no labelled validation case is of its subject."""
    return "make it a training case" if free else "leave it out (its subject is in validation, so not for training)"


@dataclass(frozen=True)
class _Task:
    case: Case
    config: DatasetConfig
    plan: Plan
    folder: Path

    def files(self, digest: str) -> tuple[Path, Path | None]:
        name = re.sub(r"[^\w.-]", "_", self.case.case)[-80:] + f".{digest}"
        label = self.folder / f"{name}.label.npy" if self.case.mask is not None else None
        return self.folder / f"{name}.image.npy", label


def _lost_file(label: Path) -> Path:
    """Beside a label, where the mask lost classes: their numbers."""
    return label.with_name(label.name.removesuffix(".label.npy") + ".lost.npy")


def _partly_file(label: Path) -> Path:
    """Beside a label that is not annotated everywhere: how many of its voxels are."""
    return label.with_name(label.name.removesuffix(".label.npy") + ".partly.npy")


def _deciding_digest(plan: Plan, config: DatasetConfig) -> str:
    values = plan.model_dump(mode="json", include=set(DECIDING))
    masks = config.model_dump(mode="json", include={*READING} - {"dims", "modality", "channels"})
    text = json.dumps([PREPROCESSING, values, masks], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def content_digest(case: Case) -> str:
    """The digest of image and mask; or "!" and the reason why there is none."""
    total = hashlib.blake2b(digest_size=8)
    if case.mask is not None and case.slices is not None:
        total.update(f"slices {case.slices} ".encode())
    for address in [case.image] + ([case.mask] if case.mask is not None else []):
        try:
            files = files_of(address)
        except UserError as error:
            return f"!{error}"
        if address.path not in files:  # which array, which channels, which series
            total.update(str(address)[len(str(address.file.parent)) :].encode())
        for part in files:
            try:
                total.update(file_digest(part))
            except OSError as error:
                return f"!{part}: cannot be read ({error.strerror}); fix cases.csv or restore the file."
    return total.hexdigest()


def _found_or_made(task: _Task) -> tuple[str, PreparedCase | str, bool]:
    """The case's name; the case, or the reason why it cannot be prepared; whether its entry is new."""
    digest = content_digest(task.case)
    if digest.startswith("!"):
        return task.case.case, digest[1:], False
    files = task.files(digest)
    entry = _found(task.case, *files)
    if entry is not None:
        return task.case.case, entry, False
    made = _made(task, *files)
    return task.case.case, made, isinstance(made, PreparedCase)


def _found(case: Case, image: Path, label: Path | None) -> PreparedCase | None:
    """The case in the cache; None if it is not there, or damaged."""
    try:
        shape = open_npy(image).shape[1:]
        if label is not None and open_npy(label).shape != shape:
            return None
        lost = open_npy(_lost_file(label)) if label is not None and _lost_file(label).exists() else ()
    except (OSError, ValueError):
        return None
    partly = label is not None and _partly_file(label).exists()
    return PreparedCase(case.case, case.subject, image, label, shape, tuple(map(int, lost)), partly)


def _made(task: _Task, image: Path, label: Path | None) -> PreparedCase | str:
    """Prepare one case and write it; or the reason why it cannot be read.

    Raises:
        UserError: it cannot be written, which is true of every other case too.
    """
    case = task.case
    if case.mask == case.image:
        return f"{case.image}: the image is also its own mask; name the right mask in {CASES_FILE}."
    mask: Array | None = None
    lost: tuple[int, ...] = ()
    try:
        scan = read_scan(case.image)
        if scan.array.min() == scan.array.max():  # `ucseg check` calls it an error too
            value = f"{scan.array.flat[0]:g}"
            return f"{case.image}: the image is constant, every voxel is {value}; export it again, or remove the case."
        array, grid = to_network_grid(scan, task.plan)
        if case.mask is not None:
            mask = read_label(case.mask, scan.array.shape[1:], task.config, scan.geometry, case.slices)
            held = classes_held(mask)
            mask = label_to_network_grid(mask, grid)
            lost = tuple(sorted(held - classes_held(mask)))
    except UserError as error:
        return str(error)
    except MemoryError:
        shape, geometry, _ = read_header(case.image)
        size = " x ".join(map(str, grid_of(shape, geometry, task.plan, case.image.path).shape))
        return (
            f"{case.image}: there is not enough memory for it on the network's grid of {size}; give --workers 1, or "
            "leave it out."
        )
    except Exception as error:
        error.add_note(f"while preparing case {case.case} ({case.image})")
        raise
    known = 0 if mask is None else int(np.count_nonzero(mask != NOT_ANNOTATED))
    partly = mask is not None and known < mask.size
    if partly and not known:
        return f"{case.mask}: so little of it is annotated that nothing is left on the network's grid; annotate more."
    if mask is not None and label is not None:
        if partly:
            _save(np.array([known]), _partly_file(label))
        if lost:
            _save(np.array(lost), _lost_file(label))
        _save(mask, label)
    fits = np.abs(array).max(initial=0) <= np.finfo(np.float16).max
    _save(array.astype(np.float16) if fits else array, image)
    return PreparedCase(case.case, case.subject, image, label, grid.shape, lost, partly)


def _save(array: Array, path: Path) -> None:
    with whole_file(path, ".npy") as temporary:
        np.save(temporary, array)
