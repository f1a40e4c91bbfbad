"""Pictures that show something else than they store: what is said of them, and which way their masks were drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import scipy

from ucseg.dataset.masks import mask_values
from ucseg.errors import UserError, some
from ucseg.folder.survey import ImageFacts, MaskFacts, Surveyed
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.plain_images import ALPHA, PALETTE, TURNED, WHITE_IS_ZERO
from ucseg.scans.reading import read_header, read_scan
from ucseg.types import Array

_SAMPLE = 40
_VOTES, _SHARE = 3, 0.8
"""So many masks, and such a part of them, must fit the stored pixels better before a tag is not followed."""

_IMAGES = {
    TURNED: (
        "carry an orientation tag and are read as viewers show them",
        "if masks were drawn on the stored pixels, run ucseg init with --orientation stored",
    ),
    WHITE_IS_ZERO: ("are TIFF where white is zero, and are read as viewers show them", "look at one of them"),
}
_MASKS = {
    TURNED: (
        "carry an orientation tag and are turned by it",
        "look at one over its image; if it does not fit, save it without the tag",
    ),
    WHITE_IS_ZERO: (
        "are TIFF where white is zero; their stored numbers count, so what looks black is foreground",
        "if white is the structure, save them again with black as zero",
    ),
    ALPHA: ("are of one colour and are read from their alpha channel: opaque is foreground", "look at one of them"),
    PALETTE: (
        "have a palette of greys in another order than their numbers; the numbers count",
        "if the greys are what counts, save them as grey images",
    ),
}


def in_words(odd: Iterable[tuple[str, bool, frozenset[str]]]) -> list[tuple[str, str, str, str]]:
    """What is said of files that show something else than they store.

    Args:
        odd: name of a file, whether it is a mask, and its oddities.

    Returns:
        kind, first file, what is so, what to do; one for all files of a kind.
    """
    files: dict[tuple[str, bool], list[str]] = {}
    for name, mask, kinds in odd:
        for kind in sorted(kinds):
            files.setdefault((kind, mask), []).append(name)
    found = []
    for (kind, mask), names in files.items():
        what, fix = (_MASKS if mask else _IMAGES)[kind]
        of = "masks" if mask else "images"
        found.append(
            (f"{'mask' if mask else 'image'}-{kind}", names[0], f"{len(names)} {of} {what} ({some(names)})", fix)
        )
    return found


def oddities_of(surveyed: Iterable[Surveyed]) -> Iterable[tuple[str, bool, frozenset[str]]]:
    for one in surveyed:
        yield one.case.image.name, False, one.image.odd
        if isinstance(one.mask, MaskFacts):
            yield one.mask.mask.name, True, one.mask.odd


def follow_tags(surveyed: Sequence[Surveyed], orientation: str | None, notes: list[str]) -> list[Surveyed]:
    """Images whose orientation tag is not followed get the address FILE#stored: their masks fit the stored pixels.

    Args:
        orientation: "shown" or "stored" for all; None: as masks fit. Their shape decides for each image, else the
            edges of the image at those of the mask, for all of them.
        notes: gets a sentence.
    """
    turned = [one for one in surveyed if TURNED in one.image.odd]
    if not turned or orientation == "shown":
        return list(surveyed)
    votes: dict[str, float] = {}
    if orientation is None:
        drawn = [one for one in turned if isinstance(one.mask, MaskFacts) and TURNED not in one.mask.odd]
        sure = {one.case.case: vote for one in drawn if (vote := _by_shape(one))}
        unsure = [one for one in drawn if one.case.case not in sure]
        seen = for_each(_by_edges, unsure[:: max(1, len(unsure) // _SAMPLE)])
        every = [*sure.values(), *(vote for vote in seen if vote)]
        stored = sum(vote > 0 for vote in every)
        rest = 1.0 if stored >= max(_VOTES, _SHARE * len(every)) else -1.0
        votes = {one.case.case: sure.get(one.case.case, rest) for one in turned}
    left = {one.case.case for one in turned if votes.get(one.case.case, 1.0) > 0}
    if left and orientation is None:
        names = some([one.case.image.name for one in turned if one.case.case in left])
        notes.append(
            f"{len(left)} images carry an orientation tag, but their masks fit the stored pixels ({names}); "
            "the tag is not followed (--orientation shown changes it)."
        )
    return [_as_stored(one) if one.case.case in left else one for one in surveyed]


def _stored(image: Address) -> Address:
    return Address.of(image.path.with_name(f"{image.name}#stored"))


def _as_stored(one: Surveyed) -> Surveyed:
    if one.case.image.several:
        return one
    image = _stored(one.case.image)
    facts = ImageFacts(*read_header(image), one.image.odd - {TURNED})
    return replace(one, case=replace(one.case, image=image), image=facts)


def _by_shape(one: Surveyed) -> float:
    """Above 0: the mask has the shape of the stored pixels, below: of the picture as shown; 0 where both have it."""
    if one.case.image.several or not isinstance(one.mask, MaskFacts) or len(one.mask.shape) != 2:
        return 0.0
    stored = read_header(_stored(one.case.image))[0]
    mask, shown, as_stored = (np.log(rows / columns) for rows, columns in (one.mask.shape, one.image.shape, stored))
    return float(abs(mask - shown) - abs(mask - as_stored))


def _by_edges(one: Surveyed) -> float:
    """Above 0: the edges of the stored picture lie better on those of the mask than the edges of the one shown."""
    try:
        assert one.case.mask is not None
        values = mask_values(one.case.mask)
        shown, stored = (
            _edges_there(read_scan(image).array, values) for image in (one.case.image, _stored(one.case.image))
        )
    except UserError:
        return 0.0  # reading it will report what is wrong
    return stored - shown


def _edges_there(image: Array, mask: Array) -> float:
    """How much stronger the edges of an image, C x S, are at those of a mask, S, than elsewhere; 0 if S differs."""
    if image.shape[1:] != mask.shape or mask.min() == mask.max():
        return 0.0
    smooth = scipy.ndimage.gaussian_filter(image.astype(np.float32).mean(axis=0), 1)
    strength = np.sqrt(sum(slope**2 for slope in np.gradient(smooth)))
    inside = mask > mask.min()
    border = scipy.ndimage.binary_dilation(inside, iterations=2) ^ scipy.ndimage.binary_erosion(inside, iterations=2)
    return float(strength[border].mean() / max(float(strength.mean()), 1e-6))
