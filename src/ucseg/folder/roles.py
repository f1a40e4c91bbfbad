"""Which files of a folder are images, which are masks, and what do an image and its mask have in common?

A file is a mask when its folder says so (labels, masks, labelsTr, ...) or its name does (X_mask, X_seg,
X_Annotation, ...), or when the user gives a pattern. In a folder of images the name alone is not enough: there the
image must lie beside it (X_mask beside X). Images can have names like mask_X, label_X and X_roi too. Such a file is a
mask only if X lies beside it and has no other mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ucseg.folder.listing import LeftOut, Listed, list_scans
from ucseg.folder.patterns import Match, Pattern
from ucseg.scans.address import Address, without_ending

_SETS = "train|training|trainval|val|valid|validation|test|testing"


def _folder_of(words: str) -> re.Pattern[str]:
    """A folder called by one of some words, perhaps with its split: imagesTr, train_images, masks-test."""
    before, after = rf"(?:(?P<before>{_SETS})[ _-])?", rf"(?:[ _-](?P<after>{_SETS}))?"
    return re.compile(rf"{before}(?:{words})(?P<set>Tr|Ts|Val)?{after}", re.IGNORECASE)


_IMAGE_FOLDER = _folder_of("images?|imgs?|scans?|volumes?|frames")
_MASK_FOLDER = _folder_of("masks?|labels?|segs?|segmentations?|annotations?|gts?|ground[ _-]?truths?|contours?")
_IMAGE_WORDS = r"(image|img|scan|volume|orig|original)"
MASK_WORDS = r"(masks?|msk|labels?|lbl|d?seg|segmentation|anno|annotation|gt|ground[ _-]?truth|contour)([ _-]?manual)?"
_IMAGE_NAME = re.compile(rf"(?:(?P<key>.+)[ _.-])?{_IMAGE_WORDS}", re.IGNORECASE)
_MASK_NAME = re.compile(rf"(?:(?P<key>.+)[ _.-])?{MASK_WORDS}", re.IGNORECASE)
_AFTER_WORD = r"(?:[ _.-]|(?=\d))(?P<key>.+)"  # label_X, label0001
_IMAGE_WORD_FIRST = re.compile(_IMAGE_WORDS + _AFTER_WORD, re.IGNORECASE)
_PERHAPS_MASK_NAMES = (
    re.compile(r"(?P<key>.+)[ _.-]rois?", re.IGNORECASE),
    re.compile(rf"(?:{MASK_WORDS}|rois?){_AFTER_WORD}", re.IGNORECASE),
)
_CHANNEL = re.compile(r"_\d{4}$")
_PART = re.compile(r"(?P<whole>.+?)[ _-]\d{1,3}")
_SET = "([ _-]?(set|data|dataset))?"
_SPLIT_FOLDERS = {
    "train": re.compile(rf"(train|training|trainval){_SET}|tr", re.IGNORECASE),
    "validation": re.compile(rf"(val|valid|validation){_SET}", re.IGNORECASE),
    "test": re.compile(rf"(test|testing){_SET}|ts", re.IGNORECASE),
}


@dataclass(frozen=True)
class ScanFile:
    """A readable scan and its role; `subject`, `series` and `refers` as in `Listed`.

    Attributes:
        folders: below the data root, without the one that says "images" or "masks".
        key: what an image and its mask have in common; "" when the name only says "image" or "mask".
        name: of the file without its ending; "" of several channels.
        is_part: one of the parts of a mask, as --parts says.
    """

    address: Address
    folders: tuple[str, ...]
    key: str
    is_mask: bool
    subject: str = ""
    series: str = ""
    refers: str = ""
    name: str = ""
    is_part: bool = False


@dataclass(frozen=True)
class _Chosen:
    """A scan whose role is settled; `by`: the match with the pattern that settled it, if one did."""

    listed: Listed
    relative: Path
    is_mask: bool
    by: Match | None
    is_part: bool = False


def scan_files(
    folder: Path, images_glob: str | None, masks_glob: str | None, skip: set[Path], parts_glob: str | None = None
) -> tuple[list[ScanFile], list[LeftOut]]:
    """All readable files below a folder with their roles, and the other files with reasons.

    Files that {a,b} in a pattern puts together are one: channels of an image, or a mask of one file a class.

    A UserError if a pattern finds nothing.
    """
    listed, left_out = list_scans(folder, skip)
    image, mask = Pattern(folder, images_glob, "--images"), Pattern(folder, masks_glob, "--masks")
    part = Pattern(folder, parts_glob, "--parts")
    named = named_as_masks(folder, listed)
    chosen: list[_Chosen] = []
    for one in listed:
        relative = below_folder(folder, one)
        by_mask, by_image, by_part = mask.match(relative), image.match(relative), part.match(relative)
        stated = one.is_mask is not None  # the file itself says what it is
        looks = one.is_mask if stated else one.address in named
        # A mask pattern goes first: "*_seg.nii.gz" is the narrower of the two where images are "*.nii.gz".
        if one.is_mask is not False and (by_part or by_mask or (not (mask.given or part.given) and looks)):
            by = by_part or by_mask
            chosen.append(_Chosen(one, relative, True, None if stated else by, by_part is not None))
        elif one.is_mask is not True and (by_image is not None or (not image.given and not looks)):
            chosen.append(_Chosen(one, relative, False, None if stated else by_image))
        else:
            left_out.append(LeftOut(one.address.path, "does not match --images or --masks", rightly=True))
    image.require(folder, [one.by for one in chosen if not one.is_mask])
    mask.require(folder, [one.by for one in chosen if one.is_mask and not one.is_part])
    part.require(folder, [one.by for one in chosen if one.is_part])
    files = [_file(one) for one in chosen]
    keys = [{file.key for file in files if file.is_mask is is_mask} for is_mask in (False, True)]
    if all(keys) and keys[0].isdisjoint(keys[1]):  # the stars stand for other parts of the names: 1*.png, 1*_mask.png
        files = [_file(replace(one, by=None)) for one in chosen]
    return _together(folder, list(zip(chosen, files, strict=True)), image, mask, left_out), left_out


def _together(
    folder: Path,
    files: Sequence[tuple[_Chosen, ScanFile]],
    image: Pattern,
    mask: Pattern,
    left_out: list[LeftOut],
) -> list[ScanFile]:
    """Files that differ in the words in braces alone, as one."""
    found = []
    grouped: dict[bool, dict[Address, Match]] = {False: {}, True: {}}
    of = {file.address: file for _, file in files}
    for one, file in files:
        if one.by is not None and one.by.word and not one.is_part:
            grouped[one.is_mask][file.address] = one.by
        else:
            found.append(file)
    images, missing = image.together(folder, grouped[False])
    masks, _ = mask.together(folder, grouped[True], classes=True)
    for files_there, why in missing:
        reason = f"{why}; restore it, or give other --images"
        left_out += [LeftOut(file.path, reason, of_scan=True) for file in files_there]
    for joined in [*images, *masks]:
        keys = {of[file].key for file in joined.files}
        key = keys.pop() if len(keys) == 1 else without_ending(PurePosixPath(joined.shared).name).strip("_.- ")
        found.append(replace(of[joined.files[0]], address=joined.address, key=key, name=""))
    return found


def named_as_masks(folder: Path, listed: Sequence[Listed]) -> set[Address]:
    """The addresses of the scans that are masks by their names, or by their folders below `folder`."""
    places = {one.address: below_folder(folder, one) for one in listed}
    images = {(place.parent, key) for place in places.values() for key in _image_keys(_stem(place))}
    masks = {path for path, place in places.items() if _looks_like_mask(place, images)}
    masks |= {path for path, place in places.items() if path not in masks and _is_part_of_mask(place, images)}
    # Beside A and A_mask, A_roi is another image; and so it is where there is a mask of A_roi.
    masked = {name for path in masks for name in (_stem(places[path]), _mask_key(_stem(places[path])))}

    def perhaps(place: Path) -> bool:
        name = _stem(place)
        key = _perhaps_mask_key(name)
        return key is not None and (place.parent, key) in images and masked.isdisjoint((key, name))

    return masks | {path for path, place in places.items() if perhaps(place)}


def without_image_word(key: str) -> str:
    """Another name for the mask of an image: mask_001 beside image_001."""
    return _key(_IMAGE_WORD_FIRST, key)


def own_split(relative: Path) -> str:
    """The split that a folder of the path names, the outermost first; "" when none does."""
    for part in relative.parts[:-1]:
        role = _IMAGE_FOLDER.fullmatch(part)
        word = _set_of(role) if role else part
        if split := split_of([word]):
            return split
    return ""


def split_of(folders: Iterable[str]) -> str:
    """The split that one of these names says, the first first; "" when none does."""
    for name in folders:
        for split, pattern in _SPLIT_FOLDERS.items():
            if pattern.fullmatch(name):
                return split
    return ""


def _set_of(role: re.Match[str]) -> str:
    """The word for a split in the name of a folder of images or masks; "" if it has none."""
    return next((role[name] for name in ("set", "before", "after") if role[name]), "")


def below_folder(folder: Path, one: Listed) -> Path:
    """The path of a scan below a folder, called as the scan is."""
    return one.place.relative_to(folder).with_name(one.name) if one.place != folder else Path(one.name)


def _stem(relative: Path) -> str:
    return without_ending(relative.name)


def _looks_like_mask(relative: Path, images: set[tuple[Path, str]]) -> bool:
    """`images`: folder and key of every file whose name is not that of a mask."""
    name = _MASK_NAME.fullmatch(_stem(relative))
    for part in reversed(relative.parts[:-1]):
        if _MASK_FOLDER.fullmatch(part):
            return True
        if _IMAGE_FOLDER.fullmatch(part):
            # "brain_seg" may well be an image there; beside "brain" it is not.
            return name is not None and (relative.parent, name.group("key") or "") in images
    return relative.name.lower().endswith(".seg.nrrd") or name is not None


def whole_of_part(name: str) -> str:
    """X_mask of X_mask_1; "" where a name does not end with a number of a part."""
    match = _PART.fullmatch(name)
    return match["whole"] if match else ""


def _is_part_of_mask(relative: Path, images: set[tuple[Path, str]]) -> bool:
    """Whether it is called X_mask_1 and lies beside X."""
    match = _MASK_NAME.fullmatch(whole_of_part(_stem(relative)))
    return match is not None and bool(match["key"]) and (relative.parent, match["key"]) in images


def _key(pattern: re.Pattern[str], name: str) -> str:
    """A name without the word for its role."""
    match = pattern.fullmatch(name)
    return (match["key"] or "") if match else name


def _image_keys(name: str) -> set[str]:
    """What a mask of an image of this name can be called; of a channel (X_0000) also X. Nothing if it is a mask."""
    if _MASK_NAME.fullmatch(name):
        return set()
    key = _key(_IMAGE_NAME, name)
    return {key, _CHANNEL.sub("", key), without_image_word(key)}


def _perhaps_mask_key(name: str) -> str | None:
    """The image's name in a name that may be a mask's; None if it is not."""
    if _MASK_NAME.fullmatch(name):
        return None
    return next((match["key"] for pattern in _PERHAPS_MASK_NAMES if (match := pattern.fullmatch(name))), None)


def _mask_key(name: str) -> str:
    return _perhaps_mask_key(name) or _key(_MASK_NAME, name)


def _file(chosen: _Chosen) -> ScanFile:
    one, is_mask = chosen.listed, chosen.is_mask
    name = _stem(chosen.relative)
    key = _key(_IMAGE_NAME, name)
    if is_mask:
        whole = _MASK_NAME.fullmatch(whole_of_part(name))
        key = (whole and whole["key"]) or _mask_key(name)
    star = chosen.by.star if chosen.by else ""
    if star and PurePosixPath(star).name == star:
        # The star may have swallowed the ending ("*_seg*"), which is not part of the key.
        key = _key(_MASK_NAME if is_mask else _IMAGE_NAME, without_ending(star))
    folders = []
    for part in chosen.relative.parts[:-1]:
        role = _IMAGE_FOLDER.fullmatch(part) or _MASK_FOLDER.fullmatch(part)
        if role is None:
            folders.append(part)
        elif word := _set_of(role):
            folders.append(word)
    return ScanFile(
        one.address, tuple(folders), key, is_mask, one.subject, one.series, one.refers, name, chosen.is_part
    )
