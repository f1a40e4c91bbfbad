"""What `ucseg init` notes of the places and sizes that headers state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ucseg.errors import some
from ucseg.folder.survey import MaskFacts, Surveyed
from ucseg.scans.address import Address
from ucseg.scans.reading import holds_fractions, is_segmentation, nested_classes
from ucseg.scans.same_grid import offset

_SAMPLE = 8


def of_masks(surveyed: Sequence[Surveyed]) -> list[str]:
    """Notes about the masks of cases that can be used."""
    return [*_places(surveyed), *_parts(surveyed), *_nested(surveyed)]


def _places(surveyed: Sequence[Surveyed]) -> Iterable[str]:
    """Of masks that lie elsewhere by their headers, or on their image's grid by another reading of these."""
    elsewhere, otherwise = [], defaultdict(list)
    for one in surveyed:
        mask = one.mask
        if not isinstance(mask, MaskFacts) or mask.shape != one.image.shape:
            continue
        if is_segmentation(mask.mask):
            continue
        found = offset(mask.geometry, one.image.geometry, one.image.shape)
        if found.elsewhere:
            elsewhere.append(mask.mask.name)
        elif found.only_by:
            otherwise[found.only_by].append(mask.mask.name)
    if elsewhere:
        yield (
            f"masks that lie elsewhere than their images by their headers: {len(elsewhere)} ({some(elsewhere)}); "
            "nothing uses them before the headers are right: `ucseg check` says what to do."
        )
    for by, names in otherwise.items():
        yield f"masks that agree with their images by {by}: {len(names)} ({some(names)}); so they are used."


def _parts(surveyed: Sequence[Surveyed]) -> Iterable[str]:
    """Of masks that hold a part of their image, or parts of voxels."""
    masks = [(one.mask, one.image.shape) for one in surveyed if isinstance(one.mask, MaskFacts)]
    smaller = [mask.mask for mask, shape in masks if len(mask.shape) == len(shape) == 3 and mask.shape != shape]
    files = _called([mask for mask in smaller if not is_segmentation(mask)])
    if files:
        yield f"masks that hold a part of their image's voxels: {len(files)} ({some(files)}); their headers say which."
    flat = [mask.mask.name for mask, shape in masks if len(mask.shape) != len(shape) and shape[0] == shape[1]]
    if flat:
        yield (
            f"square masks that have three axes and their images two, or the other way: {len(flat)} ({some(flat)}). "
            "Rows and columns are read as each format counts them; look at the contact sheet."
        )
    several = [mask.mask.name for mask, _ in masks if mask.mask.part == "channels"]
    if several:
        yield f"masks with a fourth axis, read as one channel a class: {len(several)} ({some(several)})."
    fractional = sum(holds_fractions(mask.mask) for mask, _ in masks)
    if fractional:
        yield f"segmentations that state parts of voxels: {fractional}; a voxel is a segment's from half of it on."


def _nested(surveyed: Sequence[Surveyed]) -> Iterable[str]:
    """Of classes that lie inside others, in a sample."""
    masks = [one.mask.mask for one in surveyed if isinstance(one.mask, MaskFacts) and one.mask.mask.part]
    found = {pair for mask in masks[:: max(1, len(masks) // _SAMPLE)][:_SAMPLE] for pair in nested_classes(mask)}
    for inner, outer in sorted(found):
        yield f"{inner} lies inside {outer}: voxels of both are {inner} alone, and figures of {outer} are without them."


def _called(masks: Sequence[Address]) -> list[str]:
    """Their names; with their folders where several have one name."""
    names = [mask.name for mask in masks]
    return names if len({*names}) == len(names) else [f"{mask.parent.name}/{mask.name}" for mask in masks]


def of_spacings(surveyed: Sequence[Surveyed], dims: int) -> Iterable[str]:
    """Notes about headers that say two spacings, and about volumes that state none."""
    doubts: dict[str, list[str]] = defaultdict(list)
    for one in surveyed:
        if one.image.geometry.doubt:
            doubts[one.image.geometry.doubt].append(one.case.image.name)
    if doubts:
        listed = "; ".join(f"{doubt}: {some(names)}" for doubt, names in [*doubts.items()][:3])
        yield (
            f"the headers of {sum(map(len, doubts.values()))} scans contradict themselves, and the second spacing is "
            f"taken ({listed}). If the first one is right, repeat with --geometry {_first(doubts)}."
        )
    bare = [one.case.image.name for one in surveyed if one.image.geometry.unit == "px"]
    if dims == 3 and bare:
        yield (
            f"{len(bare)} volumes state no spacing ({some(bare)}), so their voxels are taken for cubes. "
            "If you know it, repeat with --spacing and the mm along each axis, such as --spacing 10,1.5,1.5."
        )


def _first(doubts: Iterable[str]) -> str:
    return next(iter(doubts)).partition(" ")[0]
