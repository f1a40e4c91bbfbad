"""A plain mask of another size than its image: when it is stretched to fit, and how that is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ucseg.errors import UserError, some
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header
from ucseg.scans.scan import Geometry, orders_of
from ucseg.types import Array


def fitted(label: Array, shape: tuple[int, ...], mask: Address) -> Array:
    """The values of a mask, any S, on the grid of its image, S = `shape`, by nearest neighbour.

    Raises:
        UserError: their sizes differ, and it is a volume, has a geometry, or shows another field than the image.
    """
    if label.shape == tuple(shape):
        return label
    if not mask.plain or not label.ndim == len(shape) == 2:
        raise UserError(
            "mask-shape",
            f"{mask}: has shape {label.shape}, its image {tuple(shape)}; resample it to its image or pair them again.",
        )
    if not _aspect_allows(label.shape, shape):
        raise _another_aspect(mask, label.shape, shape)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(shape, label.shape, strict=True)
    )
    return label[np.ix_(rows, columns)]


def stretch(mask: Address, image: tuple[int, ...], geometry: Geometry) -> str:
    """How a mask is stretched to an image of S and its geometry, in words; "" where it is not."""
    own = _own_shape(mask, geometry) if mask.plain and len(image) == 2 else image
    wide, high = (0, 1) if geometry.columns_first else (1, 0)
    return "" if own == image else " on ".join(f"{size[wide]} x {size[high]} px" for size in (own, image))


def stretched_in_words(stretched: Mapping[str, str], total: int, what: str = "masks", on: str = "images") -> str:
    """What to report of masks that are stretched, name -> `stretch`, among `total`."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, sizes in stretched.items():
        named[sizes].append(name)
    often = sorted(named.items(), key=lambda item: -len(item[1]))
    listed = some([f"{len(names)} of {sizes} (e.g. {names[0]})" for sizes, names in often])
    return f"{len(stretched)} of {total} {what} differ from their {on} in size; they are stretched to fit: {listed}"


def require_same_aspect(mask: Address, image: tuple[int, ...], geometry: Geometry) -> None:
    """Refuse, with a UserError, a plain mask that only the rule for squeezed squares fits to an image of S."""
    own = _own_shape(mask, geometry) if mask.plain and len(image) == 2 else image
    if len(own) == 2 and not _same_aspect(own, image):
        raise _another_aspect(mask, own, image)


def _own_shape(mask: Address, image: Geometry) -> tuple[int, ...]:
    shape, own, _ = read_header(mask)
    return orders_of(shape, own, image)[0]


def _another_aspect(mask: Address, own: tuple[int, ...], image: tuple[int, ...]) -> UserError:
    sizes = ", ".join(f"{width} x {height} px" for height, width in (own, image))
    return UserError(
        "mask-aspect",
        f"{mask}: the aspect ratios of mask and image differ ({sizes}); check that they belong together.",
    )


def _same_aspect(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    return bool(abs(np.log(mask[1] / mask[0] * image[0] / image[1])) <= 0.02)


def _aspect_allows(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a mask and an image of different size may show the same field.

    They do when their aspect ratios agree within 2 %. A square image or mask may also be a picture that was squeezed
    into a square for a network (public dermoscopy and endoscopy sets are distributed so): then up to 2:1 is allowed.
    """
    mask_aspect, image_aspect = mask[1] / mask[0], image[1] / image[0]
    if _same_aspect(mask, image):
        return True
    return 1.0 in (mask_aspect, image_aspect) and 0.5 <= mask_aspect / image_aspect <= 2.0
