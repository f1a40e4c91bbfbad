"""What dataset.yaml says of a dataset, checked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from ucseg.config import Strict
from ucseg.scans.dicom.codes import SegmentCodes

Modality = Literal["mri", "ct", "ultrasound", "rgb", "other"]


class DatasetConfig(Strict):
    """What dataset.yaml says.

    Attributes:
        root: folder that the paths of cases.csv start from; absolute, or relative to dataset.yaml's folder.
        modality: decides the normalisation and the augmentation.
        classes: class index -> name, 0 is background; the indices are the values in the masks (after thresholding).
        mask_threshold: binary masks: foreground is where the value is greater. None: mask values are class indices.
        fill_outlines: the masks are drawn contours; their inside is the foreground.
        seed: of the splits and of the choice of labelled cases.
        codes: class index -> what DICOM segmentations call it (see scans/dicom/codes.py); none needs any.
    """

    name: str = Field(min_length=1)
    root: str = Field(min_length=1)
    dims: Literal[2, 3]
    modality: Modality
    channels: int = Field(ge=1, le=1024)
    classes: dict[int, str]
    mask_threshold: float | None = None
    fill_outlines: bool = False
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    codes: dict[int, SegmentCodes] = Field(default_factory=dict)

    @field_validator("classes")
    @classmethod
    def _classes_are_consecutive(cls, classes: dict[int, str]) -> dict[int, str]:
        if len(classes) < 2 or sorted(classes) != list(range(len(classes))):
            raise ValueError("classes are numbered 0 (background), 1, 2, ... without a gap, at least two of them")
        if len(classes) > 256:
            raise ValueError("at most 256 classes")
        names = [name.strip() for name in classes.values()]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("every class needs its own name")
        return dict(sorted(classes.items()))

    @field_validator("codes")
    @classmethod
    def _codes_are_of_classes(cls, codes: dict[int, SegmentCodes], info: ValidationInfo) -> dict[int, SegmentCodes]:
        wrong = [index for index in codes if index == 0 or index not in info.data.get("classes", codes)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no class of the foreground; codes are given by class number, 1, 2, ...")
        return codes
