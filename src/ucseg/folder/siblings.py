"""Files beside each image that has a mask, called as it is and with one word more: X_superpixels beside X (ISIC).

They are taken as parts of its case, and not as unlabelled images.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from glob import escape

from ucseg.folder.listing import LeftOut
from ucseg.folder.roles import ScanFile
from ucseg.scans.address import Address

_MOST, _ENOUGH = 0.8, 4
"""So many images with masks have such a file, at least, and so great is their number."""
_SIGN = re.compile(r"[ _.-]+")


def without_siblings(
    images: list[ScanFile], pairs: Mapping[Address, Address], left_out: list[LeftOut]
) -> list[ScanFile]:
    """The images without such files, which are left out.

    Args:
        pairs: image -> its mask.
    """
    siblings = _siblings(images)
    for rest, image_of in siblings.items():
        masked = sum(image in pairs for image in image_of.values())
        if masked < max(_ENOUGH, _MOST * len(pairs)) or any(sibling in pairs for sibling in image_of):
            continue
        for sibling, image in image_of.items():
            reason = (
                f"it is called as {image.name} beside it, which has the mask; if it is the image to learn from, "
                f"give --images '*{escape(rest)}{sibling.ending}'"
            )
            left_out.append(LeftOut(sibling.path, reason))
        images = [image for image in images if image.address not in image_of]
    return images


def _siblings(images: Sequence[ScanFile]) -> dict[str, dict[Address, Address]]:
    """What the names have more -> file -> the image beside which it lies."""
    places = {(one.address.parent, one.address.stem): one.address for one in images if not one.address.several}
    found: dict[str, dict[Address, Address]] = defaultdict(dict)
    for (folder, name), file in places.items():
        for sign in _SIGN.finditer(name):
            image = places.get((folder, name[: sign.start()]))
            if image is not None and any(map(str.isalpha, name[sign.end() :])):
                found[name[sign.start() :]][file] = image
    return found
