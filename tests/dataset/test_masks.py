"""Every way a mask is stored ends as class indices on its image's grid, or in a sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from refusals import refused
from ucseg.config import build
from ucseg.dataset.fitting import stretch
from ucseg.dataset.masks import mask_values, read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header
from ucseg.types import NOT_ANNOTATED

SHAPE = (60, 80)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def settings(classes=2, **values):
    names = {0: "background"} | {index: f"organ {index}" for index in range(1, classes)}
    return DatasetConfig(name="t", root=".", dims=2, modality="rgb", channels=1, classes=names, **values)


def ellipse(row=30.0, column=40.0, height=20.0, width=30.0):
    return ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2


def ring(inner=0.85, **place):
    return (ellipse(**place) <= 1) & (ellipse(**place) >= inner)


def save(path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def save_volume(path, values):
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def no_label(path, config, kind, *values, shape=SHAPE):
    with refused(kind, naming=[path.name, *values]):
        read_label(path, shape, config)


def test_class_numbers_are_taken_as_they_are(tmp_path):
    values = (ROWS // 20).astype(np.uint8)
    label = read_label(save(tmp_path / "mask.png", values), SHAPE, settings(classes=3))
    assert label.dtype == np.uint8
    assert np.array_equal(label, values)


def test_values_that_are_no_classes_are_listed(tmp_path):
    no_label(
        save(tmp_path / "mask.png", 255 * (ellipse() <= 1)),
        settings(),
        "mask-not-classes",
        "(255)",
        "mask_threshold",
        "127.5",
    )
    no_label(save(tmp_path / "four.png", COLUMNS % 5), settings(classes=3), "mask-not-classes", "(3, 4)", "classes")
    volume = np.zeros((3, 4, 5), np.int16)
    volume[0, 0, 0] = -1
    no_label(
        save_volume(tmp_path / "m.nii.gz", volume), settings(classes=3), "mask-not-classes", "(-1)", shape=volume.shape
    )


def test_lossy_masks_are_cut_at_the_threshold(tmp_path):
    truth = ellipse() <= 1
    Image.fromarray((255 * truth).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=60)
    assert len(np.unique(mask_values(tmp_path / "mask.jpg"))) > 2
    assert np.array_equal(read_label(tmp_path / "mask.jpg", SHAPE, settings(mask_threshold=127)), truth)
    edge = save(tmp_path / "edge.png", np.where(COLUMNS < 40, 127, 128))
    assert np.array_equal(read_label(edge, SHAPE, settings(mask_threshold=127)), COLUMNS >= 40)


def test_whole_numbers_stored_as_floats_are_classes_and_fractions_are_not(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    config = settings(classes=3)
    path = save_volume(tmp_path / "float.nii.gz", values.astype(np.float32))
    assert np.array_equal(read_label(path, values.shape, config), values)
    scaled = nib.Nifti1Image(values.astype(np.int16), np.eye(4))
    scaled.header.set_slope_inter(0.1, 0)
    nib.save(nib.Nifti1Image(values.astype(np.float64), np.eye(4), scaled.header), tmp_path / "scaled.nii.gz")
    assert np.array_equal(read_label(tmp_path / "scaled.nii.gz", values.shape, config), values)
    no_label(save_volume(tmp_path / "soft.nii.gz", values * 0.5), config, "mask-fractions", "0.5", shape=values.shape)
    broken = values.astype(np.float32)
    broken[0, 0, 0] = np.nan
    for choice in (config, settings(mask_threshold=0.5)):
        no_label(save_volume(tmp_path / "nan.nii.gz", broken), choice, "mask-not-finite", shape=values.shape)


def test_masks_saved_with_colours(tmp_path):
    labels = (ROWS // 20).astype(np.uint8)
    palette = Image.fromarray(labels)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_label(tmp_path / "palette.png", SHAPE, settings(classes=3)), labels)
    grey = save(tmp_path / "grey.png", np.repeat(labels[..., None], 3, axis=2))
    assert np.array_equal(read_label(grey, SHAPE, settings(classes=3)), labels)
    picture = save(tmp_path / "picture.png", np.stack([labels, labels * 9, labels], axis=2))
    no_label(picture, settings(classes=3), "mask-colours")


@pytest.mark.parametrize(
    ("drawn", "whole"),
    [
        (ring(), ellipse() <= 1),
        (ring(row=20, column=15, height=11, width=11, inner=0.7), ellipse(row=20, column=15, height=11, width=11) <= 1),
        (ellipse() <= 1, ellipse() <= 1),  # filled already
        (
            ring(column=20, width=15) | ring(column=60, width=15),
            (ellipse(column=20, width=15) <= 1) | (ellipse(column=60, width=15) <= 1),
        ),
        (np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)),
    ],
    ids=["closed", "small", "filled", "two", "none"],
)
def test_outlines_are_filled(tmp_path, drawn, whole):
    config = settings(mask_threshold=127, fill_outlines=True)
    assert np.array_equal(read_label(save(tmp_path / "m.png", 255 * drawn), SHAPE, config), whole)


def circle(outer, inner, shape=(270, 400)):
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2)
    return (distance <= outer) & (distance >= inner)


@pytest.mark.parametrize(
    "drawn",
    [
        circle(60, 25),
        circle(120, 104),
        circle(8, 3),
        circle(60, 25) | circle(100, 97),
        circle(60, 0) & ~((np.indices((270, 400)) % 12 == 0).all(axis=0)),
        circle(120, 100) & (np.indices((270, 400))[0] > 80),
        np.where(circle(60, 25), 1, np.where(circle(63, 60), 2, 0)),
    ],
    ids=["disc with a hole", "thick ring", "small", "beside a line", "many holes", "open", "with its wall"],
)
def test_a_region_among_outlines_keeps_its_holes(tmp_path, drawn):
    label = read_label(
        save(tmp_path / "m.png", drawn), drawn.shape, settings(classes=3, not_annotated=[255], fill_outlines=True)
    )
    assert np.array_equal(label, drawn)


@pytest.mark.parametrize(("outer", "inner"), [(120, 111), (120, 117), (40, 38)])
def test_lines_up_to_ten_pixels_wide_are_filled_a_blot_on_them_too(tmp_path, outer, inner):
    drawn = circle(outer, inner)
    drawn[130:140, 200 + inner : 209 + inner] = True
    label = read_label(save(tmp_path / "m.png", drawn), drawn.shape, settings(fill_outlines=True))
    assert np.array_equal(label, drawn | circle(outer, 0))


def test_a_hollowed_shape_is_filled_though_its_hull_is_far_larger(tmp_path):
    crescent = (ellipse(height=28, width=38) <= 1) & (ellipse(row=22, height=26, width=34) > 1)
    inner = np.zeros(SHAPE, bool)
    inner[1:-1, 1:-1] = crescent[1:-1, 1:-1] & crescent[:-2, 1:-1] & crescent[2:, 1:-1] & crescent[1:-1, :-2]
    inner[1:-1, 1:-1] &= crescent[1:-1, 2:]
    outline = save(tmp_path / "m.png", 255 * (crescent & ~inner))
    label = read_label(outline, SHAPE, settings(mask_threshold=127, fill_outlines=True))
    assert (label != crescent).sum() == 0


@pytest.mark.parametrize(
    "drawn",
    [
        ring() & ~((COLUMNS > 36) & (COLUMNS < 44) & (ROWS < 30)),
        ring() & ~((abs(COLUMNS - 40) < 4) & (ROWS < 30)) | (ring(row=12, column=34, height=4, width=4, inner=0.5)),
        (abs(ROWS - 30) <= 1) & (COLUMNS > 10) & (COLUMNS < 70),
        ring(row=0),  # runs out of the picture
        ring(column=60, width=15) | (ring(column=20, width=15) & (ROWS > 15)),
    ],
    ids=["gap", "gap and a small loop", "straight line", "cut by the border", "one of two"],
)
def test_an_outline_that_does_not_close_is_refused(tmp_path, drawn):
    config = settings(mask_threshold=127, fill_outlines=True)
    no_label(save(tmp_path / "open.png", 255 * drawn), config, "outline-open", "row", "column")


def test_outlines_of_nested_classes_keep_the_inner_one(tmp_path):
    drawn = ring() * 1 + ring(height=8, width=9, inner=0.6) * 2
    label = read_label(save(tmp_path / "m.png", drawn), SHAPE, settings(classes=3, fill_outlines=True))
    assert np.array_equal(label == 2, ellipse(height=8, width=9) <= 1)
    assert np.array_equal(label > 0, ellipse() <= 1)


def test_outlines_of_volumes_are_refused(tmp_path):
    path = save_volume(tmp_path / "m.nii.gz", np.ones((4, 5, 6), np.uint8))
    no_label(path, settings(fill_outlines=True), "outlines-of-volume", shape=(4, 5, 6))


def test_a_larger_mask_is_brought_to_the_image_by_its_nearest_pixels(tmp_path):
    small = (ROWS // 20).astype(np.uint8)
    large = save(tmp_path / "large.png", np.kron(small, np.ones((3, 3))))
    assert np.array_equal(read_label(large, SHAPE, settings(classes=3)), small)
    centres = np.zeros((180, 240))
    centres[1::3, 1::3] = small
    assert np.array_equal(read_label(save(tmp_path / "centres.png", centres), SHAPE, settings(classes=3)), small)
    smaller = save(tmp_path / "smaller.png", small[::2, ::2])
    assert np.array_equal(read_label(smaller, SHAPE, settings(classes=3)), np.kron(small[::2, ::2], np.ones((2, 2))))
    squeezed = read_label(save(tmp_path / "wide.png", np.kron(small, np.ones((2, 2)))), (60, 60), settings(classes=3))
    assert np.array_equal(squeezed, np.repeat(small[:, :1], 60, axis=1))


def test_an_outline_is_filled_before_it_is_made_smaller(tmp_path):
    large = save(tmp_path / "m.png", 255 * ring())
    label = read_label(large, (12, 16), settings(mask_threshold=127, fill_outlines=True))
    assert label[6, 8] == 1
    assert 0.9 < label.mean() / (ellipse() <= 1).mean() < 1.1


@pytest.mark.parametrize("size", [(30, 40), (30, 30)])
@pytest.mark.parametrize("larger", [1, 2])
def test_a_picture_beside_an_image_of_itk_lies_where_viewers_show_it(tmp_path, size, larger):
    """A PNG goes down the rows first, ITK along the columns: an unsymmetric shape shows which."""
    drawn = np.zeros(size, np.uint8)
    drawn[3:8, 10:28] = 1
    sitk.WriteImage(sitk.GetImageFromArray(drawn), str(tmp_path / "itk.mha"))
    picture = save(tmp_path / "picture.png", drawn.repeat(larger, 0).repeat(larger, 1))
    shape, geometry, _ = read_header(tmp_path / "itk.mha")
    assert np.array_equal(read_label(picture, shape, settings(), geometry), drawn.T)
    assert stretch(Address.of(picture), shape, geometry).startswith("" if larger == 1 else f"{2 * size[1]} x ")
    assert bool(stretch(Address.of(picture), shape, geometry)) == (larger > 1)
    if larger == 1:
        shape, geometry, _ = read_header(picture)
        assert np.array_equal(read_label(tmp_path / "itk.mha", shape, settings(), geometry), drawn)


@pytest.mark.parametrize("shape", [(80, 60), (40, 80), (60, 20)])
def test_an_image_of_another_aspect_is_refused(tmp_path, shape):
    no_label(save(tmp_path / "m.png", ROWS // 20), settings(classes=3), "mask-aspect", "80 x 60 px", shape=shape)


def test_a_volume_mask_of_another_shape_is_refused(tmp_path):
    path = save_volume(tmp_path / "m.nii.gz", np.zeros((4, 5, 6), np.uint8))
    no_label(path, settings(), "mask-shape", "(4, 5, 6)", "(8, 10, 12)", shape=(8, 10, 12))


def labels_of(pairs, config):
    """Foreground share of every pair that can be read, and the messages of the others."""
    shares, messages = [], []
    for image, mask in pairs:
        try:
            label = read_label(mask, read_header(image)[0], config)
        except UserError as error:
            messages.append(str(error))
        else:
            shares.append(float((label > 0).mean()))
    return np.array(shares), messages


@pytest.mark.real
def test_real_head_outlines_are_filled_but_for_the_open_one(shared_data):
    masks = sorted((shared_data / "hc18").glob("*_Annotation.png"))
    pairs = [(mask.with_name(mask.name.replace("_Annotation", "")), mask) for mask in masks]
    shares, messages = labels_of(pairs, settings(mask_threshold=127, fill_outlines=True))
    assert len(shares) == 247
    assert shares.min() > 0.04  # an outline alone covers less than 0.01
    assert len(messages) == 1
    assert Path(messages[0].split(":")[0]).name == "186_HC_Annotation.png"


@pytest.mark.real
def test_real_lossy_and_larger_masks_are_read(shared_data):
    config = settings(mask_threshold=127)
    masks = sorted((shared_data / "kvasir").glob("*/masks/*.jpg"))[::10]
    shares, messages = labels_of([(mask.parents[1] / "images" / mask.name, mask) for mask in masks], config)
    assert (len(shares), messages) == (len(masks), [])
    assert shares.min() > 0
    masks = sorted((shared_data / "isic" / "masks").iterdir())[::20]
    images = [shared_data / "isic" / "images" / mask.name.replace("_segmentation.png", ".jpg") for mask in masks]
    shares, messages = labels_of(zip(images, masks, strict=True), config)
    assert (len(shares), messages) == (len(masks), [])
    for image, mask in list(zip(images, masks, strict=True))[:5]:
        full = np.asarray(Image.open(mask)) > 127
        label = read_label(mask, read_header(image)[0], config)
        assert abs(label.mean() - full.mean()) < 0.01


@pytest.mark.real
def test_real_volumes_are_read_whether_stored_as_integers_or_floats(shared_data):
    labels = sorted((shared_data / "hippocampus" / "labels").iterdir())
    pairs = [(shared_data / "hippocampus" / "images" / label.name, label) for label in labels]
    shares, messages = labels_of(pairs, settings(classes=3))
    assert len(shares) == 260
    assert shares.min() > 0.02
    assert sorted(Path(message.split(":")[0]).name[12:15] for message in messages) == ["010", "281"]


def test_values_are_classes_as_dataset_yaml_says(tmp_path):
    truth = (ROWS // 20).astype(np.uint8)
    grey = save(tmp_path / "grey.png", np.array([0, 128, 255])[truth])
    config = settings(classes=3, values={128: 1, 255: 2})
    label = read_label(grey, SHAPE, config)
    assert label.dtype == np.uint8
    assert np.array_equal(label, truth)
    no_label(save(tmp_path / "other.png", np.array([0, 7, 255])[truth]), config, "mask-not-classes", "(7)")
    no_label(save(tmp_path / "same.png", truth), config, "mask-not-classes", "(1, 2)")
    values = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    merged = settings(classes=3, values={-3: 1, 17: 2, 2035: 2})
    for kind in (np.int16, np.float32):
        path = save_volume(tmp_path / "v.nii.gz", np.array([0, -3, 2035])[values].astype(kind))
        assert np.array_equal(read_label(path, values.shape, merged), values)
    no_label(
        save_volume(tmp_path / "v.nii.gz", np.full(values.shape, 2036, np.int16)),
        merged,
        "mask-not-classes",
        "(2036)",
        shape=values.shape,
    )


@pytest.mark.parametrize("value", [2, 255])
def test_what_was_not_annotated_has_an_index_of_its_own(tmp_path, value):
    config = settings(not_annotated=[value])
    whole = save(tmp_path / "whole.png", ellipse() <= 1)
    assert read_label(whole, SHAPE, config).sum() == (ellipse() <= 1).sum()
    part = save(tmp_path / "part.png", np.where(ROWS < 15, value, ellipse() <= 1))
    expected = np.where(ROWS < 15, NOT_ANNOTATED, ellipse() <= 1)
    assert np.array_equal(read_label(part, SHAPE, config), expected)
    assert np.array_equal(read_label(part, SHAPE, settings(not_annotated=[value], mask_threshold=0)), expected)
    large = save(tmp_path / "large.png", np.kron(np.where(ROWS < 15, value, ellipse() <= 1), np.ones((2, 2))))
    assert np.array_equal(read_label(large, SHAPE, config), expected)
    drawn = save(tmp_path / "drawn.png", np.where(ROWS < 3, value, ring()))
    filled = read_label(drawn, SHAPE, settings(not_annotated=[value], fill_outlines=True))
    assert np.array_equal(filled, np.where(ROWS < 3, NOT_ANNOTATED, ellipse() <= 1))
    no_label(save(tmp_path / "none.png", np.full(SHAPE, value)), config, "mask-not-annotated")
    with refused("setting-value", naming="not_annotated"):
        settings_of(settings(classes=3).model_dump() | {"not_annotated": [2]})
    with refused("setting-value", naming=["ignore", "not_annotated"]):
        settings_of(settings().model_dump() | {"classes": {0: "background", 1: "ignore"}})


def settings_of(values):
    return build(DatasetConfig, values, "dataset.yaml")


def test_slices_of_a_volume_that_are_annotated(tmp_path):
    values = np.random.default_rng(0).integers(0, 2, (5, 6, 9), np.uint8)
    path = save_volume(tmp_path / "v.nii.gz", values)
    config = settings().model_copy(update={"dims": 3})
    for text, axis, numbers in (("3,5:7", 2, [3, 5, 6, 7]), ("j 0 2", 1, [0, 2]), ("i 4", 0, [4])):
        slices = Slices.read(text)
        label = read_label(path, values.shape, config, slices=slices)
        expected = np.full(values.shape, NOT_ANNOTATED)
        for number in numbers:
            here = (slice(None),) * axis + (number,)
            expected[here] = values[here]
        assert np.array_equal(label, expected)
        assert Slices.read(str(slices)) == slices
    for text in ("9", "k 3,9", "j 6"):
        with refused("slices-outside", naming=["v.nii.gz", "counted from 0"]):
            read_label(path, values.shape, config, slices=Slices.read(text))
    for text in ("", "3-6", "x 3", "3;6", "1.5", "i"):
        with refused("slices-form", naming=text):
            Slices.read(text)


def test_masks_of_another_coding_are_refused_instead_of_emptied(tmp_path):
    config, truth = settings(mask_threshold=127), ellipse() <= 1
    no_label(save(tmp_path / "small.png", 2 * truth), config, "mask-coding", "2", "127")
    assert not read_label(save(tmp_path / "empty.png", 0 * truth), SHAPE, config).any()
    assert np.array_equal(read_label(save(tmp_path / "small.png", 2 * truth), SHAPE, settings(mask_threshold=0)), truth)
    Image.fromarray(np.full(SHAPE, 6, np.uint8)).save(tmp_path / "noise.jpg")
    assert not read_label(tmp_path / "noise.jpg", SHAPE, config).any(), "an empty mask, as JPEG keeps it"
