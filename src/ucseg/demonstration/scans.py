"""Synthetic scans: drawn, not acquired. They show that the software runs and learns, and say nothing of any patient.

A scan holds one organ-like structure (a deformed ellipsoid), neighbours of other shape and nearly its brightness, and
the artefacts of a modality: MRI (bias field, Rician noise), ultrasound (speckle, shadow, attenuation) or colour
endoscopy (dome shading, highlights, vignette). Contrast, texture and artefacts vary from case to case, so that a few
labelled cases do not show all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, label

from ucseg.randomness import numpy_generator
from ucseg.types import Array

NOTICE = "synthetic data, drawn by ucseg: it says nothing about clinical performance"
VOLUME_SPACING = (1.0, 1.0, 1.5)  # mm; anisotropic, as volumes are


@dataclass(frozen=True)
class Anatomy:
    """What is in a scan before any scanner sees it: levels of the organ, of a part inside it, and of what is around.

    Each is S: 0 on the surface, positive inside, 1 at the middle.
    """

    organ: Array
    core: Array
    neighbours: list[Array]


def draw_dataset(folder: Path, look: str, cases: int, size: tuple[int, ...], seed: int) -> None:
    """Draw a synthetic data set as users have them: folder/images and folder/masks, one file of equal name a case.

    Two sizes give plain images (PNG; masks 0/255), three give volumes (.nii.gz, 1 x 1 x 1.5 mm; masks 0/1/2: organ and
    core). A case depends on (look, size, seed, its number) only: more cases leave the first ones as they were.

    Raises:
        ValueError: an unknown look, or colour endoscopy in 3D.
    """
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for number in range(cases):
        image, mask = draw_case(look, size, seed, number)
        name = f"synthetic{number:03d}"
        if len(size) == 2:
            Image.fromarray(np.moveaxis(image, 0, -1).squeeze()).save(images / f"{name}.png")
            Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(masks / f"{name}.png")
        else:
            affine = np.diag([*VOLUME_SPACING, 1.0])
            for array, path in ((image[0], images), (mask, masks)):
                volume: Any = nibabel.nifti1.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
                volume.header.set_xyzt_units("mm")
                volume.header["descrip"] = b"synthetic, drawn by ucseg"
                nibabel.save(volume, path / f"{name}.nii.gz")


def draw_case(look: str, size: tuple[int, ...], seed: int, number: int) -> tuple[Array, Array]:
    """One case.

    Returns:
        image C x S (uint8 for plain images, int16 for volumes; C = 3 for endoscopy, 1 otherwise), and mask S uint8:
        0 background, 1 organ, 2 its core (volumes only).

    Raises:
        ValueError: an unknown look, or colour endoscopy in 3D.
    """
    if look not in LOOKS:
        raise ValueError(f"unknown look '{look}'; known looks: {', '.join(LOOKS)}")
    if look == "endoscopy" and len(size) != 2:
        raise ValueError("endoscopy is drawn in 2D only")
    rng = numpy_generator(seed, f"synthetic {look} {size}", number)
    anatomy = _draw_anatomy(size, rng)
    image = LOOKS[look](anatomy, rng)
    mask = (anatomy.organ > 0).astype(np.uint8)
    if len(size) == 3:
        mask[(anatomy.core > 0) & (mask == 1)] = 2
        return (np.clip(image, 0, 1) * rng.uniform(300, 1200)).astype(np.int16), mask
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), mask


# Shapes


def _draw_anatomy(size: tuple[int, ...], rng: np.random.Generator) -> Anatomy:
    dims = len(size)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))
    centre = rng.uniform(-0.3, 0.3, dims)
    axes = rng.uniform(0.3, 0.52, dims)
    organ = _one_piece(_blob(grid, centre, axes, roughness=0.22, rng=rng))
    core = _blob(grid, centre + rng.uniform(-0.08, 0.08, dims), axes * rng.uniform(0.4, 0.55), roughness=0.2, rng=rng)
    neighbours = []
    for _ in range(rng.integers(3, 6)):
        direction = rng.normal(size=dims)
        direction /= np.linalg.norm(direction)
        # Thin or small: what sets a neighbour apart is its shape, hardly its brightness.
        radii = rng.uniform(0.1, 0.2) * np.exp(rng.normal(0, 0.45, dims))
        away = centre + direction * (axes.mean() * rng.uniform(1.1, 1.7) + radii.mean())
        neighbours.append(np.where(organ > -0.1, -1.0, _blob(grid, away, radii, roughness=0.15, rng=rng)))
    return Anatomy(organ, core, neighbours)


def _blob(grid: Array, centre: Array, radii: Array, roughness: float, rng: np.random.Generator) -> Array:
    """Level of a deformed ellipsoid with random axes directions: positive inside, 1 at its centre, falling outwards."""
    rotation, _ = np.linalg.qr(rng.normal(size=(len(radii), len(radii))))
    offset = grid - centre.reshape(-1, *[1] * (grid.ndim - 1))
    along = np.tensordot(rotation, offset, axes=1) / radii.reshape(-1, *[1] * (grid.ndim - 1))
    distance = np.sqrt((along**2).sum(axis=0))
    deformation = np.exp(roughness * _smooth_noise(grid.shape[1:], 0.12, rng))
    return np.asarray(np.clip(1 - distance * deformation, -4, 1))


def _one_piece(level: Array) -> Array:
    """The level without the islands that a strong deformation leaves beside the largest piece."""
    pieces, _ = label(level > 0)
    largest = np.bincount(pieces[pieces > 0]).argmax()
    return np.where((pieces > 0) & (pieces != largest), -0.2, level)


def _smooth_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Array:
    """Noise of unit deviation and zero mean, smooth over `scale` of the shortest side. Any rank."""
    noise = gaussian_filter(rng.normal(size=shape), scale * min(shape), mode="reflect")
    return np.asarray((noise - noise.mean()) / noise.std())


def _inside(level: Array, width: float = 0.05) -> Array:
    """A level as a share in [0, 1] with a soft edge, as partial volume gives."""
    return np.asarray(1 / (1 + np.exp(-np.clip(level / width, -30, 30))))


def _blend(canvas: Array, level: Array, value: Array | float, width: float = 0.05) -> Array:
    share = _inside(level, width)
    return np.asarray(canvas * (1 - share) + value * share)


# Looks


def _mri(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """Tissues of random brightness, bias field, Rician noise (magnitude of a complex signal, noise in both parts)."""
    shape = anatomy.organ.shape
    organ = rng.uniform(0.4, 0.65)
    tissue = 0.28 + 0.035 * _smooth_noise(shape, 0.08, rng)
    for level in anatomy.neighbours:
        tissue = _blend(tissue, level, organ * rng.uniform(0.85, 1.2))
    tissue = _blend(tissue, anatomy.organ, organ + 0.03 * _smooth_noise(shape, 0.05, rng))
    if len(shape) == 3:
        tissue = _blend(tissue, anatomy.core, organ * rng.choice([0.72, 1.3]))
    signal = tissue * np.exp(rng.uniform(0.15, 0.4) * _smooth_noise(shape, 0.35, rng))
    noise = rng.uniform(0.02, 0.07)
    return np.hypot(signal + noise * rng.normal(size=shape), noise * rng.normal(size=shape))[None]


def _ultrasound(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """A dark structure with a bright wall, dark neighbours; speckle, attenuation with depth (first axis), a shadow."""
    shape = anatomy.organ.shape
    organ = rng.uniform(0.16, 0.3)
    echo = 0.5 * np.exp(0.22 * _smooth_noise(shape, 0.07, rng))
    for level in anatomy.neighbours:
        echo = _blend(echo, level, organ * rng.uniform(0.6, 1.3))
    echo = _blend(echo, anatomy.organ, organ * np.exp(0.25 * _smooth_noise(shape, 0.06, rng)))
    echo += rng.uniform(0.0, 0.35) * np.exp(-((anatomy.organ / 0.06) ** 2))
    # Fully developed speckle: the amplitude of many scatterers in one cell, wider across the beam than along it.
    cell = [rng.uniform(0.5, 0.8), *[rng.uniform(0.9, 1.5)] * (len(shape) - 1)]
    real, imaginary = (gaussian_filter(rng.normal(size=shape), cell) for _ in range(2))
    speckle = np.hypot(real, imaginary)
    depth, across = (
        np.linspace(0, 1, n).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for axis, n in enumerate(shape[:2])
    )
    shadow = np.exp(-(((across - rng.uniform(0, 1)) / rng.uniform(0.04, 0.1)) ** 2))
    starts = 1 / (1 + np.exp(-(depth - rng.uniform(0.1, 0.7)) / 0.04))
    amplitude = echo * speckle / speckle.mean() * np.exp(-rng.uniform(0.2, 1.0) * depth)
    amplitude = amplitude * (1 - rng.uniform(0.3, 0.75) * shadow * starts)
    span = rng.uniform(3.4, 4.2)  # log compression, in powers of e
    return np.asarray((1 + np.log(np.maximum(amplitude, 1e-6)) / span)[None] * rng.uniform(0.8, 1.0))


def _endoscopy(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """A raised lesion on folded mucosa of nearly its colour; light from one side, highlights, vignette. 3 x H x W."""
    shape = anatomy.organ.shape
    mucosa = np.array([rng.uniform(0.62, 0.8), rng.uniform(0.3, 0.42), rng.uniform(0.24, 0.36)])
    lesion = mucosa * (1 + rng.normal(0, 0.05, 3) + np.array([0.1, -0.12, -0.08]) * rng.uniform(-0.5, 1.3))
    colour = mucosa[:, None, None] * (1 + 0.06 * _smooth_noise(shape, 0.06, rng))
    share = _inside(anatomy.organ, 0.08)
    colour = colour * (1 - share) + lesion[:, None, None] * (1 + 0.05 * _smooth_noise(shape, 0.03, rng)) * share
    # Relief: the lesion is a dome, neighbours are lower bumps, the wall has folds. Shading: its slope along the light.
    height = 0.55 * np.sqrt(np.maximum(anatomy.organ, 0))
    for level in anatomy.neighbours:
        height = height + rng.uniform(0.15, 0.35) * np.sqrt(np.maximum(level, 0))
    folds = _smooth_noise(shape, 0.15, rng)
    height = gaussian_filter(height + rng.uniform(0.03, 0.08) * np.abs(folds), 0.012 * min(shape))
    slopes = np.stack([np.gradient(height, axis=0), np.gradient(height, axis=1)]) * min(shape) / 8
    normal = np.stack([-slopes[0], -slopes[1], np.ones(shape)]) / np.sqrt(1 + (slopes**2).sum(axis=0))
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([0.6 * np.sin(angle), 0.6 * np.cos(angle), 0.8])
    lit = np.clip(np.tensordot(light, normal, axes=1), 0, 1)
    wet = gaussian_filter(rng.normal(size=shape), 0.8)
    highlight = gaussian_filter(((lit > 0.9) & (wet > 2.1 * wet.std())).astype(float), 0.7)
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.hypot(rows - rng.uniform(-0.2, 0.2), columns - rng.uniform(-0.2, 0.2))
    vignette = 1 / (1 + np.exp((radius - rng.uniform(1.05, 1.3)) / 0.12))
    image = colour * (0.35 + 0.75 * lit) * vignette * rng.uniform(0.85, 1.15) + 1.2 * highlight * vignette
    return np.asarray(image + 0.015 * rng.normal(size=(3, *shape)))


LOOKS: dict[str, Callable[[Anatomy, np.random.Generator], Array]] = {
    "mri": _mri,
    "ultrasound": _ultrasound,
    "endoscopy": _endoscopy,
}
