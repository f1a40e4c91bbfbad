"""Which mask belongs to which image, what is the case called, and which split does its folder name?

An image without a mask is an unlabelled case. A mask without an image is left out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import scans_of_made_folder
from ucseg.errors import UserError
from ucseg.folder.candidates import (
    Candidates,
    ask_of_two_sets,
    beside_an_image,
    of_kinds,
    pair_by_first_word,
    settle,
)
from ucseg.folder.case_folders import pair_in_case_folders
from ucseg.folder.kinds import pair_by_shared_words
from ucseg.folder.listing import LeftOut, is_empty
from ucseg.folder.parts import join_parts, join_second_parts
from ucseg.folder.roles import ScanFile, own_split, scan_files, split_of, without_image_word
from ucseg.folder.siblings import without_siblings
from ucseg.folder.subjects import find_subjects
from ucseg.scans.address import ENDINGS, Address
from ucseg.scans.reading import is_drawn

_CHANNEL_NAME = re.compile(r"(?P<key>.+)_\d{4}")


@dataclass(frozen=True)
class Found:
    """The cases of a folder by name (`split` is "" where no folder names one), and the rest with the reasons."""

    cases: list[Case]
    left_out: list[LeftOut]
    subject_rule: str
    notes: list[str]


def find_cases(
    folder: Path,
    images_glob: str | None = None,
    masks_glob: str | None = None,
    subject_regex: str | None = None,
    skip: Iterable[Path] = (),
    parts_glob: str | None = None,
) -> Found:
    """Pair the images and masks of a folder.

    Args:
        folder: searched to any depth; hidden folders are not entered.
        images_glob, masks_glob: patterns of images and masks, relative to the folder; "*" also crosses folders. With
            one of them given, the other kind is guessed from the rest.
        subject_regex: its group 1 (or whole match) in the file's name, else in its path, is the subject.
        skip: files and folders that are no part of the data.
        parts_glob: pattern of files that are parts of masks; all that belong to one image are one mask.

    Raises:
        UserError: there is no image, several files could be the image or the mask of every case, the folder is a
            dataset whose scans lie elsewhere, a pattern finds nothing, or `subject_regex` is broken or finds nothing
            in a name.
    """
    scans = scans_of_made_folder(folder)
    if scans is not None:
        raise UserError(
            "dataset-not-scans",
            f"{folder}: this is a dataset that ucseg made, and its scans are in {scans}; to make another one of them, "
            f"give `ucseg init {scans}`.",
        )
    files, left_out = scan_files(folder, images_glob, masks_glob, {item.absolute() for item in skip}, parts_glob)
    masks = [file for file in files if file.is_mask]
    images = _merge_channels([file for file in files if not file.is_mask], masks, left_out)
    notes: list[str] = []
    said = masks_glob is not None or parts_glob is not None
    candidates = of_kinds(images, folder) if masks and images_glob is None else []
    images = _without(images, candidates)
    whole = [mask for mask in masks if not mask.is_part]
    pairs = _pair(images, whole, folder, left_out, notes, masks_glob, said)
    join_parts([mask for mask in masks if mask.is_part], images, pairs, left_out)
    if images_glob is None:
        candidates += beside_an_image(images, pairs)
        candidates = candidates or (of_kinds(images, folder) if not masks else [])
        images = without_siblings(_without(images, candidates), pairs, left_out)
    if taken := settle(folder, candidates, pairs, said, files, left_out):
        pattern, note = taken
        found = find_cases(folder, images_glob, pattern, subject_regex, skip, parts_glob)
        return replace(found, notes=[note, *found.notes])
    named = _named(images, folder, left_out)
    if not named:
        why = (
            "the folder is empty; name the folder that holds the scans"
            if is_empty(folder)
            else f"no image was found among {len(files) + len(left_out)} files (images end in "
            f"{', '.join(sorted(ENDINGS))}); say with --images and --masks which files are which"
        )
        raise UserError("no-image", f"{folder}: {why}.")
    subjects = find_subjects(
        {name: (image.address.stem, image.address.below(folder)) for name, image in named.items()},
        subject_regex,
        {name: image.subject for name, image in named.items() if image.subject},
    )
    cases = []
    for name, image in sorted(named.items()):
        split = own_split(image.address.file.relative_to(folder))
        cases.append(Case(name, subjects.of[name], image.address, pairs.get(image.address), split))
    return Found(cases, sorted(left_out, key=lambda item: item.file), subjects.rule, [*notes, *subjects.notes])


def _without(images: list[ScanFile], candidates: Iterable[Candidates]) -> list[ScanFile]:
    files = {file for one in candidates for file in one.image_of}
    return [image for image in images if image.address not in files]


def _merge_channels(images: list[ScanFile], masks: list[ScanFile], left_out: list[LeftOut]) -> list[ScanFile]:
    """nnU-Net names channels CASE_0000, CASE_0001, ...: together they are one case.

    Only where some CASE_0000 has a mask CASE; otherwise four digits are a number like any other.
    """
    kept = []
    groups: dict[tuple[tuple[str, ...], str], list[ScanFile]] = defaultdict(list)
    for file in images:
        if match := _CHANNEL_NAME.fullmatch(file.key):
            groups[file.folders, match["key"]].append(file)
        else:
            kept.append(file)
    masked = {(mask.folders, mask.key) for mask in masks}
    named = {mask.key for mask in masks}

    def has_mask(folders: tuple[str, ...], key: str) -> bool:
        """In its place, or anywhere if the folder of the channels is called as the case."""
        own = bool(folders) and folders[-1].casefold() == key.casefold()
        return (folders, key) in masked or (key in named and own)

    first = [
        file for place, group in groups.items() if has_mask(*place) for file in group if file.key.endswith("_0000")
    ]
    if all((file.folders, file.key) in masked for file in first):
        return images
    for (folders, key), group in groups.items():
        address = Address.of_channels([file.address.path for file in group])
        if address is not None:
            kept.append(ScanFile(address, folders, key, False, group[0].subject))
            continue
        reason = f"the channels of {key} are not numbered 0000, 0001, ... in one format; rename them"
        left_out += [LeftOut(file.address.path, reason) for file in group]
    return kept


def _pair(
    images: list[ScanFile],
    masks: list[ScanFile],
    folder: Path,
    left_out: list[LeftOut],
    notes: list[str],
    masks_glob: str | None,
    said: bool,
) -> dict[Address, Address]:
    """Image -> mask: same name and same place first, then same key there, then same name where most folders agree.

    Where there are volumes for all masks, which are volumes too, pictures beside them are no images.
    """
    volumes = [image for image in images if not image.address.plain]
    if len(volumes) >= len(masks) and not any(mask.address.plain or is_drawn(mask.address) for mask in masks):
        images = volumes
    pairs, waiting = _pairs_in_one_place(images, masks)
    here: dict[tuple[tuple[str, ...], str], list[ScanFile]] = defaultdict(list)
    by_key: dict[str, list[ScanFile]] = defaultdict(list)
    for image in images:
        here[image.folders, image.key].append(image)
        for name in {image.name, image.key, without_image_word(image.key)}:
            by_key[name].append(image)
    waiting = pair_in_case_folders(images, waiting, pairs, folder, masks_glob)
    if not pairs:
        waiting = pair_by_first_word(images, waiting, pairs)

    belong = _Belonging(images, waiting, in_one_place=bool(pairs))

    def places(mask: ScanFile) -> tuple[list[ScanFile], list[ScanFile]]:
        """The free images that it fits best, and all of its name."""
        close = here[mask.folders, mask.key]
        same = [by_key.get(mask.name, []), by_key.get(mask.key, []) if mask.key else close]
        same = [[image for image in ones if belong(image, mask)] for ones in same]
        free = next(filter(None, ([one for one in ones if one.address not in pairs] for ones in same)), [])
        shared = [_in_common(image.folders, mask.folders) for image in free]
        best = [image for image, score in zip(free, shared, strict=True) if score == max(shared)]
        return best, [*close, *same[0], *same[1]]

    others = []
    for mask in waiting:
        best, _ = places(mask)
        if len(best) == 1:
            pairs[best[0].address] = mask.address
        else:
            others.append(mask)
    if not pairs:
        others = pair_by_shared_words(images, others, pairs, folder, masks_glob)
    second: dict[Address, Address] = {}
    for mask in join_second_parts(others, pairs, notes):
        best, named = places(mask)
        taken = next((image.address for image in named if not best and image.address in pairs), None)
        if taken:
            second[mask.address] = taken
        called = {image.address for name in (mask.name, mask.key) for image in by_key.get(name, [])}
        left_out.append(
            LeftOut(mask.address.path, _why_left(len(best), (taken, pairs[taken]) if taken else None, len(called)))
        )
    if not said:
        ask_of_two_sets(folder, second, pairs)
    return pairs


def _why_left(fitting: int, taken: tuple[Address, Address] | None, called: int) -> str:
    """Why a mask is left out.

    Args:
        fitting: how many free images it fits.
        taken: the image of its name, and the mask that has it already.
        called: how many images have its name, wherever they lie.
    """
    if fitting:
        return f"a mask that fits {fitting} images; give narrower --images and --masks"
    if taken:
        image, mask = taken
        return f"a second mask of {image.name} beside {mask.name}; keep one, or join them with --parts"
    if called:
        images = f"{called} image{'s' * (called > 1)}"
        return f"a mask that fits {images} by its name, but none by its folders; move it, or give narrower patterns"
    return "a mask without an image; say which files belong together with --images and --masks"


class _Belonging:
    """Whether an image and a mask of one name may be of one case, though they lie in different places.

    Names that several folders hold, such as scan.png or 8.png, do not say the case: folders have to say it too. Then a
    mask whose image is lost finds none.
    """

    def __init__(self, images: Iterable[ScanFile], waiting: Iterable[ScanFile], in_one_place: bool) -> None:
        homes: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for image in images:
            for name in {image.name, image.key}:
                homes[name].add(image.folders)
        self._repeat = 2 * sum(len(places) > 1 for places in homes.values()) > len(homes)
        self._in_one_place = in_one_place
        levels = Counter[int]()
        for mask in waiting if self._repeat else ():
            levels[max((_in_common(folders, mask.folders) for folders in homes.get(mask.key, ())), default=0)] += 1
        self._usual = max(1, levels.most_common(1)[0][0]) if levels else 1

    def __call__(self, image: ScanFile, mask: ScanFile) -> bool:
        if image.folders == mask.folders:
            return True
        splits = {split_of(image.folders), split_of(mask.folders)} - {""}
        if len(splits) > 1:
            return False
        if not self._repeat:
            return True
        shared = _in_common(image.folders, mask.folders)
        if self._in_one_place:
            return 0 < shared == min(len(image.folders), len(mask.folders))
        return shared >= self._usual


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return sum((Counter(one) & Counter(other)).values())


def _pairs_in_one_place(images: list[ScanFile], masks: list[ScanFile]) -> tuple[dict[Address, Address], list[ScanFile]]:
    """Image -> mask where the mask says so itself, or both lie in one place and names or keys agree; and the rest."""
    pairs: dict[Address, Address] = {}
    waiting = []
    series = {image.series: image for image in images if image.series}
    for mask in masks:
        drawn_on = series.get(mask.refers) if mask.refers else None
        if drawn_on is not None and drawn_on.address not in pairs:  # the file itself says so
            pairs[drawn_on.address] = mask.address
        else:
            waiting.append(mask)
    for called in map(attrgetter, ("name", "key")):
        exact: dict[tuple[tuple[str, ...], str], list[ScanFile]] = defaultdict(list)
        for image in images:
            exact[image.folders, called(image)].append(image)
        masks, waiting = waiting, []
        for mask in masks:
            here = [image for image in exact[mask.folders, called(mask)] if image.address not in pairs]
            if len(here) == 1:
                pairs[here[0].address] = mask.address
            else:
                waiting.append(mask)
    return pairs, waiting


def _named(images: list[ScanFile], folder: Path, left_out: list[LeftOut]) -> dict[str, ScanFile]:
    """Images by the name of their case: the key, with its folders before it if keys repeat."""
    keys = {image.key for image in images}
    spell_out = len(keys) < len(images) or "" in keys
    named: dict[str, ScanFile] = {}
    for image in images:
        parts = [*image.folders, image.key] if spell_out else [image.key]
        name = "_".join(part for part in parts if part) or image.address.stem
        other = named.setdefault(name, image)
        if other is not image:
            of = f"'{name}', as that of {other.address.below(folder)}"
            reason = f"its case would be called {of}; rename one, or give --images and --masks"
            left_out.append(LeftOut(image.address.path, reason))
    return named
