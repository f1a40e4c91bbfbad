"""Where a scan is: a file, a part of one, a DICOM series of a folder, or several files that are its channels.

cases.csv may say

    scan.nii.gz                  a file
    volume.h5#label              one array of an HDF5 or .npz file
    scan.nii.gz#channels         a file whose last axis holds channels, not time points or slices (NIfTI: 4D; MHA, NRRD)
    photograph.jpg#stored        a picture without the turn that its orientation tag asks for
    shapes.json#a.jpg            what an annotation program drew on one picture (LabelMe, COCO, VIA, CVAT, ImageJ)
    scan.zarr#labels/NAME        one of the masks in an OME-Zarr
    scans/patient1#1.2.840.1     one DICOM series (its SeriesInstanceUID) of a folder that holds several
    case_{0000,0001}.nii.gz      several channels, one file each, in this order, as shells write it
    x_mask{,_1}.png              parts of one mask: the greatest value counts
    {liver,spleen}.nii.gz#classes  a mask of one file a class, each called as its class
    {T1,T2}/case_{T1,T2}.nii.gz  the first words of all braces are one file, the second words another

A file whose name really holds such signs is taken as it is.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, takewhile, zip_longest
from pathlib import Path, PurePosixPath

from ucseg.scans.dicom.series import ENDINGS as DICOM_ENDINGS
from ucseg.scans.dicom.series import is_dicom
from ucseg.scans.said import NOTHING, Said

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".pgm", ".ppm", ".pbm", ".pnm")
FORMATS = {
    ending: name
    for name, endings in {
        "nifti": (".nii.gz", ".nii.zst", ".nii", ".hdr", ".img", ".mgz", ".mgh", ".mnc"),
        "itk": (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd"),
        "ome": (".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr"),
        "plain_images": PICTURES,
        "arrays": (".h5", ".hdf5", ".npy", ".npz"),
        "dicom": DICOM_ENDINGS,
    }.items()
    for ending in endings
}
"""Ending of a readable file, in lower case -> its format. A double ending comes before the single one it ends with."""

ENDINGS = tuple(FORMATS)

_CONTAINER = re.compile(
    r"(.+?\.(?:h5|hdf5|npz|json|xml|roi|zip))#(.+)|(.+?\.(?:nii(?:\.gz|\.zst)?|nrrd|nhdr|mha|mhd))#(channels)"
    r"|(.+?\.(?:png|jpe?g|tiff?))#(stored)",
    re.IGNORECASE,
)
CLASSES = "#classes"
"""Ends the address of a mask of one file a class."""
_NUMBERED = re.compile(r"(.+_)(\d{4})(\.[^/]*)?")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


@dataclass(frozen=True, order=True)
class Address:
    """Where a scan is. Made once, from what a user or cases.csv says; which files it means is settled then.

    Attributes:
        path: as cases.csv says it.
        files: one file a channel (or part of a mask); one DICOM folder.
        part: the array or series of the file that is meant; "" for the whole.
        said: what the user says of the file.
    """

    path: Path
    files: tuple[Path, ...] = field(compare=False)
    part: str = field(default="", compare=False)
    said: Said = field(default=NOTHING, compare=False)

    @classmethod
    def of(cls, place: Address | Path | str) -> Address:
        """The address that a path says; an address stays as it is."""
        if isinstance(place, Address):
            return place
        path = Path(place)
        text = str(path)
        if not set(text) & set("#{") or _is_there(path):
            return cls(path, (path,))
        # Signs in the names of folders that are there mean nothing.
        home = next((parent for parent in path.parents if parent.is_dir()), Path())
        text = str(path.relative_to(home))
        folder, _, series = text.rpartition("#")
        if folder and _is_there(home / folder) and (home / folder).is_dir():
            return cls(path, (home / folder,), series)
        inside = [[name.strip() for name in found.split(",")] for found in _BRACES.findall(text)]
        if len({len(names) for names in inside}) == 1:
            part = "classes" if text.endswith(CLASSES) else ""
            between = _BRACES.sub("\0", text.removesuffix(CLASSES)).split("\0")
            names = list(zip(*inside, strict=True))
            names = [name for name in names if name[-1]] if part else names  # {liver,} is one class
            joined = ("".join(chain.from_iterable(zip_longest(between, name, fillvalue=""))) for name in names)
            return cls(path, tuple(home / one for one in joined), part)
        if match := _CONTAINER.fullmatch(text):  # names of arrays may hold "/" and "#"
            file, part = (found for found in match.groups() if found)
            return cls(path, (home / file,), part)
        return cls(path, (path,))

    @classmethod
    def of_channels(cls, files: Sequence[Path]) -> Address | None:
        """Files called KEY_0000.nii.gz, KEY_0001.nii.gz, ... as one address; a single file is its own.

        None where they differ in more than these numbers, or the numbers are not 0000, 0001, ... without a gap.
        """
        if len(files) == 1:
            return cls.of(files[0])
        found = [match.groups("") for file in files if (match := _NUMBERED.fullmatch(str(file)))]
        numbers = sorted(number for _, number, _ in found)
        around = {(before, after) for before, _, after in found}
        if len(found) < len(files) or len(around) > 1 or numbers != [f"{i:04d}" for i in range(len(files))]:
            return None
        ((before, after),) = around
        path = Path(f"{before}{{{','.join(numbers)}}}{after}")
        return cls(path, tuple(Path(f"{before}{number}{after}") for number in numbers))

    @classmethod
    def of_parts(cls, files: Sequence[Path]) -> Address | None:
        """The files of one mask as one address; None where their names hold signs that it cannot."""
        texts = [str(file) for file in sorted(set(files))]
        if len(texts) == 1:
            return cls.of(texts[0])
        before = common_start(texts)
        after = common_start([text[len(before) :][::-1] for text in texts])[::-1]
        inside = [text[len(before) : len(text) - len(after)] for text in texts]
        found = cls.of(f"{before}{{{','.join(inside)}}}{after}")
        return found if [str(file) for file in found.files] == texts else None

    def as_said(self, said: Said) -> Address:
        """The same address, read as the user says."""
        return replace(self, said=said) if said != self.said else self

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> Path:
        return self.path.parent

    @property
    def file(self) -> Path:
        """The file (or DICOM folder) that the scan begins with."""
        return self.files[0]

    @property
    def several(self) -> bool:
        return len(self.files) > 1 or self.part == "classes"

    @property
    def class_names(self) -> list[str]:
        """What a mask of one file a class calls its classes, in the order of `files`; else nothing."""
        return [name for name in self.words if name] if self.part == "classes" else []

    @property
    def words(self) -> list[str]:
        """What is in the (last) braces of several files, in order; else nothing."""
        found = _BRACES.findall(str(self.path)) if self.several else []
        return [name.strip() for name in found[-1].split(",")] if found else []

    @property
    def singles(self) -> list[Address]:
        """The addresses of its channels, in order; itself where it is one file."""
        return [Address.of(file).as_said(self.said) for file in self.files] if self.several else [self]

    @cached_property
    def ending(self) -> str:
        """Of a readable file, in lower case: ".nii.gz", not ".gz"; "" if it is not one of ENDINGS."""
        return ending_of(self.file.name)

    @cached_property
    def stem(self) -> str:
        """The name without its ending, double or single: "a.nii.gz" -> "a", "a.seg.nrrd" -> "a".

        Of an HDF5 file without the array, of a DICOM folder its name. Of several channels without the words in
        which they differ; where that is all, the name of their folder.
        """
        if self.several:
            rest = without_ending(_BRACES.sub("", self.name.removesuffix(CLASSES))).strip("_.-")
            return rest or self.parent.name or self.name
        if self.part and self.file.is_dir() and self.format == "dicom":
            return f"{self.file.name}_{self.part}"
        if self.format == "drawings":
            return without_ending(PurePosixPath(self.part).name)
        return without_ending(self.file.name)

    @cached_property
    def format(self) -> str:
        """One of the values of FORMATS, or "drawings"; "" if it is not known. DICOM needs no ending."""
        if self.part and self.file.suffix.lower() in (".json", ".xml", ".roi", ".zip"):
            return "drawings"
        known = FORMATS.get(self.ending, "")
        return known or ("dicom" if self.file.is_dir() or is_dicom(self.file) else "")

    @property
    def plain(self) -> bool:
        """Whether its format holds no geometry: PNG, JPEG, TIFF."""
        return self.format == "plain_images"

    def exists(self) -> bool:
        return all(file.exists() for file in self.files)

    def below(self, root: Path) -> str:
        """How a dataset names it: relative to `root` where it lies there, else the whole path; with slashes."""
        return (self.path.relative_to(root) if self.path.is_relative_to(root) else self.path).as_posix()


def common_start(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    return "".join(
        letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than the name of a file may be: it names several
        return False


def composed(name: str) -> str:
    """A name with each accent in its letter: macOS writes them apart, and both look alike."""
    return unicodedata.normalize("NFC", name)


def absolute(path: Path) -> Path:
    """Absolute without following links: a linked data folder keeps the name the user gave it."""
    return Path(os.path.normpath(path.absolute()))


def ending_of(name: str) -> str:
    """The ending of a file's name if it is one of ENDINGS, in lower case, else ""."""
    lower = name.lower()
    return next((ending for ending in ENDINGS if lower.endswith(ending)), "")


def without_ending(name: str) -> str:
    """A file's name without a readable ending; "IM.0001" and names of folders have none."""
    ending = ending_of(name)
    return name[: -len(ending)] if ending else name
