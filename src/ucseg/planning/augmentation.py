"""How may training patches be changed? Every setting of the augmentation, with its default and source.

"published" below: the transforms of the UC-Seg authors' code, the 2D list of their paper (arXiv:2508.09014).
`batches/augment.py` applies them; `planning/choosing.py` chooses which axes may be flipped.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ucseg.config import Strict

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class AugmentationConfig(Strict):
    """How training patches are changed. Every probability is 0 here: `default` switches on what the paper uses."""

    # Crop (drawn by the stream)
    # Share of the labelled half that shows foreground for sure: crops centred on a voxel of a random class.
    foreground: Probability = 0.0  # nnU-Net (Isensee 2021): 1/3

    # Geometry, shared by image, label and views
    flip: Probability = 0.0  # for each axis apart; published: 0.5
    # Axes that flips and turns may reverse (two quarter turns reverse two axes); null means every axis. Leave out
    # left-right where classes are sides of the body.
    flip_axes: tuple[int, ...] | None = None
    rotate90: Probability = 0.0  # 90, 180 or 270 degrees in one plane; published 3D: one of four turns, so 0.75
    affine: Probability = 0.0  # shift, scale and rotation together; published: 0.5
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0625  # largest, as a part of the patch edge; published
    scale: Annotated[float, Field(ge=0, lt=0.9)] = 0.05  # factor in 1 +- scale; published
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0  # largest angle in degrees, in each plane; published
    distortion: Probability = 0.0  # smooth elastic or grid distortion; published: 0.25
    distortion_cells: Annotated[int, Field(ge=1)] = 5  # control cells along an edge; published grid distortion: 5 steps
    # Largest displacement of a control point, in cells. Published limit: 0.05 a step, summed over the steps, which
    # comes to about 0.1. Below 0.4 a cubic B-spline never folds the image (Choi & Lee 2000, Graphical Models 62).
    distortion_strength: Annotated[float, Field(ge=0, lt=0.4)] = 0.1

    # Intensity, drawn for each view apart
    dropout: Probability = 0.0  # coarse dropout: boxes of the image set to its minimum; published: 0.5
    dropout_boxes: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (5, 8)  # published
    dropout_edge: Range = (0.05, 0.05)  # edge of a box as a part of the patch edge; published: 1/20
    contrast: Probability = 0.0  # gain about the image's mean, and offset; not published
    gain: Annotated[float, Field(ge=0, lt=1)] = 0.25  # factor in 1 +- gain; nnU-Net: 0.75 to 1.25
    offset: Annotated[float, Field(ge=0)] = 0.2  # largest, in standard deviations of the image
    gamma: Probability = 0.0  # not published; nnU-Net: 0.3
    gamma_range: Range = (0.7, 1.5)  # nnU-Net
    inverted_gamma: Probability = 0.0  # gamma of the negative image; nnU-Net: 0.1
    low_resolution: Probability = 0.0  # nearest voxels of a coarser grid, and back by interpolation; nnU-Net: 0.25
    low_resolution_zoom: Range = (0.5, 1.0)  # edge of the coarser grid as a part of the patch edge; nnU-Net
    noise: Probability = 0.0  # Gaussian; not published; nnU-Net: 0.1
    noise_std: Range = (0.0, 0.1)  # in standard deviations of the image, even in its square; nnU-Net: 0 to 0.32
    blur: Probability = 0.0  # Gaussian; not published; nnU-Net: 0.2
    blur_sigma: Range = (0.5, 1.0)  # in voxels; nnU-Net
    channel: Probability = 0.0  # colour jitter: a gain for each channel apart; not published
    channel_gain: Annotated[float, Field(ge=0, lt=1)] = 0.1  # factor in 1 +- channel_gain

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name in ("dropout_boxes", "dropout_edge", "gamma_range", "noise_std", "blur_sigma", "low_resolution_zoom"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower end {low} is above the upper end {high}")
        if self.dropout_edge[1] > 1:
            raise ValueError("dropout_edge: a part of the patch edge is at most 1")
        for name in ("gamma_range", "low_resolution_zoom"):
            if getattr(self, name)[0] == 0:
                raise ValueError(f"{name}: the lower end must be above 0")
        if self.low_resolution_zoom[1] > 1:
            raise ValueError("low_resolution_zoom: a part of the patch edge is at most 1")
        return self

    @classmethod
    def published(cls, dims: int, modality: str) -> Self:
        """The published augmentation for networks of rank `dims`.

        2D: flips, small shift/scale/rotation, grid distortion, coarse dropout. 3D: quarter turns and flips, and a third
        of the labelled crops centred on foreground. Intensity options stay off; `modality` sets the strength they have
        when switched on (CT values are calibrated, so theirs is small).
        """
        base = cls(gain=0.1, offset=0.1, gamma_range=(0.9, 1.1)) if modality == "ct" else cls()
        if dims == 2:
            return base.model_copy(update={"flip": 0.5, "affine": 0.5, "distortion": 0.25, "dropout": 0.5})
        return base.model_copy(update={"foreground": 1 / 3, "flip": 0.5, "rotate90": 0.75})

    @classmethod
    def default(cls, dims: int, modality: str) -> Self:
        """The published augmentation, and the one of nnU-Net (Isensee et al. 2021) on top of it."""
        return cls.published(dims, modality).model_copy(
            update={
                "foreground": 1 / 3,
                "affine": 0.7,
                "rotate": 30.0,
                "scale": 0.25,
                "contrast": 0.5,
                "gamma": 0.3,
                "inverted_gamma": 0.1,
                "low_resolution": 0.25,
                "noise": 0.15,
                "noise_std": (0.0, 0.3),
                "blur": 0.2,
            }
        )

    def strong(self) -> Self:
        """The same geometry with strong intensity changes, for "strong" views (FixMatch, arXiv:2001.07685).

        The transforms are UniMatch's (Yang et al. 2023, arXiv:2208.09910: colour jitter 0.8, blur 0.5) where they make
        sense for any modality, twice as strong as this config's own; CutMix is the methods'. Boxes of the image that
        the plan's coarse dropout would set to its minimum are left out: they hide what a pseudo-label is about.
        """
        return self.model_copy(
            update={
                "dropout": 0.0,
                "contrast": 0.8,
                "gain": min(2 * self.gain, 0.9),
                "offset": 2 * self.offset,
                "gamma": 0.5,
                "gamma_range": (self.gamma_range[0] ** 1.5, self.gamma_range[1] ** 1.5),
                "noise": 0.5,
                "noise_std": (0.0, 2 * self.noise_std[1]),
                "blur": 0.5,
                "channel": 0.8,
                "channel_gain": min(2 * self.channel_gain, 0.9),
            }
        )
