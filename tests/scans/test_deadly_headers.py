"""Headers that would end the process of the library that reads them, and half-copied files: each costs one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from refusals import refused
from ucseg.cli.init import init
from ucseg.dataset.manifest import load_dataset
from ucseg.scans.reading import read_header, read_scan


def header(path: Path, old: bytes, new: bytes) -> Path:
    """A volume of two slices in the format of `path`, its header changed."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(path))
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.nrrd", b"endian: little", b"e" * 2000),
        ("a.nrrd", b"type: short", b"type: short" + b"A" * 70_000),
        ("a.nrrd", b"kinds: domain", b"kinds: domain key:=" + b"A" * 5000),
        ("a.mha", b"NDims = 3", b"NDims = 2147483648"),
        ("a.mha", b"NDims = 3", b"NDims = -1"),
    ],
)
def test_a_header_that_would_end_the_process_is_refused(tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    file = header(tmp_path / name, old, new)
    for read in (read_header, read_scan):
        with refused("scan-damaged", naming=name):
            read(file)  # type: ignore[operator]


def test_long_comments_and_values_of_keys_are_right(tmp_path: Path) -> None:
    more = b"endian: little\n# " + b"c" * 100_000 + b"\nSegment0_Name:=" + b"n" * 5000
    assert read_scan(header(tmp_path / "a.nrrd", b"endian: little", more)).array.shape == (1, 4, 3, 2)


def test_a_half_copied_stack_costs_one_file(tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "scans"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(8):
        for part, top in (("images", 255), ("labels", 2)):
            pages = [Image.fromarray(rng.integers(0, top, (16, 16)).astype(np.uint8)) for _ in range(3)]
            pages[0].save(folder / part / f"c{number}.tif", save_all=True, append_images=pages[1:])
    for number, share in ((3, 0.5), (4, 0.9)):
        half = folder / "images" / f"c{number}.tif"
        half.write_bytes(half.read_bytes()[: int(share * half.stat().st_size)])
        with refused("scan-damaged", naming=half.name):
            read_scan(half)
    init(folder, out=tmp_path / "data")
    cases = {case.case for case in load_dataset(tmp_path / "data").cases}
    assert cases == {"c0", "c1", "c2", "c4", "c5", "c6", "c7"}  # that of c4 is half there, which its header cannot say
