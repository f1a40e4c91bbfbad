"""What a path of cases.csv says: files, arrays, channels, series; and names that only look like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_files import save_series
from ucseg.scans.address import FORMATS, Address, ending_of, without_ending

VOLUME = np.zeros((4, 5, 3), np.int16)


@pytest.mark.parametrize(
    ("said", "files", "part"),
    [
        ("scan.nii.gz", ["scan.nii.gz"], ""),
        ("d/volume.h5#label", ["d/volume.h5"], "label"),
        ("volume.h5#group/a#b", ["volume.h5"], "group/a#b"),
        ("volume.NPZ#image", ["volume.NPZ"], "image"),
        ("a#1/volume.hdf5#x", ["a#1/volume.hdf5"], "x"),
        ("scan.nii.gz#channels", ["scan.nii.gz"], "channels"),
        ("scan.nii#Channels", ["scan.nii"], "Channels"),
        ("scan.nii.gz#label", ["scan.nii.gz#label"], ""),  # NIfTI has no arrays by name
        ("case_{0000,0001}.nii.gz", ["case_0000.nii.gz", "case_0001.nii.gz"], ""),
        ("case_{flair, t1}.nii", ["case_flair.nii", "case_t1.nii"], ""),
        ("{t1,t2}/b.nii", ["t1/b.nii", "t2/b.nii"], ""),
        ("x_mask{,_1}.png", ["x_mask.png", "x_mask_1.png"], ""),
        ("case_{0000}.nii", ["case_{0000}.nii"], ""),  # one name is no list
        ("{T1,T2}/a_{T1,T2}.nii", ["T1/a_T1.nii", "T2/a_T2.nii"], ""),  # the first words go together
        ("{x,y}/b/a_{M,H}.png#classes", ["x/b/a_M.png", "y/b/a_H.png"], "classes"),
        ("{x,y}/a_{M,H,E}.png", ["{x,y}/a_{M,H,E}.png"], ""),  # they do not
        ("gone#1.2.840", ["gone#1.2.840"], ""),  # no such folder
    ],
)
def test_what_a_path_says(said: str, files: list[str], part: str) -> None:
    address = Address.of(said)
    assert (address.files, address.part) == (tuple(map(Path, files)), part)
    assert (str(address), address.path, address.several) == (said, Path(said), len(files) > 1)
    assert Address.of(address) is address


@pytest.mark.parametrize("name", ["a#b.nii.gz", "a{1,2}.png", "v.h5#label", "scan.nii#channels"])
def test_a_file_that_really_has_such_a_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    before = Address.of(tmp_path / name)
    (tmp_path / name).write_bytes(b"1")
    address = Address.of(tmp_path / name)
    assert (address.files, address.part) == ((tmp_path / name,), "")
    assert address.exists()
    assert address == before, "the path says who it is"


def test_a_series_of_a_folder(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "p#1", VOLUME)
    for said, part, stem in ((folder, "", "p#1"), (f"{folder}#1.2.3.4", "1.2.3.4", "p#1_1.2.3.4")):
        address = Address.of(said)
        assert (address.file, address.part, address.stem) == (folder, part, stem)
        assert (address.format, address.ending, address.several, address.plain) == ("dicom", "", False, False)
        assert address.exists()
    bare = (folder / "000.dcm").rename(tmp_path / "IM.0001")
    assert (Address.of(bare).format, Address.of(bare).stem) == ("dicom", "IM.0001")


def test_signs_in_the_names_of_folders_that_are_there_mean_nothing(tmp_path: Path) -> None:
    home = tmp_path / "h {a,b} #1"
    folder = save_series(home / "m {p,q}", VOLUME)
    for said, files, part in (
        ("v.h5#group/label", ["v.h5"], "group/label"),
        ("c_{0000,0001}.nii.gz", ["c_0000.nii.gz", "c_0001.nii.gz"], ""),
        ("new {x,y}/scan.nii#channels", ["new x/scan.nii#channels", "new y/scan.nii#channels"], ""),
        ("m {p,q}#1.2.3.4", ["m {p,q}"], "1.2.3.4"),
    ):
        address = Address.of(home / said)
        assert (address.files, address.part) == (tuple(home / file for file in files), part)
    assert Address.of(f"{folder}#1.2.3.4").exists()


def test_channels_there_and_back(tmp_path: Path) -> None:
    files = [tmp_path / f"a_000{i}.nii.gz" for i in range(3)]
    address = Address.of_channels(files[::-1])
    assert address == Address.of(tmp_path / "a_{0000,0001,0002}.nii.gz")
    assert address.files == tuple(files)
    assert address.singles == [Address.of(file) for file in files]
    assert not address.exists()
    for file in files:
        file.write_bytes(b"1")
    assert address.exists()
    braces = Address.of_channels([Path(f"{{a,b}}/c_000{i}.nii") for i in range(2)])
    assert braces is not None
    assert braces.files == (Path("{a,b}/c_0000.nii"), Path("{a,b}/c_0001.nii"))
    assert Address.of_channels(files[1:2]) == Address.of(files[1])
    assert Address.of(files[1]).singles == [Address.of(files[1])]


@pytest.mark.parametrize(
    "names",
    [
        ["a_0000.nii", "a_0002.nii"],
        ["a_0001.nii", "a_0002.nii"],
        ["a_0000.nii", "b_0001.nii"],
        ["a_0000.nii", "a_0001.nii.gz"],
        ["a_0000.nii", "a_t1.nii"],
        ["x/a_0000.nii", "y/a_0001.nii"],
    ],
)
def test_files_that_are_no_channels_of_one_scan(names: list[str]) -> None:
    assert Address.of_channels([Path(name) for name in names]) is None


@pytest.mark.parametrize(
    ("said", "ending", "stem", "kind"),
    [
        ("a.b.nii.gz", ".nii.gz", "a.b", "nifti"),
        ("A.NII", ".nii", "A", "nifti"),
        ("a.gz", "", "a.gz", ""),
        ("a.MGZ", ".mgz", "a", "nifti"),
        ("a.seg.nrrd", ".seg.nrrd", "a", "itk"),
        ("a.mhd", ".mhd", "a", "itk"),
        ("a.v2.JPG", ".jpg", "a.v2", "plain_images"),
        ("a.h5#label", ".h5", "a", "arrays"),
        ("a.dcm", ".dcm", "a", "dicom"),
        ("a_{0000,0001}.nii.gz", ".nii.gz", "a", "nifti"),
        ("{t1,t2}.nii", ".nii", "{t1,t2}.nii", "nifti"),
        ("notes.xyz", "", "notes.xyz", ""),
        ("folder", "", "folder", ""),
    ],
)
def test_ending_stem_and_format(said: str, ending: str, stem: str, kind: str) -> None:
    address = Address.of(said)
    assert (address.ending, address.stem, address.format) == (ending, stem, kind)
    assert address.plain == (kind == "plain_images")


def test_the_longest_ending_counts() -> None:
    for ending in FORMATS:
        assert ending_of(f"a{ending.upper()}") == ending
        assert without_ending(f"a.x{ending}") == "a.x"
    assert (ending_of("a"), without_ending("IM.0001")) == ("", "IM.0001")


def test_addresses_are_ordered_and_named_by_their_paths(tmp_path: Path) -> None:
    said = ["b.nii", "a_{0,1}.nii", "a.h5#label", "c/a.nii"]
    addresses = [Address.of(tmp_path / one) for one in said]
    assert [one.path for one in sorted(addresses)] == sorted(tmp_path / one for one in said)
    assert len({*addresses, *(Address.of(tmp_path / one) for one in said)}) == len(said)
    assert [one.below(tmp_path) for one in addresses] == said
    assert addresses[0].below(tmp_path / "c") == (tmp_path / "b.nii").as_posix()
    assert (addresses[3].name, addresses[3].parent) == ("a.nii", tmp_path / "c")
