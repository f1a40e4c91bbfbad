"""Synthetic data: ordinary files that read back as drawn, the same on every run, hard enough to need learning."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label as connected_components

from ucseg.demonstration.scans import LOOKS, VOLUME_SPACING, draw_case, draw_dataset

SIZES = [(look, (64, 64)) for look in LOOKS] + [("mri", (32, 40, 24)), ("ultrasound", (32, 40, 24))]


@pytest.mark.parametrize(("look", "size"), SIZES)
def test_every_case_has_one_organ_of_sensible_size(look: str, size: tuple[int, ...]) -> None:
    for number in range(12):
        image, mask = draw_case(look, size, seed=3, number=number)
        assert image.shape == (3 if look == "endoscopy" else 1, *size)
        assert mask.shape == size
        assert 0.01 < (mask > 0).mean() < 0.5
        sizes = np.bincount(connected_components(mask > 0)[0].ravel())[1:]
        assert sizes.max() > 0.95 * sizes.sum()
        assert image.std() > 0.02 * image.max(), "a flat image"


def test_a_case_is_a_function_of_its_number_and_seed() -> None:
    image, mask = draw_case("mri", (48, 48), seed=0, number=2)
    again, mask_again = draw_case("mri", (48, 48), seed=0, number=2)
    assert np.array_equal(image, again)
    assert np.array_equal(mask, mask_again)
    assert not np.array_equal(mask, draw_case("mri", (48, 48), seed=1, number=2)[1])
    assert not np.array_equal(mask, draw_case("mri", (48, 48), seed=0, number=3)[1])


def test_plain_images_are_png_with_a_0_255_mask(tmp_path: Path) -> None:
    draw_dataset(tmp_path, "endoscopy", 2, (56, 64), seed=0)
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["synthetic000.png", "synthetic001.png"]
    drawn, drawn_mask = draw_case("endoscopy", (56, 64), seed=0, number=1)
    image = np.asarray(Image.open(tmp_path / "images" / names[1]))
    mask = np.asarray(Image.open(tmp_path / "masks" / names[1]))
    assert np.array_equal(image, np.moveaxis(drawn, 0, -1))
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask > 0, drawn_mask > 0)


def test_volumes_are_nifti_with_spacing_and_two_classes(tmp_path: Path) -> None:
    draw_dataset(tmp_path, "mri", 1, (32, 40, 24), seed=0)
    image = nibabel.load(tmp_path / "images" / "synthetic000.nii.gz")
    mask = nibabel.load(tmp_path / "masks" / "synthetic000.nii.gz")
    assert image.shape == mask.shape == (32, 40, 24)
    assert image.header.get_zooms() == pytest.approx(VOLUME_SPACING)
    assert np.array_equal(image.affine, mask.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1, 2}


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_brightness_alone_does_not_solve_it(look: str) -> None:
    """The best single threshold of a case, chosen with its own mask, must stay far from right on average."""
    scores = []
    for number in range(8):
        image, mask = draw_case(look, (64, 64), seed=0, number=number)
        grey, truth = image.astype(float).mean(axis=0), mask > 0
        best = 0.0
        for cut in np.quantile(grey, np.linspace(0.05, 0.95, 19)):
            for guess in (grey > cut, grey < cut):
                best = max(best, 2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
        scores.append(best)
    assert np.mean(scores) < 0.85, scores


def test_unknown_looks_and_colour_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="mri, ultrasound, endoscopy"):
        draw_case("xray", (32, 32), 0, 0)
    with pytest.raises(ValueError, match="2D only"):
        draw_case("endoscopy", (32, 32, 32), 0, 0)
