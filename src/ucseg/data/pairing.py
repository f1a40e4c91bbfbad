"""Which file of a folder is an image, which mask belongs to it, whose it is, and which split its folder names.

A file is a mask when its folder says so (labels, masks, labelsTr, ...) or its name does (X_mask, X_seg,
X_Annotation, ...), or when the user gives a pattern. An image without a mask is an unlabelled case; a mask without an
image is left out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path, PurePosixPath

from ucseg.data.formats import SUFFIXES, stem
from ucseg.data.subjects import find_subjects
from ucseg.errors import UserError
from ucseg.types import Case

_IMAGE_FOLDER = re.compile(r"(images?|imgs?|scans?|volumes?|frames)(?P<set>Tr|Ts|Val)?", re.IGNORECASE)
_MASK_FOLDER = re.compile(
    r"(masks?|labels?|segs?|segmentations?|annotations?|gts?|ground[_-]?truths?|contours?)(?P<set>Tr|Ts|Val)?",
    re.IGNORECASE,
)
_IMAGE_WORDS = r"(image|img|scan|orig|original)"
_MASK_WORDS = r"(masks?|labels?|seg|segmentation|annotation|gt|ground[_-]?truth|contour)([_-]?manual)?"
_IMAGE_NAME = re.compile(rf"(?:(?P<key>.+)[_.-])?{_IMAGE_WORDS}", re.IGNORECASE)
_MASK_NAME = re.compile(rf"(?:(?P<key>.+)[_.-])?{_MASK_WORDS}", re.IGNORECASE)
_CHANNEL_NAME = re.compile(r"(?P<key>.+)_(?P<channel>\d{4})")
_SPLIT_FOLDERS = {
    "train": re.compile(r"(train|training|trainset|traindataset|tr)", re.IGNORECASE),
    "validation": re.compile(r"(val|valid|validation|valset|validationset|validationdataset)", re.IGNORECASE),
    "test": re.compile(r"(test|testing|testset|testdataset|ts)", re.IGNORECASE),
}


@dataclass(frozen=True)
class LeftOut:
    """A file that is no part of the dataset, and why."""

    file: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What `find_cases` made of a folder.

    Attributes:
        cases: sorted by name; `split` is "" where no folder names one.
        left_out: every other file, with the reason.
        subject_rule: how subjects were told apart, one sentence.
        notes: guesses that the user should look at.
    """

    cases: list[Case]
    left_out: list[LeftOut]
    subject_rule: str
    notes: list[str]


@dataclass(frozen=True)
class _File:
    path: Path
    folders: tuple[str, ...]  # below the root, without the folder that says "images" or "masks"
    key: str  # what an image and its mask have in common; "" when the name only says "image" or "mask"
    is_mask: bool


def find_cases(
    folder: Path,
    images_glob: str | None = None,
    masks_glob: str | None = None,
    subject_regex: str | None = None,
    skip: Iterable[Path] = (),
) -> Found:
    """Pair the images and masks of a folder.

    Args:
        folder: searched to any depth; hidden folders are not entered.
        images_glob, masks_glob: patterns relative to the folder ("*" also crosses folders) that say what is an image
            and what is a mask where guessing ends. With one of them given, the other kind is guessed from the rest.
        subject_regex: its group 1 (or whole match) in the file's name, else in its path, is the subject.
        skip: files and folders that are no part of the data.

    Raises:
        UserError: there is no image, a pattern finds nothing, or `subject_regex` is broken or finds nothing in a name.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the folder that holds the scans.")
    left_out: list[LeftOut] = []
    readable: list[Path] = []
    for path in _walk(folder, {item.absolute() for item in skip}):
        reason = _why_not_a_scan(path)
        if reason is None:
            readable.append(path)
        elif reason:
            left_out.append(LeftOut(path, reason))
    files = _roles(folder, readable, images_glob, masks_glob, left_out)
    images = _merge_channels([file for file in files if not file.is_mask], files, left_out)
    pairs = _pair(images, [file for file in files if file.is_mask], left_out)
    names = _case_names(images, folder, left_out)
    images = [image for image in images if image.path in names]
    if not images:
        raise UserError(
            f"{folder}: no image was found among {len(readable) + len(left_out)} files; images end in "
            f"{', '.join(sorted(SUFFIXES))}; say with --images and --masks which files are which."
        )
    relative = {image.path: image.path.relative_to(folder).as_posix() for image in images}
    subjects = find_subjects(
        {names[image.path]: (stem(image.path), relative[image.path]) for image in images}, subject_regex
    )
    cases = [
        Case(
            names[image.path],
            subjects.of[names[image.path]],
            image.path,
            pairs.get(image.path),
            _own_split(image.path.relative_to(folder)),
        )
        for image in images
    ]
    cases.sort(key=lambda case: case.case)
    return Found(cases, sorted(left_out, key=lambda item: item.file), subjects.rule, subjects.notes)


def _walk(folder: Path, skip: set[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.absolute() in skip:
            continue
        if path.is_dir():
            if not path.name.startswith(".") and path.name != "__MACOSX":
                yield from _walk(path, skip)
        else:
            yield path


def _why_not_a_scan(path: Path) -> str | None:
    """None: it may be a scan. "": a file that nobody would take for one (dataset.json, .DS_Store, voxels of .mhd)."""
    name = path.name.lower()
    if name.startswith("._"):
        return "a companion file of macOS, not a scan; it can be deleted"
    if name.startswith(".") or name in {"dataset.json", "thumbs.db"}:
        return ""
    # A detached header (.mhd, .nhdr) keeps its voxels in another file.
    if name.endswith((".raw", ".zraw", ".raw.gz")) and list(path.parent.glob("*.[mn]h[d]*")):
        return ""
    if not name.endswith(tuple(SUFFIXES)):
        return f"files ending in '{path.suffix}' are not read here"
    return None


def _roles(
    folder: Path, paths: list[Path], images_glob: str | None, masks_glob: str | None, left_out: list[LeftOut]
) -> list[_File]:
    is_image = _Matcher(folder, images_glob)
    is_mask = _Matcher(folder, masks_glob)
    found = []
    for path in paths:
        relative = path.relative_to(folder)
        # A mask pattern goes first: "*_seg.nii.gz" is the narrower of the two where images are "*.nii.gz".
        by_mask, by_image = is_mask(relative), is_image(relative)
        like_mask = masks_glob is None and _looks_like_mask(relative)
        if by_mask is not None or like_mask:
            found.append(_file(path, relative, True, by_mask))
        elif by_image is not None or (images_glob is None and not _looks_like_mask(relative)):
            found.append(_file(path, relative, False, by_image))
        else:
            left_out.append(LeftOut(path, "does not match --images or --masks"))
    for option, pattern, wanted in (("--images", images_glob, False), ("--masks", masks_glob, True)):
        if pattern is not None and not any(file.is_mask is wanted for file in found):
            raise UserError(f"{folder}: {option} '{pattern}' matches no file there that can be read.")
    return found


class _Matcher:
    """Matches paths against a pattern; of a name with one star, tells what the star stands for."""

    def __init__(self, folder: Path, pattern: str | None) -> None:
        self.whole: re.Pattern[str] | None = None
        self.star: re.Pattern[str] | None = None
        if pattern is None:
            return
        pattern = pattern.removeprefix(folder.absolute().as_posix() + "/").removeprefix("./").replace("**/", "*/")
        self.whole = re.compile(translate(pattern))
        name = PurePosixPath(pattern).name
        if name.count("*") == 1 and not set(name) & set("?["):
            before, after = name.split("*")
            self.star = re.compile(re.escape(before) + "(.*)" + re.escape(after))

    def __call__(self, relative: Path) -> str | None:
        """None: no match. Otherwise the text of the star, "" when there is no single one."""
        path = relative.as_posix()
        # "**/x" also means x in the folder itself.
        if self.whole is None or not (self.whole.fullmatch(path) or self.whole.fullmatch("./" + path)):
            return None
        star = self.star.fullmatch(relative.name) if self.star is not None else None
        return star.group(1) if star else ""


def _looks_like_mask(relative: Path) -> bool:
    for part in reversed(relative.parts[:-1]):
        if _MASK_FOLDER.fullmatch(part):
            return True
        if _IMAGE_FOLDER.fullmatch(part):
            return False
    return relative.name.lower().endswith(".seg.nrrd") or _MASK_NAME.fullmatch(stem(relative)) is not None


def _file(path: Path, relative: Path, is_mask: bool, star: str | None) -> _File:
    name = stem(relative)
    match = (_MASK_NAME if is_mask else _IMAGE_NAME).fullmatch(name)
    key = (match.group("key") or "") if match else name
    if star and PurePosixPath(star).name == star:
        # The star may have swallowed the ending ("*_seg*"), which is not part of the key.
        key = stem(Path(star)) if star.lower().endswith(tuple(SUFFIXES)) else star
        inner = (_MASK_NAME if is_mask else _IMAGE_NAME).fullmatch(key)
        key = (inner.group("key") or "") if inner else key
    folders = []
    for part in relative.parts[:-1]:
        role = _IMAGE_FOLDER.fullmatch(part) or _MASK_FOLDER.fullmatch(part)
        if role is None:
            folders.append(part)
        elif role.group("set"):
            folders.append(role.group("set"))
    return _File(path, tuple(folders), key, is_mask)


def _merge_channels(images: list[_File], files: list[_File], left_out: list[LeftOut]) -> list[_File]:
    """nnU-Net names channels CASE_0000, CASE_0001: the first is the case, the others are left out.

    Only where some CASE_0000 has a mask CASE; otherwise four digits are a number like any other.
    """
    masks = {(file.folders, file.key) for file in files if file.is_mask}
    channel = {file.path: _CHANNEL_NAME.fullmatch(file.key) for file in images}
    named = [
        file
        for file in images
        if (match := channel[file.path]) and match["channel"] == "0000" and (file.folders, match["key"]) in masks
        and (file.folders, file.key) not in masks
    ]  # fmt: skip
    if not named:
        return images
    kept = []
    for file in images:
        match = channel[file.path]
        if match is None:
            kept.append(file)
        elif match["channel"] == "0000":
            kept.append(_File(file.path, file.folders, match["key"], False))
        else:
            left_out.append(LeftOut(file.path, f"a further channel of {match['key']}; one file a case is read"))
    return kept


def _pair(images: list[_File], masks: list[_File], left_out: list[LeftOut]) -> dict[Path, Path]:
    """Image -> mask: same name and same place first, then same name where most folders agree."""
    pairs: dict[Path, Path] = {}
    exact: dict[tuple[tuple[str, ...], str], list[_File]] = defaultdict(list)
    for image in images:
        exact[image.folders, image.key].append(image)
    waiting = []
    for mask in masks:
        here = [image for image in exact[mask.folders, mask.key] if image.path not in pairs]
        if len(here) == 1:
            pairs[here[0].path] = mask.path
        else:
            waiting.append(mask)
    taken = {mask: image for image, mask in pairs.items()}
    by_key: dict[str, list[_File]] = defaultdict(list)
    for image in images:
        by_key[image.key].append(image)
    for mask in waiting:
        same = by_key[mask.key] if mask.key else []
        free = [image for image in same if image.path not in pairs]
        shared = [sum((Counter(image.folders) & Counter(mask.folders)).values()) for image in free]
        best = [image for image, score in zip(free, shared, strict=True) if score == max(shared)]
        if len(best) == 1:
            pairs[best[0].path] = mask.path
            taken[mask.path] = best[0].path
        elif best:
            left_out.append(
                LeftOut(mask.path, f"a mask that fits {len(best)} images; say more with --images and --masks")
            )
        elif exact[mask.folders, mask.key] or same:
            image_path = (exact[mask.folders, mask.key] or same)[0].path
            left_out.append(
                LeftOut(mask.path, f"a second mask of {image_path.name}; it already has {pairs[image_path].name}")
            )
        else:
            left_out.append(LeftOut(mask.path, "a mask without an image"))
    return pairs


def _case_names(images: list[_File], folder: Path, left_out: list[LeftOut]) -> dict[Path, str]:
    """A name for each image: its key, with its folders before it when keys repeat."""
    keys = Counter(image.key for image in images)
    spell_out = any(count > 1 for key, count in keys.items()) or "" in keys
    names: dict[Path, str] = {}
    owner: dict[str, Path] = {}
    for image in images:
        parts = [*image.folders, image.key] if spell_out else [image.key]
        name = "_".join(part for part in parts if part) or stem(image.path)
        if name in owner:
            other = owner[name].relative_to(folder)
            left_out.append(
                LeftOut(
                    image.path,
                    f"its case would be '{name}' as that of {other}; rename one, or use --images and --masks",
                )
            )
            continue
        owner[name] = image.path
        names[image.path] = name
    return names


def _own_split(relative: Path) -> str:
    """The split that a folder of the path names, the outermost first; "" when none does."""
    for part in relative.parts[:-1]:
        role = _IMAGE_FOLDER.fullmatch(part)
        word = (role.group("set") or "") if role else part
        for split, pattern in _SPLIT_FOLDERS.items():
            if pattern.fullmatch(word):
                return split
    return ""
