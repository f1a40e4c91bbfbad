"""Slices as a volume: in order, where they lie; and every way in which they are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_files import save, save_series, slice_of
from refusals import refused
from ucseg.scans.address import Address
from ucseg.scans.dicom.series import files_in, read_file
from ucseg.scans.dicom.volume import in_order
from ucseg.scans.reading import files_of, read_header, read_scan

VOLUME = np.random.default_rng(0).integers(-1000, 2000, (6, 5, 7)).astype(np.int16)


def ordered(folder: Path) -> Any:
    return in_order(folder, [read_file(file) for file in files_in(folder)])


def one_slice(folder: Path, name: str, position: tuple[float, ...], series: str = "1.2.3.4", **values: Any) -> Path:
    return save(slice_of(VOLUME[..., 0], position, series, **values), folder / name)


def test_slices_are_ordered_by_place_not_by_name(tmp_path: Path) -> None:
    slices, geometry = ordered(save_series(tmp_path / "a", VOLUME))
    assert [one.position[2] for one in slices] == [30 + 2 * k for k in range(7)]
    assert [one.file.name for one in slices] != sorted(one.file.name for one in slices)
    assert np.array_equal(geometry.affine, [[-0.5, 0, 0, -10], [0, -0.75, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]])
    assert geometry.unit == "mm"
    downwards, _ = ordered(save_series(tmp_path / "b", VOLUME, step=-2.0))
    assert [one.position[2] for one in downwards] == [18 + 2 * k for k in range(7)]


@pytest.mark.parametrize(("thickness", "expected"), [(2.0, 2.0), (None, 1.0)])
def test_one_slice_is_as_thick_as_it_says(tmp_path: Path, thickness: float | None, expected: float) -> None:
    one_slice(tmp_path, "a.dcm", (0, 0, 0), SliceThickness=thickness)
    assert ordered(tmp_path)[1].affine[2, 2] == expected


def test_a_tilted_gantry_is_kept_as_a_sheared_affine(tmp_path: Path) -> None:
    for k in range(4):
        one_slice(tmp_path, f"{k}.dcm", (0, 0.5 * k, 2.0 * k))
    assert np.allclose(ordered(tmp_path)[1].affine[:3, 2], [0, -0.5, 2.0])


def test_small_differences_of_places_are_rounding(tmp_path: Path) -> None:
    for k, error in enumerate((0, 0.1, -0.1, 0.05, 0)):
        one_slice(tmp_path, f"{k}.dcm", (0, 0, 2.0 * k + error))
    assert ordered(tmp_path)[1].spacing[2] == 2.0


def missing(folder: Path) -> list[object]:
    files = sorted(files_in(save_series(folder, VOLUME)), key=lambda file: read_file(file).slices[0].position[2])
    files[2].unlink()
    files[3].unlink()
    return [files[1].name, "about 2", "6 mm", "2 mm"]


def repeated(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    for k in range(7):
        one_slice(folder, f"b{k}.dcm", (10, 20, 30 + 2 * k))
    return ["2 slices"]


def twice(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    return [one_slice(folder, "copy.dcm", (10, 20, 34)).name]


def uneven(folder: Path) -> list[object]:
    for k, z in enumerate((0, 2, 4.6, 6, 8)):
        one_slice(folder, f"{k}.dcm", (0, 0, z))
    return ["1.4", "2.6"]


def bent(folder: Path) -> list[object]:
    for k, x in enumerate((0, 0, 1, 0, 0)):
        one_slice(folder, f"{k}.dcm", (x, 0, 2 * k))
    return ["1 mm"]


def turned(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    one_slice(folder, "a.dcm", (0, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    return ["2 different orientations", "1 of 8"]


def scaled(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    one_slice(folder, "a.dcm", (0, 0, 0), PixelSpacing=[1, 1])
    return ["2 different pixel spacings", "1 of 8"]


def resized(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    save(slice_of(VOLUME[:4, :, 0], (0, 0, 0), "1.2.3.4"), folder / "a.dcm")
    return ["2 different sizes", "1 of 8"]


def unplaced(folder: Path) -> list[object]:
    save_series(folder, VOLUME)
    return [one_slice(folder, "bare.dcm", (0, 0, 0), ImagePositionPatient=None).name]


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("slices-missing", missing),
        ("slices-repeated", repeated),
        ("slices-twice", twice),
        ("slices-uneven", uneven),
        ("slices-uneven", bent),
        ("slices-mixed", turned),
        ("slices-mixed", scaled),
        ("slices-mixed", resized),
        ("slices-no-position", unplaced),
    ],
)
def test_slices_that_are_no_volume_are_refused(tmp_path: Path, kind: str, make: Callable[[Path], list[object]]) -> None:
    folder = tmp_path / "series"
    values = make(folder)
    for reader in (ordered, read_scan, read_header):
        with refused(kind, naming=[folder, *values]):
            reader(folder)


def test_values_beside_the_edge_of_a_digit_are_alike(tmp_path: Path) -> None:
    """Cosines and edges on both sides of half a digit, a millionth apart."""
    save_series(tmp_path / "series", VOLUME)
    for number, file in enumerate(sorted((tmp_path / "series").iterdir())):
        slice_ = pydicom.dcmread(file)
        by = 1e-6 if number % 2 else -1e-6
        turn = np.arccos(0.9985) + by
        slice_.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(turn)), float(np.sin(turn))]
        slice_.ImagePositionPatient = [0.0, *(np.array([-np.sin(turn), np.cos(turn)]) * 2 * number).round(6).tolist()]
        slice_.PixelSpacing = [0.50005 + by, 0.50005 + by]
        slice_.save_as(file)
    assert read_scan(tmp_path / "series").array.shape == (1, *VOLUME.transpose(1, 0, 2).shape)


def both(folder: Path) -> None:
    save_series(folder, VOLUME[..., :2], "1.6")
    one_slice(folder, "other.dcm", (0, 0, 0), "1.7")


def broken(folder: Path) -> None:
    save_series(folder, VOLUME)
    (folder / "a.dcm").write_text("no scan " * 40)


def coloured(folder: Path) -> None:
    colour = np.zeros((6, 5, 3), np.uint8)
    save(slice_of(colour, (0, 0, 0), "1.8", SamplesPerPixel=3, PhotometricInterpretation="RGB"), folder / "c.dcm")


def photographs(folder: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        film(folder, name, None)


def film(folder: Path, name: str = "film.dcm", count: int | None = 2) -> None:
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    more = {} if count is None else {"NumberOfFrames": count}
    one_slice(folder, name, (0, 0, 0), **bare, **more)


def no_place(folder: Path) -> None:
    one_slice(folder, "a.dcm", (0, 0, 0), ImagePositionPatient=None)


@pytest.mark.parametrize(
    ("kind", "make", "part", "named"),
    [
        ("series-several", both, "", ["2 series", "#1.6", "#1.7"]),
        ("series-missing", both, "#1.8", ["1.8"]),
        ("series-damaged", broken, "", ["a.dcm"]),
        ("volume-colour", coloured, "", []),
        ("series-no-volume", photographs, "", [2]),
        ("dicom-film", film, "", [2]),
        ("dicom-no-place", no_place, "", []),
    ],
)
def test_folders_that_are_no_scan_are_refused(
    tmp_path: Path, kind: str, make: Callable[[Path], None], part: str, named: list[object]
) -> None:
    make(tmp_path / "p")
    address = Address.of(f"{tmp_path / 'p'}{part}")
    for reader in (read_scan, read_header, files_of):
        with refused(kind, naming=[address, *named]):
            reader(address)


def test_a_folder_without_any_image_says_why(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.dcm").write_text("no scan " * 40)
    with refused("series-none", naming=[tmp_path / "p", "a.dcm"]) as caught:
        read_scan(tmp_path / "p")
    assert str(caught.value).count("; ") == 1, "one fix"


def test_a_series_that_is_named_is_read_beside_others(tmp_path: Path) -> None:
    both(tmp_path)
    (tmp_path / "broken.dcm").write_text("no scan " * 40)
    address = Address.of(f"{tmp_path}#1.6")
    assert np.array_equal(read_scan(address).array[0], VOLUME[..., :2].transpose(1, 0, 2))
    assert len(files_of(address)) == 2
