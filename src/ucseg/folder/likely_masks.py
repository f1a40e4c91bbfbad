"""Which images look like masks, although neither folder nor name says so?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.reading import read_scan
from ucseg.types import Array

_FEW = 8
"""Distinct values that a mask may have; hardly an image has as few."""
_SAMPLE = 8
_SHARE = 0.8
_ENOUGH_FRAMES, _SAME, _LARGE, _DARK = 4, 0.9, 0.3, 0.2
"""How many masks are compared, and the parts that they share, of what any of them shows and of the picture. Last, up
to which part of its values an image's outside is dark.
"""


@dataclass(frozen=True)
class LikelyMask:
    """An unlabelled image that is perhaps the mask of `image`.

    `pattern`: of the names of such masks, as --masks takes it; "" where its name is the shorter of the two.
    """

    file: Address
    image: Address
    pattern: str


def likely_masks(cases: Iterable[Case]) -> list[LikelyMask]:
    """Unlabelled images that look like labels; a name is a part of another image's name in the folder, or the reverse.

    Only such pairs of files are opened.
    """
    masked: dict[Address, bool] = {}
    folders: dict[Path, dict[str, Address]] = defaultdict(dict)
    for case in cases:
        if not case.image.several:
            masked[case.image] = case.mask is not None
            folders[case.image.parent][case.image.stem] = case.image
    pairs = []
    for names in folders.values():
        for longer, path in names.items():
            for shorter, pattern in _shorter(longer, names):
                pairs.append(LikelyMask(path, names[shorter], f"{pattern}{path.file.name.removeprefix(longer)}"))
                pairs.append(LikelyMask(names[shorter], path, ""))
    pairs = [pair for pair in pairs if not masked[pair.file]]
    files = list(dict.fromkeys(path for pair in pairs for path in (pair.file, pair.image)))
    few = dict(zip(files, for_each(looks_like_label, files), strict=True))
    found = {pair.file: pair for pair in pairs if few[pair.file] and not few[pair.image]}
    return [found[file] for file in sorted(found)]


def in_words(found: Sequence[LikelyMask]) -> str:
    pattern = next((one.pattern for one in found if one.pattern), "")
    example = f", e.g. --masks '{pattern}'," if pattern else ""
    return f"say which files are masks with --masks{example} or put them into a folder called masks"


def _shorter(name: str, names: dict[str, Address]) -> Iterable[tuple[str, str]]:
    """Names that this one begins or ends with, and a pattern for the rest; digits alone do not count (1, 10)."""
    for at in range(1, len(name)):
        begin, end = name[:at], name[at:]
        if begin in names and any(map(str.isalpha, end)):
            yield begin, f"*{escape(end)}"
        if end in names and any(map(str.isalpha, begin)):
            yield end, f"{escape(begin)}*"


def looks_like_label(address: Address) -> bool:
    """Whether a file is of few values or flat colours, or nearly all of it at two levels (lossy or smoothed masks)."""
    try:
        array = read_scan(address).array
    except UserError:
        return False  # whatever reads it later reports what is wrong
    every = array[0].reshape(-1)
    first = every[:: max(1, every.size // 65536)]  # a sample is nearly always enough, and much quicker
    if any((channel != array[0]).any() for channel in array[1:]):
        return len(array) == 3 and array.dtype == np.uint8 and _has_few_colours(array)
    if not np.isfinite(first).all():
        return False
    if len(np.unique(first)) <= _FEW and len(np.unique(every)) <= _FEW:
        return True
    low, high = float(first.min()), float(first.max())
    ends = (first < low + 0.1 * (high - low)) | (first > high - 0.1 * (high - low))
    return bool(high >= 100 and ends.mean() >= 0.95 and (first > (low + high) / 2).mean() >= 0.01)


def _has_few_colours(array: Array) -> bool:
    colours = array.reshape(3, -1).astype(np.uint32)
    every = colours[0] << 16 | colours[1] << 8 | colours[2]
    return len(np.unique(every[:: max(1, every.size // 65536)])) <= _FEW and len(np.unique(every)) <= _FEW


def look_like_labels(files: Sequence[Address]) -> bool:
    """Whether most of a sample do; not asked of files that are joined, or of one alone."""
    if len(files) < 2 or any(file.several or file.file.is_dir() for file in files):
        return False
    sample = files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]
    return sum(for_each(looks_like_label, sample)) >= _SHARE * len(sample)


def are_frames(masks: Mapping[Address, Address]) -> bool:
    """Whether masks show which part of a picture counts, and no object: large, nearly the same, and dark outside.

    Args:
        masks: image -> its mask.
    """
    sample = list(masks.items())[:: max(1, len(masks) // _SAMPLE)][:_SAMPLE]
    try:
        shown = [(read_scan(image).array, read_scan(mask).array[0]) for image, mask in sample]
    except UserError:
        return False  # whatever reads it later reports what is wrong
    if len(shown) < _ENOUGH_FRAMES or len({array.shape[-2:] for pair in shown for array in pair}) > 1:
        return False
    inside = np.stack([mask > mask.max() / 2 for _, mask in shown])
    everywhere, anywhere = int(inside.all(axis=0).sum()), int(inside.any(axis=0).sum())
    if everywhere < max(_SAME * anywhere, _LARGE * inside[0].size):
        return False
    return all(_is_dark(image[:, ~frame], image) for (image, _), frame in zip(shown, inside, strict=True))


def _is_dark(part: Array, image: Array) -> bool:
    low, high = (float(value) for value in np.percentile(image, (0, 99)))
    return part.size > 0 and float(np.percentile(part, 95)) <= low + _DARK * (high - low)
