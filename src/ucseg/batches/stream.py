"""What does a batch hold? Patches of two streams of prepared cases, labelled and unlabelled.

A batch is a pure function of (seed, step, piece). Each slot of each half has its own generators:

- a resumed run sees the same batches as an uninterrupted one, with any number of loader workers;
- the labelled half does not depend on the unlabelled one: methods are compared on the same images;
- the pieces, for several devices or to save memory, are together the batch that one device would see.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ucseg.batches.augment import apply_intensity, apply_spatial, sample_intensity, sample_spatial
from ucseg.batches.prepare import PreparedCase
from ucseg.batches.voxels import annotated_voxel, foreground_voxel, open_prepared
from ucseg.errors import UserError
from ucseg.planning.plan import Plan
from ucseg.randomness import numpy_generator
from ucseg.types import NOT_ANNOTATED, Array, Batch, Strength

PREFETCH = 4  # batches each worker has ready


def require_pieces(plan: Plan, views: Mapping[str, Strength], pieces: int) -> None:
    """Raise a UserError unless each half of the plan's batch that training uses has so many equal pieces."""
    halves = ["labelled_batch", "unlabelled_batch"] if views else ["labelled_batch"]
    uneven = {name: getattr(plan, name) for name in halves if getattr(plan, name) % pieces}
    if uneven:
        fix = " ".join(f"--set plan.{name}={-(-count // pieces) * pieces}" for name, count in uneven.items())
        raise UserError(
            "batch-pieces",
            f"{' and '.join(f'plan.{name} is {count}' for name, count in uneven.items())}, which cannot be cut into "
            f"{pieces} equal pieces (devices x nodes x accumulate). Use multiples of {pieces} ({fix}), or change the "
            "number of devices or accumulate.",
        )


class Stream:
    """The source of training batches.

    Args:
        labelled: prepared cases with a label.
        unlabelled: prepared cases without. Labelled ones that are not annotated everywhere are in this stream too. If
            there are none, unlabelled views come from the labelled images.
        views: names of the unlabelled views and how strongly each is changed; they share geometry, not intensities.
            Empty: no unlabelled half.
        pieces: number of equal pieces into which the plan's batch is cut.

    Raises:
        UserError: there is no labelled case, or a half of the batch cannot be cut into the pieces.
    """

    def __init__(
        self,
        labelled: Sequence[PreparedCase],
        unlabelled: Sequence[PreparedCase],
        plan: Plan,
        seed: int,
        views: Mapping[str, Strength],
        *,
        pieces: int = 1,
    ) -> None:
        if not labelled:
            raise UserError("no-labelled-case", "training needs at least one case with a mask; add masks to cases.csv.")
        require_pieces(plan, views, pieces)
        self.labelled = list(labelled)
        partly = [case for case in labelled if case.partly]
        self.unlabelled = [*unlabelled, *partly] if unlabelled else self.labelled
        self._partly = bool(partly)
        self.plan, self.seed, self.views, self.pieces = plan, seed, dict(views), pieces
        across = plan.slice_axis
        self._box = plan.patch if across is None else (*plan.patch[:across], 1, *plan.patch[across:])
        self._spacing = tuple(edge for axis, edge in enumerate(plan.spacing) if axis != across)

    def batch(self, step: int, piece: int = 0) -> Batch:
        """A piece of the batch of a step, both counted from 0."""
        labelled = [self._labelled(step, slot) for slot in self._slots(self.plan.labelled_batch, piece)]
        images, labels, names = zip(*labelled, strict=True)
        label, annotated = torch.stack(labels).long(), None
        if self._partly:
            known = label != NOT_ANNOTATED
            label, annotated = label * known, known.float()
        batch = Batch(torch.stack(images), label, {}, list(names), [], annotated)
        if self.views:
            self._add_unlabelled(batch, step, piece)
        return batch

    def _add_unlabelled(self, batch: Batch, step: int, piece: int) -> None:
        unlabelled = [self._unlabelled(step, slot) for slot in self._slots(self.plan.unlabelled_batch, piece)]
        batch.unlabelled = {view: torch.stack([looks[view] for looks, _ in unlabelled]) for view in self.views}
        batch.unlabelled_cases = [name for _, name in unlabelled]

    def _slots(self, size: int, piece: int) -> range:
        length = size // self.pieces
        return range(piece * length, (piece + 1) * length)

    def _case(self, half: str, cases: list[PreparedCase], size: int, step: int, slot: int) -> PreparedCase:
        epoch, place = divmod(step * size + slot, len(cases))
        return cases[int(_order(self.seed, f"order-{half}", len(cases), epoch)[place])]

    def _labelled(self, step: int, slot: int) -> tuple[Tensor, Tensor, str]:
        case = self._case("labelled", self.labelled, self.plan.labelled_batch, step, slot)
        settings = self.plan.augmentation
        rng = numpy_generator(self.seed, "labelled/crop", step, slot)
        centre = None
        if self._forced(slot, rng.random()):
            case, centre = self._with_foreground(step, slot, rng)
        if case.label is None:
            raise ValueError(f"case {case.case} is among the labelled ones without a label")
        if case.partly and centre is None:  # a random patch may show nothing that is annotated
            centre = annotated_voxel(case.label, rng)
        starts = _corner(case.shape, self._box, rng, centre)
        image, label = self._cut(case.image, starts), self._cut(case.label, starts)
        rng = numpy_generator(self.seed, "labelled/geometry", step, slot)
        moved, label_moved = apply_spatial(sample_spatial(rng, settings, self.plan.patch, self._spacing), image, label)
        assert label_moved is not None
        return self._look("labelled/look", moved, step, slot), label_moved, case.case

    def _forced(self, slot: int, chance: float) -> bool:
        """Whether a slot shows foreground for sure: the last ones of a batch, or a batch of one now and then."""
        size, share = self.plan.labelled_batch, self.plan.augmentation.foreground
        return chance < share if size == 1 else slot >= round(size * (1 - share))

    def _with_foreground(
        self, step: int, slot: int, rng: np.random.Generator
    ) -> tuple[PreparedCase, tuple[int, ...] | None]:
        """The next case that holds a random class, and a voxel of it: so a rare class is seen as often as any.

        A class that no case holds, or none at all: the usual case, and a voxel of any of its classes.
        """
        size = self.plan.labelled_batch
        value = int(rng.integers(1, max(self.plan.classes) + 1))
        for more in range(len(self.labelled)):
            case = self._case("labelled", self.labelled, size, step, slot + more)
            voxel = None if case.label is None else foreground_voxel(case.label, rng, value)
            if voxel is not None:
                return case, voxel
        usual = self._case("labelled", self.labelled, size, step, slot)
        return usual, None if usual.label is None else foreground_voxel(usual.label, rng)

    def _unlabelled(self, step: int, slot: int) -> tuple[dict[str, Tensor], str]:
        case = self._case("unlabelled", self.unlabelled, self.plan.unlabelled_batch, step, slot)
        rng = numpy_generator(self.seed, "unlabelled/crop", step, slot)
        image = self._cut(case.image, _corner(case.shape, self._box, rng, None))
        rng = numpy_generator(self.seed, "unlabelled/geometry", step, slot)
        moved, _ = apply_spatial(sample_spatial(rng, self.plan.augmentation, self.plan.patch, self._spacing), image)
        looks = {
            view: self._look(f"unlabelled/look/{view}", moved, step, slot, strength)
            for view, strength in self.views.items()
        }
        return looks, case.case

    def _look(self, purpose: str, image: Tensor, step: int, slot: int, strength: Strength = "plan") -> Tensor:
        if strength == "weak":
            return image
        settings = self.plan.augmentation if strength == "plan" else self.plan.augmentation.strong()
        rng = numpy_generator(self.seed, purpose, step, slot)
        return apply_intensity(sample_intensity(rng, settings, self.plan.patch, len(image)), image)

    def _cut(self, path: Path, starts: tuple[int, ...]) -> Tensor:
        """A patch of an image (C x S float32) or a label (S uint8), padded with 0 where the case is smaller.

        0 is what prediction pads with, too.
        """
        array = open_prepared(path)
        lead = array.ndim - len(starts)
        parts, margins = [slice(None)] * lead, [(0, 0)] * lead
        for start, edge, size in zip(starts, self._box, array.shape[lead:], strict=True):
            parts.append(slice(max(start, 0), min(start + edge, size)))
            margins.append((max(-start, 0), max(start + edge - size, 0)))
        patch = np.array(array[tuple(parts)], dtype=np.float32 if lead else np.uint8)
        if any(sum(margin) for margin in margins):
            patch = np.pad(patch, margins)
        if self.plan.slice_axis is not None:
            patch = patch.squeeze(lead + self.plan.slice_axis)
        return torch.from_numpy(patch)


class ImageStream(Stream):
    """Patches of images alone, as many as a step of the plan has in both halves. No mask is opened."""

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        plan: Plan,
        seed: int,
        views: Mapping[str, Strength],
        *,
        pieces: int = 1,
    ) -> None:
        self.patches = plan.labelled_batch + plan.unlabelled_batch
        whole = plan.model_copy(update={"unlabelled_batch": self.patches})
        super().__init__(cases, cases, whole, seed, views, pieces=pieces)

    def batch(self, step: int, piece: int = 0) -> Batch:
        none = torch.empty(0, self.plan.channels, *self.plan.patch)
        batch = Batch(none, none[:, 0].long(), {})
        self._add_unlabelled(batch, step, piece)
        return batch


def loader(
    stream: Stream, start: int, total: int | None, workers: int, pieces: Sequence[int] = (0,)
) -> Generator[Batch, None, None]:
    """The batches of steps start, ..., total - 1 (None: without end).

    They are made in advance in `workers` processes (0: in this one, when needed), which end when this is closed.

    Args:
        pieces: of each step, the ones that are needed here, one after the other.

    Raises:
        UserError: a prepared file cannot be read.
    """
    batches = DataLoader(
        _Steps(stream, range(start, sys.maxsize // len(pieces) if total is None else total), pieces),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_leave_interrupts_to_the_main_process if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the process's random state must not advance
    )
    for item in batches:
        if isinstance(item, UserError):
            raise item
        yield Batch(**item)


class _Steps(Dataset[dict[str, Any] | UserError]):
    """Each item is a piece of a step: a batch as a dict (which pin_memory understands), or the error."""

    def __init__(self, stream: Stream, steps: range, pieces: Sequence[int]) -> None:
        self.stream, self.steps, self.pieces = stream, steps, pieces

    def __len__(self) -> int:
        return len(self.steps) * len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any] | UserError:
        try:
            step, piece = divmod(index, len(self.pieces))
            return vars(self.stream.batch(self.steps[step], self.pieces[piece]))
        except UserError as error:
            return error


def _leave_interrupts_to_the_main_process(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@lru_cache(maxsize=64)
def _order(seed: int, purpose: str, cases: int, epoch: int) -> Array:
    return numpy_generator(seed, purpose, epoch).permutation(cases)


def _corner(
    shape: tuple[int, ...], box: tuple[int, ...], rng: np.random.Generator, centre: tuple[int, ...] | None
) -> tuple[int, ...]:
    """First voxel of a box: random, or with `centre` in the middle if it fits. Negative where the case is smaller."""
    corner = []
    for axis, (size, edge) in enumerate(zip(shape, box, strict=True)):
        if size <= edge:
            corner.append(-((edge - size) // 2))
        elif centre is None:
            corner.append(int(rng.integers(size - edge + 1)))
        else:
            corner.append(min(max(centre[axis] - edge // 2, 0), size - edge))
    return tuple(corner)
