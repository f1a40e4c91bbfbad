"""Geometry moves image and label alike and where it says; looks change what they say, under every normalisation."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from ucseg.batches.augment import (
    IntensityParams,
    SpatialParams,
    apply_intensity,
    apply_spatial,
    sample_intensity,
    sample_spatial,
)
from ucseg.config import build
from ucseg.errors import UserError
from ucseg.planning.augmentation import AugmentationConfig

SHAPES = [(40, 48), (24, 20, 28)]
ALL_GEOMETRY = {"flip": 0.5, "rotate90": 1.0, "affine": 1.0, "rotate": 25.0, "scale": 0.2, "distortion": 1.0}
LOOKS = ("dropout", "contrast", "gamma", "inverted_gamma", "low_resolution", "noise", "blur", "channel")
ALL_LOOKS = dict.fromkeys(LOOKS, 1.0)


def smooth_image(shape, channels=1, seed=0):
    noise = np.random.default_rng(seed).standard_normal((channels, *shape))
    image = ndimage.gaussian_filter(noise, (0, *(4.0,) * len(shape)))
    return torch.from_numpy((image / image.std()).astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_settings_without_probabilities_change_nothing(shape):
    image, label = smooth_image(shape, 3), torch.randint(0, 4, shape, dtype=torch.uint8)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        spatial = sample_spatial(rng, AugmentationConfig(), shape)
        moved, moved_label = apply_spatial(spatial, image, label)
        looked = apply_intensity(sample_intensity(rng, AugmentationConfig(), shape, 3), moved)
        assert not spatial.resamples
        assert torch.equal(looked, image) and torch.equal(moved_label, label)


@pytest.mark.parametrize("shape", [*SHAPES, (40, 40), (24, 24, 24)])
@pytest.mark.parametrize("seed", range(4))
def test_label_moves_with_the_image(shape, seed):
    image = smooth_image(shape)
    label = (image[0] > 0).to(torch.uint8) + (image[0] > 1).to(torch.uint8)
    params = sample_spatial(np.random.default_rng(seed), AugmentationConfig(**ALL_GEOMETRY), shape)
    moved, moved_label = apply_spatial(params, image, label)
    assert moved.shape == image.shape and moved_label.shape == label.shape and moved_label.dtype == label.dtype
    expected = ((moved[0] > 0).to(torch.uint8) + (moved[0] > 1).to(torch.uint8)).numpy()
    # a label from the nearest voxel may differ by a voxel where classes meet, and nowhere else
    inside = ndimage.maximum_filter(expected, 3) == ndimage.minimum_filter(expected, 3)
    assert inside.mean() > 0.3
    assert (moved_label.numpy() == expected)[inside].mean() > 0.999
    assert (moved_label != label).float().mean() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_and_turns_only_move_voxels(shape):
    shape = (*shape[:-1], shape[0])
    image = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    settings = AugmentationConfig(flip=0.5, rotate90=1.0)
    for seed in range(10):
        params = sample_spatial(np.random.default_rng(seed), settings, shape)
        moved, label = apply_spatial(params, image, image[0].to(torch.int64))
        assert not params.resamples and params.turn is not None
        assert torch.equal(moved.flatten().sort().values, image.flatten())
        assert torch.equal(moved[0].to(torch.int64), label)
    flipped, _ = apply_spatial(SpatialParams(flips=(1,)), image)
    assert torch.equal(flipped, image.flip(2))


@pytest.mark.parametrize(("shape", "spacing"), [((12, 14), (1.0, 0.4)), ((8, 10, 12), (0.5, 1.0, 3.0))])
@pytest.mark.parametrize("distorted", [False, True])
def test_resampling_equals_a_literal_lookup(shape, spacing, distorted):
    """Against scipy at positions worked out voxel by voxel, the cubic B-spline from its basis functions."""
    settings = AugmentationConfig(affine=1.0, rotate=40, scale=0.3, shift=0.2, distortion=float(distorted))
    params = sample_spatial(np.random.default_rng(3), settings, shape, spacing)
    image = torch.rand(2, *shape)
    centre = (np.array(shape) - 1) / 2
    basis = [
        lambda t: (1 - t) ** 3 / 6,
        lambda t: (3 * t**3 - 6 * t**2 + 4) / 6,
        lambda t: (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        lambda t: t**3 / 6,
    ]
    where = np.zeros((len(shape), *shape))
    for voxel in np.ndindex(*shape):
        where[(slice(None), *voxel)] = params.matrix @ (np.array(voxel) - centre) + centre + params.shift
        if distorted:
            place = [(v + 0.5) / size * settings.distortion_cells for v, size in zip(voxel, shape, strict=True)]
            for offsets in product(range(4), repeat=len(shape)):
                weight = np.prod([basis[k](p - int(p)) for k, p in zip(offsets, place, strict=True)])
                node = tuple(int(p) + k for k, p in zip(offsets, place, strict=True))
                where[(slice(None), *voxel)] += weight * params.displacement[(slice(None), *node)]
    expected = np.stack([ndimage.map_coordinates(c, where, order=1, mode="reflect") for c in image.double().numpy()])
    moved, _ = apply_spatial(params, image)
    np.testing.assert_allclose(moved.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.0), (1.0, 0.7, 2.0)])
def test_rotation_is_rigid_in_the_units_of_spacing(spacing):
    settings = AugmentationConfig(affine=1.0, rotate=60, scale=0.0)
    params = sample_spatial(np.random.default_rng(0), settings, (16,) * len(spacing), spacing)
    world = np.diag(spacing) @ params.matrix @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(world @ world.T, np.eye(len(spacing)), atol=1e-12)
    assert not np.allclose(params.matrix, np.eye(len(spacing)), atol=0.05)


def test_thick_slices_are_rotated_within_their_plane_alone():
    settings = AugmentationConfig(affine=1.0, rotate=60, scale=0.0)
    matrix = sample_spatial(np.random.default_rng(0), settings, (16, 16, 8), (1.0, 1.0, 5.0)).matrix
    assert np.array_equal(matrix[2], [0, 0, 1]) and np.array_equal(matrix[:, 2], [0, 0, 1])
    assert not np.allclose(matrix, np.eye(3), atol=0.05)


def test_the_strongest_distortion_does_not_fold():
    ramp = torch.stack(torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij"))
    for seed in range(20):
        signs = np.random.default_rng(seed).choice([-1, 1], (2, 8, 8))
        moved, _ = apply_spatial(SpatialParams(displacement=0.399 * 12 * signs), ramp)  # five cells of 12 voxels
        inner = moved.numpy()[:, 8:-8, 8:-8]  # nearer the border the mirror image is seen
        (a, b), (c, d) = np.gradient(inner[0]), np.gradient(inner[1])
        assert (a * d - b * c > 0).all()


def test_distortion_stays_below_its_strength():
    settings = AugmentationConfig(distortion=1.0, distortion_cells=4, distortion_strength=0.3)
    drawn = [sample_spatial(np.random.default_rng(seed), settings, (40, 80)).displacement for seed in range(40)]
    largest = np.abs(drawn).max((0, 2, 3)) / [10, 20]
    assert (largest <= 0.3).all() and (largest > 0.25).all()


def test_quarter_turns_need_planes_of_equal_edges_and_spacing():
    settings = AugmentationConfig(rotate90=1.0)

    def planes(patch, spacing):
        turns = [sample_spatial(np.random.default_rng(seed), settings, patch, spacing).turn for seed in range(40)]
        return {turn and turn[:2] for turn in turns}

    assert planes((16, 16, 16), None) == {(0, 1), (0, 2), (1, 2)}
    assert planes((16, 24, 16), None) == {(0, 2)}
    assert planes((16, 16, 16), (1.0, 1.0, 3.0)) == {(0, 1)}
    assert planes((16, 24), None) == {None}


def test_flip_axes_and_flip_frequency():
    drawn = [
        sample_spatial(np.random.default_rng(i), AugmentationConfig(flip=0.5), (8, 8, 8)).flips for i in range(400)
    ]
    for axis in range(3):
        assert 150 < sum(axis in flips for flips in drawn) < 250
    kept = AugmentationConfig(flip=1.0, flip_axes=(1, 2))
    assert sample_spatial(np.random.default_rng(0), kept, (8, 8, 8)).flips == (1, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_draw_repeats(shape):
    settings = AugmentationConfig(**ALL_GEOMETRY, **ALL_LOOKS)
    image = smooth_image(shape, 2)

    def augmented(seed):
        rng = np.random.default_rng(seed)
        moved, _ = apply_spatial(sample_spatial(rng, settings, shape), image)
        return apply_intensity(sample_intensity(rng, settings, shape, 2), moved)

    assert torch.equal(augmented(5), augmented(5))
    assert not torch.equal(augmented(5), augmented(6))


def test_threads_change_no_bit():
    shape = (64, 64, 32)  # beyond the size from which torch divides work among threads
    settings = AugmentationConfig(**ALL_GEOMETRY, **ALL_LOOKS)
    image, results = smooth_image(shape), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rng = np.random.default_rng(1)
            moved, _ = apply_spatial(sample_spatial(rng, settings, shape), image)
            results.append(apply_intensity(sample_intensity(rng, settings, shape, 1), moved))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("look", [*ALL_LOOKS, "all"])
def test_looks_mean_the_same_under_every_normalisation(shape, look):
    settings = AugmentationConfig(**(ALL_LOOKS if look == "all" else {look: 1.0}))
    params = sample_intensity(np.random.default_rng(2), settings, shape, 3)
    image = smooth_image(shape, 3)
    changed = apply_intensity(params, image)
    assert not torch.allclose(changed, image, atol=1e-3)
    torch.testing.assert_close(apply_intensity(params, 50 * image + 20), 50 * changed + 20, atol=2e-3, rtol=1e-4)


def test_looks_leave_the_given_image_alone():
    image = smooth_image((20, 20), 3)
    before = image.clone()
    apply_intensity(IntensityParams(1.0, 1.2, 0.3, 0.8, (0.9, 1.0, 1.1), 0.1, 4, ((slice(2, 5), slice(3, 9)),)), image)
    assert torch.equal(image, before)


def test_each_look_does_what_its_setting_says():
    image = smooth_image((40, 48), 2)
    flat = image.flatten(1)

    out = apply_intensity(IntensityParams(gain=1.3, offset=0.5), image).flatten(1)
    torch.testing.assert_close(out.std(1, correction=0), 1.3 * flat.std(1, correction=0))
    torch.testing.assert_close(out.mean(1), flat.mean(1) + 0.5 * flat.std(1, correction=0), atol=1e-5, rtol=1e-5)

    out = apply_intensity(IntensityParams(gamma=2.0), image).flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    torch.testing.assert_close(out, ((flat - low) / (high - low)) ** 2 * (high - low) + low)

    out = apply_intensity(IntensityParams(inverted_gamma=2.0), image).flatten(1)
    torch.testing.assert_close(out, high - ((high - flat) / (high - low)) ** 2 * (high - low))

    blocks = torch.arange(12.0).reshape(1, 3, 4).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    out = apply_intensity(IntensityParams(zoom=0.25), blocks)
    torch.testing.assert_close(
        out[0, 6, 6], (blocks[0, 6, 6] * 49 + blocks[0, 6, 10] * 7 + blocks[0, 10, 6] * 7 + blocks[0, 10, 10]) / 64
    )

    out = apply_intensity(IntensityParams(channel_gains=(0.5, 1.0)), image).flatten(1)
    torch.testing.assert_close(out[0] - low[0], 0.5 * (flat[0] - low[0]))
    torch.testing.assert_close(out[1], flat[1])

    residue = apply_intensity(IntensityParams(noise_std=0.2, noise_seed=1), image).flatten(1) - flat
    torch.testing.assert_close(residue.std(1), 0.2 * flat.std(1), atol=0, rtol=0.1)

    impulse = torch.zeros(1, 31, 31)
    impulse[0, 15, 15] = 1
    out = apply_intensity(IntensityParams(blur_sigma=2.0), impulse)
    squared = ((torch.arange(31) - 15.0) ** 2).float()
    assert out.sum().item() == pytest.approx(1, abs=1e-4)
    assert (out[0].sum(1) * squared).sum().item() == pytest.approx(4, rel=0.06)  # the variance, cut at 3 sigma

    out = apply_intensity(IntensityParams(boxes=((slice(3, 6), slice(10, 20)),)), image)
    inside = torch.zeros(40, 48, dtype=torch.bool)
    inside[3:6, 10:20] = True
    assert torch.equal(out[:, inside], image.flatten(1).amin(1, keepdim=True).expand(2, 30))
    assert torch.equal(out[:, ~inside], image[:, ~inside])


def test_noise_is_even_in_its_variance():
    settings = AugmentationConfig(noise=1.0, noise_std=(0.0, 0.3))
    drawn = [sample_intensity(np.random.default_rng(seed), settings, (8, 8), 1).noise_std for seed in range(400)]
    assert np.mean(np.square(drawn)) == pytest.approx(0.045, rel=0.1)
    assert max(drawn) <= 0.3


def test_dropout_draws_boxes_of_the_set_number_and_size():
    settings = AugmentationConfig(dropout=1.0, dropout_boxes=(2, 4), dropout_edge=(0.1, 0.2))
    counts = set()
    for seed in range(60):
        boxes = sample_intensity(np.random.default_rng(seed), settings, (40, 60), 1).boxes
        counts.add(len(boxes))
        for box in boxes:
            for part, size in zip(box, (40, 60), strict=True):
                assert 0 <= part.start < part.stop <= size
                assert 0.1 * size <= part.stop - part.start <= 0.2 * size
    assert counts == {2, 3, 4}


def test_the_published_list_2d():
    settings = AugmentationConfig.published(2, "rgb")
    assert (settings.flip, settings.affine, settings.distortion, settings.dropout) == (0.5, 0.5, 0.25, 0.5)
    assert (settings.shift, settings.scale, settings.rotate) == (0.0625, 0.05, 10)
    assert (settings.dropout_boxes, settings.dropout_edge) == ((5, 8), (0.05, 0.05))
    assert settings.foreground == settings.contrast == settings.noise == settings.blur == settings.gamma == 0
    assert settings.inverted_gamma == settings.low_resolution == 0


def test_the_published_list_3d_never_interpolates():
    settings = AugmentationConfig.published(3, "mri")
    drawn = [sample_spatial(np.random.default_rng(seed), settings, (16, 16, 16)) for seed in range(50)]
    assert not any(params.resamples for params in drawn)
    assert any(params.turn for params in drawn) and any(params.flips for params in drawn)
    assert settings.foreground == pytest.approx(1 / 3)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_default_turns_scales_and_changes_looks_in_both_ranks(dims):
    settings = AugmentationConfig.default(dims, "us")
    assert (settings.affine, settings.rotate, settings.scale) == (0.7, 30, 0.25)
    looks = (settings.contrast, settings.gamma, settings.noise, settings.blur)
    assert looks == (0.5, 0.3, 0.15, 0.2)
    assert settings.foreground == pytest.approx(1 / 3)
    strong = settings.strong()
    assert all(getattr(strong, look) >= getattr(settings, look) for look in LOOKS if look != "dropout")


def test_ct_values_are_calibrated_so_options_are_mild():
    ct, mri = AugmentationConfig.default(3, "ct"), AugmentationConfig.default(3, "mri")
    assert ct.gain < mri.gain and ct.offset < mri.offset and ct.gamma_range[1] < mri.gamma_range[1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"flips": 0.5}, "did you mean 'flip'"),
        ({"flip": 1.5}, "at most 1"),
        ({"gamma_range": (1.5, 0.7)}, "gamma_range"),
        ({"gamma_range": (0.0, 0.7)}, "above 0"),
        ({"dropout_edge": (0.1, 1.2)}, "at most 1"),
        ({"low_resolution_zoom": (0.5, 1.2)}, "at most 1"),
        ({"low_resolution_zoom": (0.0, 1.0)}, "above 0"),
        ({"distortion_strength": 0.5}, "below 0.4"),
    ],
)
def test_settings_that_cannot_be_are_named(setting, message):
    with pytest.raises(UserError, match=message):
        build(AugmentationConfig, setting, "plan.yaml")
