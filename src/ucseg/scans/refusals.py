"""What several formats refuse, each in the same words: "FILE: what is wrong; what to do."."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.said import Said
from ucseg.scans.scan import Geometry


def empty(place: object) -> UserError:
    return UserError("scan-empty", f"{place}: the file is empty (0 bytes); copy it again from its source.")


def damaged(path: Path, error: BaseException | str) -> UserError:
    """A file that its reader cannot read to the end; `error` gives the reason."""
    line = first_line(error, path)
    reason = f" ({line})" if line else ""
    return UserError("scan-damaged", f"{path}: the file is damaged or cut short{reason}; copy or export it again.")


def first_line(error: BaseException | str, path: Path) -> str:
    """What a library says of a file, short enough for a sentence that ends with what to do."""
    if isinstance(error, BaseException):
        error = str(error) or type(error).__name__
    line = error.partition("\n")[0].rstrip(".").replace(str(path), path.name).replace("; ", ", ")
    return shorten(line, 120, placeholder=" ...")


def other_content(path: Path, expected: str, fix: str) -> UserError:
    """A file that does not hold what its ending says."""
    return UserError("scan-content", f"{path}: the content is not {expected}; {fix}.")


def axes(place: object, shape: Sequence[int], fix: str = "save each time point or channel as a file") -> UserError:
    return UserError(
        "scan-axes", f"{place}: is {len(shape)}D (shape {tuple(shape)}), a scan has two or three axes; {fix}."
    )


def no_channel_axis(place: object, shape: Sequence[int]) -> UserError:
    """Of FILE#channels."""
    what = f"is {len(shape)}D (shape {tuple(shape)}) and its last axis holds no channels"
    return UserError("last-axis-channels", f"{place}: {what}; leave out #channels.")


def perhaps_channels(place: object, name: str, shape: Sequence[int]) -> UserError:
    """Of a file with a fourth axis; `name` is how cases.csv calls it."""
    return axes(place, shape, f"save each time point as a file, or write {name}#channels if these are channels")


def film(place: object, times: int) -> UserError:
    return UserError("image-times", f"{place}: is a film of {times} times; save each time as a file.")


def no_stack(path: Path, pages: int) -> UserError:
    return UserError(
        "image-pages", f"{path}: its {pages} pages are no stack of grey slices of one size; save each as a file."
    )


def one_bit_channels(path: Path) -> UserError:
    return UserError("image-bits", f"{path}: has several channels of one bit; save them with 8 bits each.")


@contextmanager
def damage_of(path: Path, refuse: Callable[[Path, Exception], UserError] = damaged) -> Iterator[None]:
    """Whatever a library raises in this block is reported as damage of a file: a broken one can break it anywhere."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise refuse(path, error) from error


def values(place: object, kind: object) -> UserError:
    """Voxels that are no real numbers."""
    return UserError("scan-values", f"{place}: voxels of type {kind} are not supported; export one real channel.")


def segments_overlap(path: Path) -> UserError:
    """A segmentation that no label map can hold."""
    return UserError(
        "segments-overlap",
        f"{path}: a voxel has several labels (overlapping segments or layers); export one label map without overlap.",
    )


def check_geometry(place: object, geometry: Geometry) -> None:
    """Raise a UserError if a geometry places no voxels: numbers that are not finite, or axes that span no space."""
    matrix = geometry.affine[:-1, :-1]
    lengths = np.prod(np.linalg.norm(matrix, axis=0))
    if not np.isfinite(geometry.affine).all() or abs(np.linalg.det(matrix)) <= 1e-6 * lengths:
        raise UserError(
            "scan-geometry",
            f"{place}: its affine {geometry.affine.tolist()} gives no voxel size and direction; export it again.",
        )


def check_size(place: object, said: Said, shape: Sequence[int], channels: int = 1) -> None:
    """Raise a UserError if a header states more voxels than may be read; called before any voxel is."""
    voxels, most = math.prod(int(n) for n in shape) * channels, said.max_voxels
    if voxels > most:
        size = " x ".join(map(str, shape))
        raise UserError(
            "scan-too-large",
            f"{place}: has {voxels:.3g} voxels ({size}), more than the {most:.3g} that are allowed; if it is right, "
            "raise max_voxels in dataset.yaml, or give --max-voxels.",
        )
