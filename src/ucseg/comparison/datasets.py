"""The data of a comparison: a dataset for each labelled amount, whose other masks training cannot reach; test sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ucseg.batches.prepare import content_digest
from ucseg.comparison.grid import ALL, file_name
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks, save_dataset
from ucseg.dataset.splits import hide_masks
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header
from ucseg.types import NOT_ANNOTATED, Array

OWN_TEST = "test"
"""Key of the dataset's own test split; other test sets go by their folder."""


@dataclass(frozen=True)
class Amount:
    """A labelled amount, as given or "all".

    `dataset` has the training cases, of which only so many have a mask, and the validation cases. No test case.
    """

    text: str
    dataset: Dataset

    @property
    def labelled(self) -> list[str]:
        """Names of the labelled training cases."""
        return [case.case for case in self.dataset.labelled]


@dataclass(frozen=True)
class Cohort:
    """Cases to evaluate on, each with its reference as `mask`; `left_out` counts those of the split without one.

    The dataset's classes may be numbered in another order than the model's. Results are filed under `key`.
    """

    key: str
    title: str
    dataset: Dataset
    cases: list[Case]
    left_out: int

    def to_model(self, label: Array, classes: Mapping[int, str]) -> Array:
        """A reference (S, this dataset's class indices) in the model's numbering; classes belong together by name.

        What is not annotated becomes background.
        """
        number = {name: index for index, name in classes.items()}
        table = np.zeros(NOT_ANNOTATED + 1, np.uint8)
        for index, name in self.dataset.config.classes.items():
            table[index] = number[name] if index else 0
        return np.asarray(table[label])


def labelled_amounts(dataset: Dataset, texts: Sequence[str]) -> tuple[list[Amount], list[UserError]]:
    """The amounts, smallest first, "all" last and there in any case; and what is wrong with them.

    The cases shown are those that `ucseg init --labelled` shows with the dataset's seed: the same for every method
    and seed, and those of 5 % are among those of 10 %.
    """
    folder = dataset.folder  # of the derived dataset only once it is written; nothing reads it before
    config = dataset.config.model_copy(update={"root": str(dataset.root)})
    cases = [case for case in dataset.cases if case.split != "test"]
    everything = Amount(ALL, Dataset(folder, config, cases))
    found: dict[tuple[str, ...], Amount] = {}
    problems: list[UserError] = []
    for text in dict.fromkeys(texts):
        if text == ALL:
            continue
        try:
            hidden = hide_masks(cases, text, config.seed)
        except UserError as error:
            problems.append(error)
            continue
        shown = [replace(case, mask=None) if case.case in hidden else case for case in cases]
        amount = Amount(text, Dataset(folder, config, shown))
        if not amount.labelled:
            said = f"--labelled {text} leaves no labelled case for training; ask for at least one."
            problems.append(UserError("amount-nothing", said))
        elif tuple(amount.labelled) in found:
            same = found[tuple(amount.labelled)].text
            count = len(amount.labelled)
            which = "case" if count == 1 else f"{count} cases"
            said = f"--labelled {same} and {text} show the same {which}; give one of them."
            problems.append(UserError("amounts-same", said))
        elif hidden:
            found[tuple(amount.labelled)] = amount
        else:
            said = f"--labelled {text} shows every mask that there is; write '{ALL}' for that."
            problems.append(UserError("amount-everything", said))
    return [*sorted(found.values(), key=lambda one: len(one.labelled)), everything], problems


def write_amount(amount: Amount, folder: Path) -> Path:
    """Write the derived dataset. Masks that it hides are listed nowhere in it: the dataset it came from has them."""
    place = (folder / file_name(amount.text)).absolute()
    save_dataset(replace(amount.dataset, folder=place))
    return place


def own_cohort(dataset: Dataset) -> Cohort:
    """The dataset's test split."""
    masks = reference_masks(dataset)
    return _with_references(OWN_TEST, f"{dataset.config.name}, test split", dataset, dataset.test, masks)


def other_cohort(path: Path) -> Cohort:
    """The test split of another dataset; of one without a test split all cases that have a mask."""
    dataset = load_dataset(path)
    masks = reference_masks(dataset)
    tested = [case for case in dataset.test if case.case in masks]
    what, cases = ("test split", dataset.test) if tested else ("all cases with a mask", dataset.cases)
    return _with_references(str(dataset.folder), f"{dataset.config.name}, {what}", dataset, cases, masks)


def cohort(key: str, dataset: Path) -> Cohort:
    """The test set of a key: the dataset's own, or another one."""
    return own_cohort(load_dataset(dataset)) if key == OWN_TEST else other_cohort(Path(key))


def check_fit(own: Dataset, other: Cohort) -> None:
    """Refuse a test set that models of the dataset cannot be measured on.

    Raises:
        UserError: it has no masks, or other classes, dims, channels or units.
    """
    here, there = own.config, other.dataset.config
    classes = [sorted(name for index, name in config.classes.items() if index) for config in (here, there)]
    name = f"--test-on {other.dataset.folder}"
    if not other.cases:
        raise UserError("test-set-no-mask", f"{name}: none of its cases has a mask; give a dataset with masks.")
    if classes[0] != classes[1]:
        listed = [", ".join(one) for one in classes]
        raise UserError(
            "test-set-classes",
            f"{name}: its classes are {listed[1]}, those of {own.folder} {listed[0]}; give them the same names.",
        )
    units = [read_header(data.cases[0].image)[1].unit for data in (own, other.dataset)]
    pairs = {"dims": (here.dims, there.dims), "channels": (here.channels, there.channels), "unit": tuple(units)}
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise UserError(
                "test-set-images",
                f"{name}: its images have {what} {theirs}, those of {own.folder} {ours}; both must be the same.",
            )


def digest(cases: Iterable[Case]) -> str:
    """Of which cases there are, whose they are and what their files hold."""
    listed = sorted(cases, key=lambda case: case.case)
    total = hashlib.blake2b(digest_size=8)
    for case, content in zip(listed, for_each(content_digest, listed), strict=True):
        total.update(f"{case.case} {case.subject} {content}\n".encode())
    return total.hexdigest()


def images_of(cases: Sequence[Case]) -> dict[str, str]:
    """What the image files of cases hold, as digests -> a case; no mask is opened."""
    bare = [replace(case, mask=None) for case in cases]
    return {content: case.case for case, content in zip(bare, for_each(content_digest, bare), strict=True)}


def _with_references(
    key: str, title: str, dataset: Dataset, cases: Sequence[Case], masks: Mapping[str, Address]
) -> Cohort:
    chosen = [replace(case, mask=masks[case.case]) for case in cases if case.case in masks]
    return Cohort(key, title, dataset, chosen, len(cases) - len(chosen))
