"""A scan in memory: its voxels and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.types import Array


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie.

    Attributes:
        affine: (n+1) x (n+1), voxel index -> world. World is RAS millimetres for scans with a geometry of their own;
            for plain images (PNG, JPEG, TIFF) it is the identity in pixels.
        unit: "mm" or "px".
    """

    affine: Array
    unit: str = "mm"

    @property
    def dims(self) -> int:
        """Spatial rank n."""
        return int(self.affine.shape[0]) - 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """Edge lengths of a voxel along its own axes, in `unit`."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[: self.dims, : self.dims], axis=0))


@dataclass(frozen=True)
class Scan:
    """An image or a mask as it was read.

    Attributes:
        array: C x S; the axes of S follow the columns of the geometry's affine. Native dtype. A mask has C = 1.
        geometry: where the voxels lie.
        source: the file it came from.
        header: what the format needs to write a file of the same kind and geometry (opaque to everybody else).
    """

    array: Array
    geometry: Geometry
    source: Path
    header: Any = None
