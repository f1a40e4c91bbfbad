"""Which scans lie in a folder (files, DICOM series of many files, files of several arrays), and what else is there?"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ucseg.dataset.manifest import CASES_FILE, CONFIG_FILE, DATASET_FILES, scans_of_made_folder
from ucseg.errors import UserError
from ucseg.folder.predictions import is_prediction
from ucseg.machine.reading import is_regular
from ucseg.scans import arrays, drawings
from ucseg.scans.address import ENDINGS, Address, ending_of
from ucseg.scans.dicom.series import DicomFile, is_dicom, series_of
from ucseg.scans.reading import format_module


@dataclass(frozen=True)
class LeftOut:
    """A file that is no part of the dataset.

    Attributes:
        reason: "what is wrong; what to do".
        rightly: its kind is no scan, or the user said so: there is nothing to fix.
        of_scan: it belongs to a scan, which is missing or incomplete without it.
    """

    file: Path
    reason: str
    rightly: bool = False
    of_scan: bool = False


@dataclass(frozen=True)
class Listed:
    """A scan that was found.

    Attributes:
        name: what its file is called, ending included; a DICOM series is called as its folder.
        place: the file or folder that gives its name and folders.
        is_mask: True or False where the content says so (arrays called `label`, DICOM segmentations); None: unknown.
        subject: a digest of the patient's id where the file states one, else "".
        series: SeriesInstanceUID of a DICOM image; refers: that of the image on which a DICOM segmentation was drawn.
    """

    address: Address
    name: str
    place: Path
    is_mask: bool | None = None
    subject: str = ""
    series: str = ""
    refers: str = ""


def list_scans(folder: Path, skip: set[Path]) -> tuple[list[Listed], list[LeftOut]]:
    """All scans below a folder, and the other files with reasons.

    Args:
        folder: searched to any depth; hidden folders and datasets whose scans lie elsewhere are not entered.
        skip: absolute files and folders that are no part of the data.

    Raises:
        UserError: there is no such folder.
    """
    found: list[Listed] = []
    left_out: list[LeftOut] = []
    dicom: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(folder, skip, left_out):
        annotated = _of_annotations(path, left_out)
        if annotated is not None:
            found += annotated
            continue
        reason = _why_not_a_scan(path)
        if reason is None and is_dicom(path):
            dicom[path.parent].append(path)
        elif reason is None and ending_of(path.name) in (".h5", ".hdf5", ".npz"):
            found += _of_container(path)
        elif reason is None:
            found.append(_listed(path))
            if is_ome_zarr(path):
                labels = [Address.of(f"{path}#labels/{name}") for name in format_module("ome").labels_of(path)]
                found += [Listed(one, path.name, path, True) for one in labels]
        elif reason:
            left_out.append(LeftOut(path, reason, rightly=True))
    found += _of_dicom(dicom, left_out)
    return sorted(found, key=lambda one: one.address), left_out


def files_below(folder: Path, skip: set[Path], left_out: list[LeftOut]) -> Iterator[Path]:
    """All files below a folder, as `list_scans` looks for them; other datasets are added to `left_out`.

    Folders that links lead to come last, and each folder once: links may go round in a circle.
    """
    if not folder.is_dir():
        raise UserError("folder-missing", f"{folder}: there is no such folder; name the folder that holds the scans.")
    if is_prediction(folder):
        raise UserError(
            "folder-of-predictions",
            f"{folder}: 'ucseg predict' wrote this folder, so it holds results and no scans; name the folder of the "
            "scans.",
        )
    entered: set[tuple[int, int]] = set()
    links: list[Path] = []
    yield from _files_in(folder, skip, left_out, entered, links)
    while links:
        link = links.pop(0)
        if _identity(link) in entered:
            left_out.append(LeftOut(link, "a link to a folder that is listed by itself", rightly=True))
        else:
            yield from _files_in(link, skip, left_out, entered, links)


def _files_in(
    folder: Path, skip: set[Path], left_out: list[LeftOut], entered: set[tuple[int, int]], links: list[Path]
) -> Iterator[Path]:
    """Files of real folders; adds to `entered` what was entered, and to `links` what is to be entered later."""
    entered.add(_identity(folder))
    holds_dataset = (folder / CONFIG_FILE).is_file() and (folder / CASES_FILE).is_file()
    for path in sorted(folder.iterdir()):
        if path.absolute() in skip or (holds_dataset and path.name in DATASET_FILES):
            continue
        if (shown := readable(path)) != path:
            left_out.append(LeftOut(shown, "its name is no UTF-8, which no table can hold; rename it"))
        elif not path.is_dir() or is_ome_zarr(path):
            if path.exists() and not path.is_dir() and not is_regular(path):
                left_out.append(LeftOut(path, "it is a pipe or a device, which is not opened; remove it"))
            else:
                yield path
        elif scans_of_made_folder(path) is not None:
            left_out.append(LeftOut(path, "a dataset that ucseg made, whose scans lie elsewhere", rightly=True))
        elif is_prediction(path):
            left_out.append(LeftOut(path, "results of ucseg predict, no scans", rightly=True))
        elif not path.name.startswith(".") and path.name != "__MACOSX":
            if path.is_symlink():
                links.append(path)
            elif _identity(path) not in entered:
                yield from _files_in(path, skip, left_out, entered, links)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but folders and hidden files."""
    return all(path.name.startswith(".") or (path.is_dir() and not path.is_symlink()) for path in folder.rglob("*"))


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder is one scan: an OME-Zarr."""
    return path.suffix.lower() == ".zarr" and path.is_dir()


def readable(path: Path) -> Path:
    """The path with a mark in place of bytes that are no UTF-8: names of other systems, or cut in a letter."""
    return Path(os.fsencode(path).decode("utf-8", "replace"))


def _identity(folder: Path) -> tuple[int, int]:
    """Of a folder, whatever links lead to it."""
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _why_not_a_scan(path: Path) -> str | None:
    """None: it may be a scan. "": it is clear that it is none (dataset.json, .DS_Store, voxels of .mhd)."""
    name = path.name.lower()
    if name.startswith("._"):
        return "a companion file of macOS, not a scan; it can be deleted"
    if name.startswith(".") or name in {"dataset.json", "thumbs.db", "dicomdir"}:
        return ""
    # A detached header (.mhd, .nhdr) keeps its voxels in another file.
    if name.endswith((".raw", ".zraw", ".raw.gz")) and list(path.parent.glob("*.[mn]h[d]*")):
        return ""
    if name.endswith(".img") and any(path.with_suffix(ending).is_file() for ending in (".hdr", ".HDR")):
        return ""
    if not name.endswith(ENDINGS) and not is_dicom(path):
        return f"files ending in '{path.suffix}' are not read"
    return None


def _listed(file: Path) -> Listed:
    return Listed(Address.of(file), file.name, file)


def _of_annotations(path: Path, left_out: list[LeftOut]) -> list[Listed] | None:
    """A mask for each picture on which a file of an annotation program has shapes; None where it is no such file."""
    if path.suffix.lower() not in drawings.ENDINGS or path.name.startswith("."):
        return None
    try:
        pictures = drawings.pictures_of(path)
    except UserError as error:
        left_out.append(LeftOut(path, str(error).removeprefix(f"{path}: ")))
        return []
    if pictures is None:
        return None
    if not pictures:
        left_out.append(LeftOut(path, "no closed shape is drawn in it; draw polygons, not boxes or points"))
    found = []
    for name in pictures:
        inner = PurePosixPath(name.replace("\\", "/"))
        folders = [part for part in inner.parent.parts if part not in ("..", "/")]
        place = path.parent.joinpath(*folders, inner.name)
        found.append(Listed(Address.of(f"{path}#{name}"), inner.name, place, True))
    return found


def _of_container(path: Path) -> list[Listed]:
    try:
        image, mask = arrays.parts(Address.of(path))
    except UserError:
        mask = None  # reading it will report what is wrong
    if mask is None:
        return [_listed(path)]
    found = [] if image is None else [Listed(Address.of(f"{path}#{image}"), path.name, path, False)]
    return [*found, Listed(Address.of(f"{path}#{mask}"), path.name, path, True)]


def _of_dicom(folders: dict[Path, list[Path]], left_out: list[LeftOut]) -> list[Listed]:
    found = []
    homes: dict[str, dict[Path, set[str]]] = defaultdict(dict)  # the instances of each series by folder
    sorted_files = {}
    for folder, files in folders.items():
        sorted_files[folder], refused = series_of(files)
        for file, error in refused.items():
            no_image, damaged = error.code == "dicom-kind", error.code == "scan-damaged"
            left_out.append(LeftOut(file, str(error).removeprefix(f"{file}: "), rightly=no_image, of_scan=damaged))
        for uid, members in sorted_files[folder].items():
            homes[uid][folder] = {one.instance for file in members for one in file.slices}
    for folder, series in sorted_files.items():
        usable = {}
        for uid, members in series.items():
            unusable = _unusable(members, homes[uid])
            if unusable:
                left_out.append(unusable)
            elif members[0].is_segmentation:
                found += _each(members, True, "")
            elif not members[0].is_volume:
                found += _each(members, None, uid)
            else:
                usable[uid] = members
        found += _volumes(folder, series, usable)
    return found


def _each(files: list[DicomFile], is_mask: bool | None, series: str) -> list[Listed]:
    return [
        Listed(Address.of(one.file), one.file.name, one.file, is_mask, one.subject, series, one.refers) for one in files
    ]


def _unusable(files: list[DicomFile], homes: dict[Path, set[str]]) -> LeftOut | None:
    """Why a series is left out, at its first file; None if it can be used."""
    first = files[0].file
    more = f" (with {len(files) - 1} more files of its series)" if len(files) > 1 else ""
    if all(file.localiser for file in files):
        return LeftOut(first, f"a localiser, not a scan to segment{more}", rightly=True)
    if len(homes) > 1 and files[0].is_volume and not any(file.frames > 1 for file in files):
        own = homes[first.parent]
        others = ", ".join(sorted(home.name for home in homes if home != first.parent))
        if own and all(instances == own for instances in homes.values()):
            return LeftOut(first, f"its series is in another folder too ({others}){more}; keep one of the copies")
        reason = f"its series continues in another folder ({others}){more}; put its files into one folder"
        return LeftOut(first, reason, of_scan=True)
    return None


def _volumes(folder: Path, series: dict[str, list[DicomFile]], usable: dict[str, list[DicomFile]]) -> list[Listed]:
    """The volumes of a folder. Multi-frame files are scans by themselves."""
    found = []
    numbers = Counter(files[0].number for files in usable.values())
    for uid, files in usable.items():
        first = files[0]
        if all(file.frames > 1 for file in files):
            found += _each(files, None, uid)
        elif sum(not other[0].is_segmentation for other in series.values()) == 1:
            found.append(Listed(Address.of(folder), folder.absolute().name, folder, None, first.subject, uid))
        else:
            own = first.number if first.number and numbers[first.number] == 1 else re.sub(r"\D", "", uid)[-8:]
            name = f"{folder.absolute().name}_series{own}"
            found.append(Listed(Address.of(f"{folder}#{uid}"), name, folder, None, first.subject, uid))
    return found
