"""DICOM as scans: a series lies where others put it, a folder is sorted into series, plain images stay plain."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by

from dicom_files import save, save_series, slice_of
from refusals import refused
from ucseg.folder.listing import list_scans
from ucseg.scans.address import Address
from ucseg.scans.reading import files_of, read_header, read_scan
from ucseg.scans.writing import mask_ending, write_like

VOLUME = np.random.default_rng(0).integers(-1000, 2000, (6, 5, 7)).astype(np.int16)


def test_a_series_lies_where_itk_puts_it(tmp_path):
    folder = save_series(tmp_path / "series", VOLUME, RescaleSlope=2.0, RescaleIntercept=-24.0)
    scan = read_scan(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(scan.array[0], VOLUME.transpose(1, 0, 2) * 2.0 - 24)
    assert np.array_equal(scan.array[0], sitk.GetArrayFromImage(image).T)
    for index in ((0, 0, 0), (4, 5, 6), (1, 2, 3)):
        place = scan.geometry.affine @ [*index, 1]
        assert np.allclose(place[:3] * [-1, -1, 1], image.TransformIndexToPhysicalPoint(index))
    assert read_header(folder)[0] == (5, 6, 7)
    assert (Address.of(folder).stem, mask_ending(Address.of(folder))) == ("series", ".nii.gz")
    assert len(files_of(Address.of(folder))) == 7
    write_like(scan.array[0] > 0, scan, tmp_path / "mask.nii.gz")
    assert np.allclose(read_scan(tmp_path / "mask.nii.gz").geometry.affine, scan.geometry.affine)


def test_a_folder_is_sorted_into_series(tmp_path):
    save_series(tmp_path / "p1", VOLUME, "1.2.11", SeriesNumber=3)
    for k in range(3):
        ds = slice_of(
            VOLUME[..., k], (0, 0, k), "1.2.12", SeriesNumber=4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
        )
        save(ds, tmp_path / "p1" / f"scout{k}")
        save(slice_of(VOLUME[..., k], (0, 0, k), "1.2.13", SeriesNumber=5), tmp_path / "p1" / f"b{k}.IMA")
    save(slice_of(VOLUME[..., 0], (0, 0, 0), "1.3"), tmp_path / "p2" / "only.dcm")
    (tmp_path / "p2" / "notes.dcm").write_text("no scan " * 40)
    found, left_out = list_scans(tmp_path, set())
    assert {one.address.name: one.name for one in found} == {
        "p1#1.2.11": "p1_series3", "p1#1.2.13": "p1_series5", "p2": "p2",
    }  # fmt: skip
    assert np.array_equal(read_scan(found[0].address).array[0], VOLUME.transpose(1, 0, 2))
    assert len({one.subject for one in found}) == 1
    assert "someone" not in str(found)
    reasons = {item.file.name: item.reason for item in left_out}
    assert "localiser" in reasons["scout0"]
    assert "not DICOM" in reasons["notes.dcm"]


def test_a_series_in_two_folders_is_a_copy_or_goes_on_there(tmp_path):
    save_series(tmp_path / "a" / "first", VOLUME, "1.2.11")
    shutil.copytree(tmp_path / "a" / "first", tmp_path / "a" / "again")
    found, left_out = list_scans(tmp_path / "a", set())
    assert not found
    assert {item.file.parent.name for item in left_out} == {"first", "again"}
    assert {("first" in item.reason, "again" in item.reason) for item in left_out} == {(True, False), (False, True)}
    for part, half in (("one", VOLUME[..., :3]), ("two", VOLUME[..., 3:])):  # the same names of files, other slices
        save_series(tmp_path / "b" / part, half, "1.2.12")
    found, left_out = list_scans(tmp_path / "b", set())
    assert not found
    assert all("into one folder" in item.reason for item in left_out)
    assert len(left_out) == 2


def test_images_without_a_place_are_plain_images(tmp_path):
    grey = VOLUME[..., 0].astype(np.uint8)
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    path = save(slice_of(grey, (0, 0, 0), "1.2", **bare), tmp_path / "a.dcm")
    assert np.array_equal(read_scan(path).array[0], grey)
    assert (read_scan(path).geometry.unit, mask_ending(Address.of(path))) == ("px", ".png")


def test_white_first_is_turned_where_values_are_only_a_picture(tmp_path):
    """The same rule for plain images and volumes, by what can be stored, not by what the image holds."""
    grey = VOLUME[..., 0].astype(np.uint8)
    x_ray = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1", "PhotometricInterpretation": "MONOCHROME1"}
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    plain = save(slice_of(grey, (0, 0, 0), "1.3", **bare, **x_ray), tmp_path / "plain.dcm")
    placed = save(slice_of(grey, (0, 0, 0), "1.4", **x_ray), tmp_path / "placed.dcm")
    assert np.array_equal(read_scan(plain).array[0], 255 - grey)
    assert np.array_equal(read_scan(placed).array[0, ..., 0].T, 255 - grey)
    twelve = save(slice_of(np.abs(VOLUME[..., 0]), (0, 0, 0), "1.5", **bare, **x_ray, BitsStored=12, HighBit=11,
                           PixelRepresentation=0), tmp_path / "twelve.dcm")  # fmt: skip
    assert np.array_equal(read_scan(twelve).array[0], 4095 - np.abs(VOLUME[..., 0]))
    signed = save(slice_of(VOLUME[..., 0], (0, 0, 0), "1.6", **bare, **x_ray), tmp_path / "signed.dcm")
    assert np.array_equal(read_scan(signed).array[0], -1 - VOLUME[..., 0])
    hounsfield = save_series(tmp_path / "ct", VOLUME, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_scan(hounsfield).array[0], VOLUME.transpose(1, 0, 2))


def test_pixels_that_need_another_decoder_name_the_extra():
    path = Path(pydicom.data.__file__).parent / "test_files" / "SC_rgb_jpeg_gdcm.dcm"  # JPEG Lossless
    if importlib.util.find_spec("libjpeg"):
        assert np.array_equal(read_scan(path).array, read_scan(path.with_name("SC_rgb_rle.dcm")).array)
        return
    with refused("dicom-codec", naming=[path, "ucseg[dicom-codecs]"]):
        read_scan(path)


@pytest.mark.real
def test_the_real_series(shared_data):
    for folder in sorted((shared_data / "fixtures" / "dicom").iterdir()):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        scan, image = read_scan(folder), reader.Execute()
        assert np.array_equal(scan.array[0], sitk.GetArrayFromImage(image).T)
        place = scan.geometry.affine @ [3, 4, 5, 1]
        assert np.allclose(place[:3] * [-1, -1, 1], image.TransformIndexToPhysicalPoint((3, 4, 5)))
