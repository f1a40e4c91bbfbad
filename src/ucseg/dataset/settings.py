"""What dataset.yaml says of a dataset, checked."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ucseg.config import Strict
from ucseg.scans.dicom.codes import SegmentCodes
from ucseg.scans.palette import from_hex
from ucseg.scans.said import MOST_VOXELS, HeaderPart, Said
from ucseg.types import NOT_ANNOTATED

_NOT_ANNOTATED = re.compile(
    r"(ignored?|void|unknown|excluded?|unclassified|don.?t[ _-]?care|(not|un)[ _-]?(annotated|labell?ed|segmented))"
    r"([ _-](label|region|area|class|voxels?|pixels?))?",
    re.IGNORECASE,
)


def means_not_annotated(name: str) -> bool:
    """Whether a class of this name is none: its voxels were not annotated."""
    return _NOT_ANNOTATED.fullmatch(name.strip()) is not None


Modality = Literal["mri", "ct", "ultrasound", "rgb", "other"]


class DatasetConfig(Strict):
    """What dataset.yaml says.

    Attributes:
        root: folder that the paths of cases.csv start from; absolute, or relative to dataset.yaml's folder.
        modality: decides the normalisation and the augmentation.
        classes: class index -> name, 0 is background; the indices are the values in the masks, unless `values` says
            more.
        values: value in the masks -> class index; 0 is class 0 if it is not named. Empty: the values are the indices.
        not_annotated: values in the masks that mean "not annotated". Such voxels are no class: they are trained as
            those of unlabelled images, and are left out of all measuring.
        mask_threshold: binary masks: foreground is where the value is greater. None: mask values are class indices.
        fill_outlines: the masks are drawn contours; their inside is the foreground.
        seed: of the splits and of the choice of labelled cases.
        geometry: which part of a NIfTI header counts: qform, sform or pixdim. None: sform, or pixdim where they differ.
        spacing: edges of a voxel in mm along the arrays' axes, for files that state none; None: such files are in px.
        max_voxels: scans with more are refused.
        palette: of masks in colours: the colour of each value, the background's first, as #rrggbb.
        images: pattern of the files that are images; `predict` looks for such files in folders. Empty: all are. With
            "#channels" at its end, their last axis holds channels.
        codes: class index -> what DICOM segmentations call it (see scans/dicom/codes.py); none needs any.
    """

    name: str = Field(min_length=1)
    root: str = Field(min_length=1)
    dims: Literal[2, 3]
    modality: Modality
    channels: int = Field(ge=1, le=1024)
    classes: dict[int, str]
    values: dict[int, int] = Field(default_factory=dict)
    not_annotated: list[int] = Field(default_factory=list)
    mask_threshold: float | None = None
    fill_outlines: bool = False
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    geometry: HeaderPart | None = None
    spacing: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    max_voxels: int = Field(MOST_VOXELS, ge=1)
    palette: list[str] = Field(default_factory=list)
    images: str = ""
    codes: dict[int, SegmentCodes] = Field(default_factory=dict)

    @property
    def said(self) -> Said:
        """How all files of the dataset are read."""
        return Said(
            self.geometry,
            tuple(self.spacing or ()),
            self.max_voxels,
            tuple(from_hex(colour) for colour in self.palette),
        )

    @field_validator("spacing")
    @classmethod
    def _spacing_is_of_all_axes(cls, spacing: list[float] | None, info: ValidationInfo) -> list[float] | None:
        if spacing is not None and len(spacing) != info.data.get("dims", len(spacing)):
            raise ValueError(f"has {len(spacing)} numbers, the scans have {info.data['dims']} axes")
        return spacing

    @field_validator("classes")
    @classmethod
    def _classes_are_consecutive(cls, classes: dict[int, str]) -> dict[int, str]:
        if len(classes) < 2 or sorted(classes) != list(range(len(classes))):
            raise ValueError("classes are numbered 0 (background), 1, 2, ... without a gap, at least two of them")
        if len(classes) > NOT_ANNOTATED:
            raise ValueError(f"at most {NOT_ANNOTATED} classes")
        names = [name.strip() for name in classes.values()]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("every class needs its own name")
        empty = next((name for index, name in classes.items() if index and means_not_annotated(name)), None)
        if empty is not None:
            raise ValueError(f"'{empty}' is no class; list its value under not_annotated, or give it another name")
        return dict(sorted(classes.items()))

    @field_validator("values")
    @classmethod
    def _values_are_of_classes(cls, values: dict[int, int], info: ValidationInfo) -> dict[int, int]:
        wrong = [index for index in values.values() if index not in info.data.get("classes", [*values.values()])]
        if wrong:
            raise ValueError(f"{wrong[0]} is no class; values are given as VALUE: CLASS NUMBER")
        return values

    @field_validator("palette")
    @classmethod
    def _palette_is_of_classes(cls, palette: list[str], info: ValidationInfo) -> list[str]:
        known = len(info.data.get("classes", palette)) + len(info.data.get("not_annotated", []))
        if palette and len(palette) != known:
            raise ValueError("it has a colour for each class, the background's first, and for what is not annotated")
        if len({from_hex(colour) for colour in palette}) < len(palette):
            raise ValueError("every class needs its own colour")
        return palette

    @field_validator("codes")
    @classmethod
    def _codes_are_of_classes(cls, codes: dict[int, SegmentCodes], info: ValidationInfo) -> dict[int, SegmentCodes]:
        wrong = [index for index in codes if index == 0 or index not in info.data.get("classes", codes)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no class of the foreground; codes are given by class number, 1, 2, ...")
        return codes

    @model_validator(mode="after")
    def _what_is_not_annotated_is_no_class(self) -> Self:
        known = set(self.values or self.classes) if self.mask_threshold is None else set()
        if both := sorted(known & set(self.not_annotated)):
            raise ValueError(f"{both[0]} is a class and under not_annotated; remove it from one of them")
        return self
