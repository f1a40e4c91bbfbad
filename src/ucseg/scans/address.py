"""What a path of cases.csv may say beyond one file.

    volume.h5#label              one dataset of an HDF5 or .npz file
    scan.nii.gz#channels         a 4D NIfTI file whose fourth axis holds channels, not time points
    scans/patient1#1.2.840.1     one DICOM series (its SeriesInstanceUID) of a folder that holds several
    case_{0000,0001}.nii.gz      several channels, one file each, in this order, as shells write it

A file whose name really holds such signs is taken as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

_CONTAINER = re.compile(r"(.+?\.(?:h5|hdf5|npz))#(.+)|(.+?\.nii(?:\.gz)?)#(channels)", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<before>.+_)(?P<channel>\d{4})(?P<after>(\.[^/]*)?)")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def split_part(path: Path) -> tuple[Path, str]:
    """The file or folder of an address, and the part of it that is meant; "" for the whole."""
    text = str(path)
    if "#" not in text or path.exists():
        return path, ""
    if match := _CONTAINER.fullmatch(text):  # names of datasets may hold "/" and "#"
        return Path(match[1] or match[3]), match[2] or match[4]
    file, _, part = text.rpartition("#")
    return (Path(file), part) if Path(file).is_dir() else (path, "")


def channel_paths(path: Path) -> list[Path]:
    """The addresses of a scan's channels, in order; the path itself where it names one."""
    match = _BRACES.search(str(path))
    if match is None or path.exists():
        return [path]
    before, after = str(path)[: match.start()], str(path)[match.end() :]
    return [Path(f"{before}{name.strip()}{after}") for name in match[1].split(",")]


def first_file(path: Path) -> Path:
    """The file (or DICOM folder) that an address begins with."""
    return split_part(channel_paths(path)[0])[0]


def exists(path: Path) -> bool:
    """Whether every file that an address names is there."""
    return all(split_part(channel)[0].exists() for channel in channel_paths(path))


def channel_address(files: list[Path]) -> Path | None:
    """Files called KEY_0000.nii.gz, KEY_0001.nii.gz, ... as one path: KEY_{0000,0001}.nii.gz.

    None where they differ in more than these numbers, or the numbers are not 0000, 0001, ... without a gap.
    """
    if len(files) == 1:
        return files[0]
    matches = [_NUMBERED.fullmatch(str(file)) for file in files]
    found = [match.group("before", "channel", "after") for match in matches if match]
    numbers = sorted(number for _, number, _ in found)
    around = {(before, after) for before, _, after in found}
    if len(found) < len(files) or len(around) > 1 or numbers != [f"{i:04d}" for i in range(len(files))]:
        return None
    before, after = around.pop()
    return Path(f"{before}{{{','.join(numbers)}}}{after}")
