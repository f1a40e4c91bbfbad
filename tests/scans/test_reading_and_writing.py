"""Scans keep their voxels and their place in space through every format; what cannot be read is named."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from scipy.spatial.transform import Rotation

from refusals import refused
from ucseg.errors import UserError
from ucseg.machine.writing import whole_file
from ucseg.scans.address import Address
from ucseg.scans.reading import oddities, read_header, read_mask, read_scan
from ucseg.scans.scan import Geometry, Scan
from ucseg.scans.writing import map_ending, mask_ending, write_like

SHAPE = (5, 6, 7)
SPACING = np.array([0.7, 1.3, 4.0])
ORIGIN = np.array([-31.25, 17.5, 90.125])
VOXEL = (1, 4, 2)
LPS = np.diag([-1.0, -1.0, 1.0])
ORIENTATIONS = [
    np.eye(3)[list(axes)].T * np.array(signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
OBLIQUE = Rotation.from_euler("xyz", [12.0, -7.0, 31.0], degrees=True).as_matrix()


def affine_of(direction):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * SPACING, ORIGIN
    return affine


def one_voxel(dtype=np.uint8):
    mask = np.zeros(SHAPE, dtype)
    mask[VOXEL] = 1
    return mask


def place_by_itk(path):
    """RAS position of the marked voxel, by SimpleITK alone."""
    image = sitk.ReadImage(str(path))
    index = [int(i) for i in np.argwhere(sitk.GetArrayFromImage(image) == 1)[0][::-1]]
    return LPS @ np.array(image.TransformIndexToPhysicalPoint(index))


def save_nifti(path, array, affine, kind=nib.Nifti1Image, **header):
    image = kind(array, affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def save_itk(path, direction, array=None):
    image = sitk.GetImageFromArray((np.zeros(SHAPE, np.int16) if array is None else array).T.copy())
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin((LPS @ ORIGIN).tolist())
    image.SetDirection((LPS @ direction).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def cannot_read(path, kind, *values):
    with refused(kind, naming=[path.name, *values]):
        read_scan(path)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_nifti_mask_lies_where_its_image_lies(tmp_path, direction):
    affine = affine_of(direction)
    scan = read_scan(save_nifti(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.int16), affine))
    assert scan.array.shape == (1, *SHAPE)
    assert np.allclose(scan.geometry.affine, affine, atol=1e-5)
    assert np.allclose(scan.geometry.spacing, SPACING, atol=1e-6)
    write_like(one_voxel(), scan, tmp_path / "mask.nii.gz")
    assert np.allclose(place_by_itk(tmp_path / "mask.nii.gz"), affine[:3, :3] @ VOXEL + ORIGIN, atol=1e-4)
    assert np.array_equal(read_scan(tmp_path / "mask.nii.gz").geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("direction", [*ORIENTATIONS, OBLIQUE])
def test_itk_mask_lies_where_its_image_lies(tmp_path, direction, ending):
    source = save_itk(tmp_path / f"image{ending}", direction)
    scan = read_scan(source)
    assert np.allclose(scan.geometry.affine, affine_of(direction), atol=1e-12)
    write_like(one_voxel(), scan, tmp_path / f"mask{ending}")
    assert np.allclose(place_by_itk(tmp_path / f"mask{ending}"), affine_of(direction)[:3, :3] @ VOXEL + ORIGIN)
    before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / f"mask{ending}"))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetDirection() == before.GetDirection()
    assert after.GetSpacing() == before.GetSpacing()
    assert np.array_equal(read_scan(tmp_path / f"mask{ending}").geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_scan_without_header_is_written_by_its_geometry(tmp_path, ending):
    like = Scan(np.zeros((1, *SHAPE), np.float32), Geometry(affine_of(OBLIQUE)), Path("drawn"))
    write_like(one_voxel(), like, tmp_path / f"mask{ending}")
    assert np.allclose(read_scan(tmp_path / f"mask{ending}").geometry.affine, like.geometry.affine, atol=1e-5)
    assert np.allclose(
        place_by_itk(tmp_path / f"mask{ending}"), like.geometry.affine[:3, :3] @ VOXEL + ORIGIN, atol=1e-4
    )


def test_nrrd_in_ras_space_lies_where_its_lps_twin_lies(tmp_path):
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: {}\nsizes: 2 2 2\nencoding: raw\n"
        "space directions: ({x}0.7,0,0) (0,{x}0.5,0.1) (0,0,4)\nspace origin: ({x}1,{x}2,3)\n\n"
    )
    ras, lps = tmp_path / "ras.nrrd", tmp_path / "lps.nrrd"
    ras.write_bytes(header.format("right-anterior-superior", x="").encode() + bytes(8))
    lps.write_bytes(header.format("left-posterior-superior", x="-").encode() + bytes(8))
    expected = [[0.7, 0, 0, 1], [0, 0.5, 0, 2], [0, 0.1, 4, 3], [0, 0, 0, 1]]
    assert np.array_equal(read_scan(ras).geometry.affine, expected)
    assert np.array_equal(read_scan(lps).geometry.affine, expected)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_header_fields_of_place_are_kept(tmp_path, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = kind(np.zeros(SHAPE, np.int16), None, header)
    image.set_sform(affine_of(OBLIQUE), code="mni")
    image.set_qform(affine_of(np.eye(3)), code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.0, 5.0)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"name of the patient"))
    nib.save(image, tmp_path / "image.nii")
    scan = read_scan(tmp_path / "image.nii")
    assert scan.array.dtype.isnative
    assert (scan.array == 5).all()
    write_like(one_voxel(), scan, tmp_path / "mask.nii")
    source, mask = nib.load(tmp_path / "image.nii"), nib.load(tmp_path / "mask.nii")
    assert type(mask) is kind
    for field in (
        "sform_code",
        "qform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "pixdim",
        "quatern_b",
        "qoffset_x",
        "xyzt_units",
    ):
        assert np.array_equal(mask.header[field], source.header[field]), field
    assert np.array_equal(mask.affine, source.affine)
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.get_fdata(), one_voxel())
    assert b"patient" not in (tmp_path / "mask.nii").read_bytes()


def test_sheared_affine_is_read_and_kept(tmp_path):
    affine = affine_of(OBLIQUE)
    affine[0, 2] += 1.5
    scan = read_scan(save_nifti(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.uint8), affine))
    assert np.allclose(scan.geometry.affine, affine, atol=1e-5)
    write_like(one_voxel(), scan, tmp_path / "mask.nii.gz")
    assert np.array_equal(nib.load(tmp_path / "mask.nii.gz").affine, nib.load(tmp_path / "image.nii.gz").affine)


def test_voxels_are_read_as_they_are(tmp_path):
    values = np.arange(210, dtype=np.float32).reshape(SHAPE)
    values[0, 0, :2] = np.nan, np.inf
    path = save_nifti(tmp_path / "image.nii.gz", values, np.eye(4))
    assert np.array_equal(read_scan(path).array[0], values, equal_nan=True)
    numbers = np.arange(210, dtype=np.int16).reshape(SHAPE)
    for ending in (".nrrd", ".mha"):
        assert np.array_equal(read_scan(save_itk(tmp_path / f"image{ending}", OBLIQUE, numbers)).array[0], numbers)


def test_units_other_than_millimetres_are_converted(tmp_path):
    affine = affine_of(np.eye(3)) * np.array([[1000.0]] * 3 + [[1.0]])
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "image.nii.gz")
    scan = read_scan(tmp_path / "image.nii.gz")
    assert np.allclose(scan.geometry.affine, affine_of(np.eye(3)), atol=1e-4)
    write_like(one_voxel(), scan, tmp_path / "mask.nii.gz")
    assert np.array_equal(read_scan(tmp_path / "mask.nii.gz").geometry.affine, scan.geometry.affine)


def test_a_fourth_axis_of_one_is_dropped_and_a_true_one_refused(tmp_path):
    values = np.arange(210, dtype=np.int16).reshape(SHAPE)
    path = save_nifti(tmp_path / "one.nii.gz", values[..., None], np.eye(4))
    scan = read_scan(path)
    assert np.array_equal(scan.array[0], values)
    assert read_header(path)[0] == SHAPE
    write_like(one_voxel(), scan, tmp_path / "mask.nii.gz")
    assert nib.load(tmp_path / "mask.nii.gz").shape == SHAPE
    cannot_read(save_nifti(tmp_path / "time.nii.gz", np.zeros((*SHAPE, 2)), np.eye(4)), "scan-axes", "4D", "#channels")
    time = sitk.GetImageFromArray(np.zeros((2, *SHAPE[::-1])), isVector=False)
    sitk.WriteImage(time, str(tmp_path / "time.mha"))
    cannot_read(tmp_path / "time.mha", "scan-axes", "4D", "time.mha#channels")
    vectors = sitk.GetImageFromArray(np.zeros((4, 4, 4, 2), np.uint8), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "layers.seg.nrrd"))
    cannot_read(tmp_path / "layers.seg.nrrd", "segments-unnamed")
    with refused("segments-unnamed", naming="layers.seg.nrrd"):
        read_header(tmp_path / "layers.seg.nrrd")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]])
def test_values_of_a_voxel_or_the_last_axis_are_channels(tmp_path, ending, shape):
    """Both are read alike, and a mask written like them lies on the same voxels of a file of one value."""
    values = np.random.default_rng(0).integers(0, 99, (5, *shape)).astype(np.int16)
    dims = len(shape)
    one = sitk.GetImageFromArray(np.ascontiguousarray(values[0].transpose()))
    vectors = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose()), isVector=True)
    last = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(values, 0, -1).transpose()), isVector=False)
    for image, name in ((one, "one"), (vectors, "vectors"), (last, "last")):
        image.SetSpacing([*SPACING[:dims].tolist(), 1.0][: image.GetDimension()])
        sitk.WriteImage(image, str(tmp_path / f"{name}{ending}"))
    alone = read_scan(tmp_path / f"one{ending}")
    for place in (f"vectors{ending}", f"last{ending}#channels"):
        scan = read_scan(tmp_path / place)
        assert np.array_equal(scan.array, values), place
        assert read_header(tmp_path / place)[::2] == (shape, 5)
        np.testing.assert_allclose(scan.geometry.affine, alone.geometry.affine)
        write_like((values[0] > 50).astype(np.uint8), scan, tmp_path / f"mask{ending}")
        mask = read_scan(tmp_path / f"mask{ending}")
        assert np.array_equal(mask.array[0], values[0] > 50)
        np.testing.assert_allclose(mask.geometry.affine, alone.geometry.affine)
    for place in (f"vectors{ending}#channels", *([f"one{ending}#channels"] if dims == 2 else [])):
        cannot_read(tmp_path / place, "last-axis-channels", "leave out #channels")
        with refused("last-axis-channels", naming=place):
            read_header(tmp_path / place)


def test_a_nifti_of_two_axes_is_one_slice(tmp_path):
    values = np.arange(30, dtype=np.int16).reshape(5, 6)
    scan = read_scan(save_nifti(tmp_path / "slice.nii", values, np.diag([2.0, 3.0, 1.0, 1.0])))
    assert np.array_equal(scan.array, values[None, ..., None])
    write_like((scan.array[0] > 3).astype(np.uint8), scan, tmp_path / "mask.nii")
    assert np.array_equal(nib.load(tmp_path / "mask.nii").get_fdata(), values > 3)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_files_cut_short_are_named(tmp_path, ending, part):
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole{ending}"
    if ending.startswith(".nii"):
        save_nifti(whole, rng.integers(0, 4000, SHAPE).astype(np.int16), np.eye(4))
    elif ending in (".nrrd", ".mha"):
        image = sitk.GetImageFromArray(rng.integers(0, 4000, SHAPE).astype(np.int16))
        sitk.WriteImage(image, str(whole), useCompression=True)
    else:
        Image.fromarray(rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(whole)
    assert read_scan(whole).array.size > 0
    content = whole.read_bytes()
    cut = tmp_path / f"cut{ending}"
    cut.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match=cut.name) as caught:
        read_scan(cut)
    assert caught.value.code in ("scan-damaged", "scan-content", "scan-empty")


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_one_wrong_byte_of_compressed_voxels_is_noticed(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 4000, (20, 20, 20)).astype(np.int16)
    path = tmp_path / f"image{ending}"
    if ending == ".nii.gz":
        save_nifti(path, values, np.eye(4))
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path), useCompression=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    cannot_read(path, "scan-damaged")


def test_files_that_are_no_scans_are_refused(tmp_path):
    (tmp_path / "._image.nii.gz").write_bytes(b"\0" * 200)
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "text.nii").write_text("not a scan " * 100)
    (tmp_path / "text.png").write_text("not a scan " * 100)
    (tmp_path / "slice.dcm").write_bytes(b"DICM")
    (tmp_path / "notes.xyz").write_text("notes")
    cannot_read(tmp_path / "._image.nii.gz", "scan-companion")
    cannot_read(tmp_path / "empty.nii.gz", "scan-empty")
    cannot_read(tmp_path / "text.nii", "scan-content", "NIfTI")
    cannot_read(tmp_path / "text.png", "scan-content", "PNG")
    cannot_read(tmp_path / "slice.dcm", "scan-content", "DICOM")
    cannot_read(tmp_path / "notes.xyz", "scan-format", ".nii.gz", ".png")
    cannot_read(tmp_path / "gone.nii.gz", "scan-missing")
    (tmp_path / "folder").mkdir()
    cannot_read(tmp_path / "folder", "scan-folder")
    packed = save_nifti(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))
    (tmp_path / "packed.nii").write_bytes(packed.read_bytes())
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(packed.read_bytes()))
    cannot_read(tmp_path / "packed.nii", "scan-content", ".nii.gz")
    cannot_read(tmp_path / "plain.nii.gz", "scan-content", ".nii")


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [np.nan, 0.0, 0.0], [0.0, 1.0, 0.0]])
def test_an_affine_that_places_nothing_is_refused(tmp_path, row):
    path = save_nifti(tmp_path / "image.nii", np.zeros(SHAPE, np.uint8), np.eye(4))
    image = nib.load(path, mmap=False)
    image.header["srow_x"] = [*row, 0.0]
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None, image.header), path)
    cannot_read(path, "scan-geometry")
    with refused("scan-geometry", naming=path.name):
        read_header(path)


def test_plain_images_keep_their_values(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    deep = rng.integers(0, 65536, (9, 12)).astype(np.uint16)
    deep_colour = rng.integers(0, 65536, (9, 12, 3)).astype(np.uint16)
    for ending in (".png", ".tif"):
        Image.fromarray(colour).save(tmp_path / f"colour{ending}")
        Image.fromarray(np.dstack([colour, colour[..., 0]])).save(tmp_path / f"alpha{ending}")
        Image.fromarray(colour[..., 0]).save(tmp_path / f"grey{ending}")
        Image.fromarray(deep).save(tmp_path / f"deep{ending}")
        sitk.WriteImage(sitk.GetImageFromArray(deep_colour, isVector=True), str(tmp_path / f"deep_colour{ending}"))
        Image.fromarray(colour[..., 0] > 99).save(tmp_path / f"bit{ending}")
        expected = {
            "colour": colour.transpose(2, 0, 1),
            "alpha": colour.transpose(2, 0, 1),
            "grey": colour[None, ..., 0],
            "deep": deep[None],
            "deep_colour": deep_colour.transpose(2, 0, 1),
            "bit": (colour[None, ..., 0] > 99).astype(np.uint8),
        }
        for name, array in expected.items():
            scan = read_scan(tmp_path / f"{name}{ending}")
            assert np.array_equal(scan.array, array), (name, ending)
            assert scan.array.dtype == array.dtype, (name, ending)
            assert scan.geometry.unit == "px"
            assert np.array_equal(scan.geometry.affine, np.eye(3))
            shape, _, channels = read_header(tmp_path / f"{name}{ending}")
            assert (channels, *shape) == array.shape, (name, ending)


def test_big_endian_tiff_is_turned_to_native_order(tmp_path):
    values = np.arange(108, dtype=np.uint16).reshape(9, 12) * 600
    image = Image.frombytes("I;16B", (12, 9), values.astype(">u2").tobytes())
    image.save(tmp_path / "big.tif")
    scan = read_scan(tmp_path / "big.tif")
    assert scan.array.dtype.isnative
    assert np.array_equal(scan.array[0], values)


def test_palettes_are_colours_in_images_and_classes_in_masks(tmp_path):
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    image = Image.fromarray(labels, mode=None)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "voc.png")
    assert np.array_equal(read_scan(tmp_path / "voc.png").array[:, 0, 1], [128, 0, 0])
    assert np.array_equal(read_mask(tmp_path / "voc.png").array[0], labels)
    grey = Image.fromarray(labels)
    grey.putpalette([255, 255, 255, 0, 0, 0, 7, 7, 7])
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(read_mask(tmp_path / "grey.png").array[0], labels), "the index counts, also of greys"
    assert np.array_equal(read_scan(tmp_path / "grey.png").array[0], np.array([255, 0, 7])[labels])
    assert oddities(Address.of(tmp_path / "grey.png"), mask=True) == {"palette"}, "dark and bright are exchanged"
    assert not oddities(Address.of(tmp_path / "voc.png"), mask=True)
    assert read_header(tmp_path / "grey.png")[2] == 1


def test_grey_pages_of_one_size_are_a_stack_and_others_refused(tmp_path):
    stack = np.random.default_rng(0).integers(0, 60000, (3, 8, 16)).astype(np.uint16)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    scan = read_scan(tmp_path / "stack.tif")
    assert np.array_equal(scan.array[0], stack)
    assert (read_header(tmp_path / "stack.tif")[0], scan.geometry.unit) == ((3, 8, 16), "px")
    assert mask_ending(Address.of(scan.source)) == map_ending(Address.of(scan.source)) == ".tif"
    write_like((stack > 30000), scan, tmp_path / "mask.tif")
    assert np.array_equal(read_scan(tmp_path / "mask.tif").array[0], stack > 30000)
    other = Image.fromarray(np.zeros((8, 9), np.uint16))
    pages[0].save(tmp_path / "odd.tif", save_all=True, append_images=[other])
    cannot_read(tmp_path / "odd.tif", "image-pages", 2)
    colour = Image.fromarray(np.zeros((8, 9, 3), np.uint8))
    colour.save(tmp_path / "colour.tif", save_all=True, append_images=[colour])
    cannot_read(tmp_path / "colour.tif", "image-pages", 2)


@pytest.mark.parametrize("kind", ["nii", "nii2", "mgz"])
def test_pairs_and_mgh_are_read_and_written_in_their_place(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.int16)
    affine = affine_of(OBLIQUE)
    if kind == "mgz":
        source = tmp_path / "image.mgz"
        nib.save(nib.freesurfer.mghformat.MGHImage(values, affine), source)
    else:
        pair = nib.Nifti1Pair if kind == "nii" else nib.nifti2.Nifti2Pair
        source = tmp_path / "image.hdr"
        nib.save(pair(values, affine), tmp_path / "image.img")
    scan = read_scan(source)
    assert np.array_equal(scan.array[0], values)
    assert np.allclose(scan.geometry.affine, affine, atol=1e-4)
    mask = tmp_path / f"mask{mask_ending(Address.of(source))}"
    write_like((values > 2000), scan, mask)
    back = read_scan(mask)
    assert np.array_equal(back.array[0], values > 2000)
    assert np.array_equal(back.geometry.affine, scan.geometry.affine)
    if kind != "mgz":
        (tmp_path / "image.img").unlink()
        cannot_read(source, "nifti-pair")


def test_a_type_of_voxels_that_mgh_does_not_know(tmp_path):
    source = tmp_path / "image.mgh"
    nib.save(nib.freesurfer.mghformat.MGHImage(np.zeros(SHAPE, np.float32), np.eye(4)), source)
    content = bytearray(source.read_bytes())
    content[20:24] = (99).to_bytes(4, "big")
    source.write_bytes(content)
    cannot_read(source, "scan-damaged", 99)


def test_plain_masks_and_maps_come_back_as_written(tmp_path):
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "photo.jpg")
    like = read_scan(tmp_path / "photo.jpg")
    rng = np.random.default_rng(0)
    arrays = {
        "mask": rng.integers(0, 3, (9, 12)).astype(np.uint8),
        "bits": rng.integers(0, 2, (9, 12)).astype(bool),
        "many": rng.integers(0, 999, (9, 12)),
    }
    for name, array in arrays.items():
        path = tmp_path / f"{name}{mask_ending(Address.of(like.source))}"
        write_like(array, like, path)
        assert np.array_equal(np.asarray(Image.open(path)), array), name
    uncertainty = rng.random((9, 12))
    write_like(uncertainty, like, tmp_path / f"map{map_ending(Address.of(like.source))}")
    assert np.array_equal(read_scan(tmp_path / "map.tif").array[0], uncertainty.astype(np.float32))
    for name in ("mask.jpg", "mask.dcm", "mask.mhd", "mask.hdr", "mask"):
        with refused("mask-format", naming=name):
            write_like(arrays["mask"], like, tmp_path / name)
    with refused("png-limits", naming="map.png"):
        write_like(uncertainty, like, tmp_path / "map.png")
    with refused("mask-range", naming="high.png"):
        write_like(arrays["many"] * 999, like, tmp_path / "high.png")
    with pytest.raises(ValueError, match="shape"):
        write_like(arrays["mask"][:4], like, tmp_path / "short.png")
    assert not (tmp_path / "mask.jpg").exists()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_float_maps_of_volumes_come_back_as_written(tmp_path, ending):
    save_nifti(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.int16), affine_of(OBLIQUE))
    like = read_scan(tmp_path / "image.nii.gz")
    uncertainty = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    write_like(uncertainty, like, tmp_path / f"map{ending}")
    back = read_scan(tmp_path / f"map{ending}")
    assert back.array.dtype == np.float32
    assert np.array_equal(back.array[0], uncertainty)
    assert np.allclose(back.geometry.affine, like.geometry.affine, atol=1e-6)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="midway"), whole_file(path, ".png") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("midway")
    assert [file.name for file in tmp_path.iterdir()] == ["mask.png"]
    assert path.read_bytes() == b"old"
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"mask\.png"), whole_file(tmp_path / "file" / "mask.png", ".png"):
        pass


@pytest.mark.parametrize(
    ("name", "mask", "map_"),
    [
        ("a.b.nii.gz", ".nii.gz", ".nii.gz"),
        ("A.NII", ".nii", ".nii"),
        ("a.seg.nrrd", ".nrrd", ".nrrd"),
        ("a.mhd", ".mha", ".mha"),
        ("a.v2.JPG", ".png", ".tif"),
        ("a.tiff", ".png", ".tif"),
        ("a.hdr", ".nii", ".nii"),
        ("a.MGZ", ".mgz", ".mgz"),
        ("a.h5#label", ".h5", ".h5"),
        ("a_{0000,0001}.nii.gz", ".nii.gz", ".nii.gz"),
    ],
)
def test_what_masks_and_maps_end_with(name, mask, map_):
    address = Address.of(name)
    assert (mask_ending(address), map_ending(address)) == (mask, map_)


@pytest.mark.real
def test_real_fixtures_are_read_or_refused_for_the_right_reason(shared_data, tmp_path):
    fixtures = shared_data / "fixtures"
    psr = read_scan(fixtures / "psr" / "t2.nii.gz")
    assert nib.aff2axcodes(psr.geometry.affine) == ("P", "S", "R")
    oblique = read_scan(fixtures / "bids" / "anat" / "sub-unf01_T2star.nii.gz")
    for scan in (psr, oblique):
        write_like((scan.array[0] > 99).astype(np.uint8), scan, tmp_path / "mask.nii.gz")
        source, mask = nib.load(scan.source), nib.load(tmp_path / "mask.nii.gz")
        assert np.array_equal(mask.affine, source.affine)
        assert np.array_equal(mask.get_fdata() > 0, source.get_fdata() > 99)
        assert (mask.header["sform_code"], mask.header["qform_code"]) == (
            source.header["sform_code"],
            source.header["qform_code"],
        )
    chest = read_scan(fixtures / "ct" / "CTChest4.nrrd")
    assert chest.array.shape == (1, 128, 128, 34)
    image = sitk.ReadImage(str(chest.source))
    for index in ((0, 0, 0), (100, 7, 33)):
        assert chest.array[0][index] == image[index]
        place = chest.geometry.affine @ [*index, 1]
        assert np.allclose(LPS @ place[:3], image.TransformIndexToPhysicalPoint(index))
    assert read_scan(fixtures / "ct" / "Segmentation.seg.nrrd").array.shape == chest.array.shape
    assert read_scan(fixtures / "nifti" / "anatomical.nii").array.dtype == np.int16
    cannot_read(fixtures / "ct" / "SegmentationOverlapping.seg.nrrd", "segments-overlap")
    cannot_read(fixtures / "nifti" / "example4d.nii.gz", "scan-axes", "4D")
    cannot_read(fixtures / "nifti" / "example_nifti2.nii.gz", "scan-axes", "4D")
    cannot_read(fixtures / "nifti" / "test.mgz", "scan-axes", "4D")


def test_a_header_is_read_again_when_its_file_was_written_again(tmp_path):
    file = tmp_path / "a.nii.gz"
    for edge in (2.0, 3.0):
        nib.save(nib.Nifti1Image(np.full((4, 5, 6), edge, np.float32), np.diag([edge, 1.0, 1.0, 1.0])), file)
        scan = read_scan(file)
        assert scan.geometry.spacing == read_header(file)[1].spacing == (edge, 1.0, 1.0)
        assert (scan.array == edge).all()


def test_what_a_caller_changes_is_not_in_the_next_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.diag([1.0, 2.0, 3.0, 1.0])).to_filename(path)
    first = read_scan(path)
    first.header["descrip"] = b"mine"
    first.geometry.affine[0, 0] = 9
    again = read_scan(path)
    assert again.header["descrip"].item() == b"" and again.geometry.spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("part", ["", "#channels"])
def test_metaimage_in_other_units_lies_where_its_image_lies(tmp_path, part):
    shape = (*SHAPE, 2) if part else SHAPE
    image = sitk.GetImageFromArray(np.zeros(shape[::-1], np.int16), isVector=False)
    image.SetSpacing([*SPACING.tolist(), 1.0][: len(shape)])
    image.SetOrigin([4.4, -5.5, 6.6, 0.0][: len(shape)])
    sitk.WriteImage(image, str(tmp_path / "cm.mha"))
    content = (tmp_path / "cm.mha").read_bytes()
    (tmp_path / "cm.mha").write_bytes(content.replace(b"ElementType", b"DistanceUnits = cm\nElementType", 1))
    scan = read_scan(tmp_path / f"cm.mha{part}")
    np.testing.assert_allclose(scan.geometry.spacing, 10 * SPACING)
    write_like(one_voxel(), scan, tmp_path / "mask.mha")
    np.testing.assert_allclose(read_scan(tmp_path / "mask.mha").geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize(
    ("kinds", "units", "part"),
    [
        ("list domain domain domain", '"" "cm" "cm" "mm"', ""),
        ("domain domain domain list", '"cm" "cm" "mm" "???"', ""),
        ("domain domain domain domain", '"cm" "cm" "mm" "s"', "#channels"),
    ],
)
def test_units_are_those_of_the_axes_in_space(tmp_path, kinds, units, part):
    last = kinds.startswith("domain")
    sizes, spacings = ("4 5 6 2", "0.5 1 2 1") if last else ("2 4 5 6", "1 0.5 1 2")
    header = f"type: uint8\ndimension: 4\nsizes: {sizes}\nspacings: {spacings}\nkinds: {kinds}\nunits: {units}\n"
    (tmp_path / "u.nrrd").write_bytes(f"NRRD0004\n{header}encoding: raw\n\n".encode() + bytes(240))
    scan = read_scan(tmp_path / f"u.nrrd{part}")
    assert scan.array.shape == (2, 4, 5, 6)
    np.testing.assert_allclose(scan.geometry.spacing, (5, 10, 2))


def test_a_fourth_value_is_alpha_in_photographs_alone(tmp_path):
    for dtype, count in ((np.uint8, 3), (np.uint16, 3), (np.float32, 4), (np.int16, 4)):
        image = sitk.GetImageFromArray(np.ones((5, 6, 4), dtype), isVector=True)
        sitk.WriteImage(image, str(tmp_path / "four.mha"))
        assert len(read_scan(tmp_path / "four.mha").array) == read_header(tmp_path / "four.mha")[2] == count


def test_an_axis_of_values_without_a_kind_is_named(tmp_path):
    header = "type: uint8\ndimension: 4\nsizes: 2 4 5 6\nspace: left-posterior-superior\n"
    header += "space directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n\n"
    (tmp_path / "n.nrrd").write_bytes(f"NRRD0004\n{header}".encode() + bytes(240))
    cannot_read(tmp_path / "n.nrrd", "nrrd-kinds", "list")
