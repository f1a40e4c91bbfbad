"""What do the numbers in predictions and references mean? Notes of predictions, datasets and segments say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ucseg.dataset.manifest import Dataset
from ucseg.dataset.masks import mask_values, values_held
from ucseg.errors import UserError
from ucseg.folder.predictions import Note, note_of
from ucseg.scans.address import Address
from ucseg.scans.reading import segment_names


def note_beside(predictions: Path) -> Note | None:
    """What `ucseg predict` noted in a folder of masks, or beside one mask; None where it did not make them."""
    return note_of(predictions if predictions.is_dir() else predictions.parent)


def classes_of(predictions: Path) -> dict[int, str]:
    """Class names that `ucseg predict` noted beside its masks; empty where it did not make them."""
    note = note_beside(predictions)
    return note.classes if note is not None else {}


def as_in_training(predictions: Path, references: Sequence[Address]) -> tuple[dict[int, int] | None, list[int]]:
    """How references are read like the masks of training: value -> class index, and the values that are no class.

    `ucseg predict` noted both beside its masks. The mapping is None where there is none, or where the references hold
    other values or names. Where they hold nothing but what was "not annotated", they are coded in another way.
    A reference that cannot be read decides nothing: reading it again says what is wrong.
    """
    note = note_beside(predictions)
    if note is None or not (note.values or note.not_annotated):
        return None, []
    held = {0}
    for mask in references:
        with suppress(UserError, OSError):
            if segment_names(mask):
                return None, note.not_annotated
            held |= set(values_held(mask_values(mask)).tolist())
    if held <= {0, *note.not_annotated}:
        return None, []
    known = {0, *note.values, *note.not_annotated}
    return (note.values if note.values and held <= known else None), note.not_annotated


def require_same_classes(predictions: Path, dataset: Dataset) -> None:
    """Refuse predictions whose values mean other classes than the dataset's; numbers that agree are no proof."""
    noted, own = classes_of(predictions), dataset.config.classes
    first = next((index for index in sorted(noted | own) if noted.get(index) != own.get(index)), None)
    if noted and first is not None:
        raise UserError(
            "classes-of-other-model",
            f"{predictions}: class {first} is '{noted.get(first, 'not there')}' in the predictions and "
            f"'{own.get(first, 'not there')}' in {dataset.folder}; train and predict with the dataset as it is now, or "
            "set its classes back.",
        )


def as_references(made: Mapping[int, str], classes: Mapping[int, str] | None) -> dict[int, int] | None:
    """Numbers of the predictions as those of the references, by name; None where they agree or a name is missing."""
    index = {name: number for number, name in (classes or {}).items() if number}
    found = {number: index[name] for number, name in made.items() if number and name in index}
    return None if len(found) < len(index) or all(a == b for a, b in found.items()) else found


def agreed_names(masks: Sequence[Address]) -> dict[int, str]:
    """Number -> name where all masks that name their segments number them alike; empty where none does.

    Raises:
        UserError: they do not, so the numbers in the predictions have no known names.
    """
    found: dict[int, tuple[str, Address]] = {}
    for path in masks:
        try:
            names = segment_names(path)
        except UserError:
            continue  # reading it will say what is wrong
        for number, name in names.items():
            other, where = found.setdefault(number, (name, path))
            if other.lower() != name.lower():
                raise UserError(
                    "segment-numbers",
                    f"{path}: its segment {number} is '{name}', that of {where.name} is '{other}'. "
                    "Say what the numbers in the predictions mean, e.g. --classes 1=liver,2=spleen.",
                )
    return {number: name for number, (name, _) in found.items()}
