"""Masks in the alpha channel of a picture: opaque is foreground."""

from __future__ import annotations

from pathlib import Path

from ucseg.errors import UserError
from ucseg.types import Array


def mask_in_alpha(path: Path, picture: Array) -> Array | None:
    """H x W x C, alpha last -> the mask, H x W x 1, if it lies in the alpha channel; None if the colours are the mask.

    Raises:
        UserError: both show a mask, and these differ.
    """
    if lies_in_alpha(picture):
        return picture[..., -1:]
    alpha = picture[..., -1]
    if (alpha != alpha[0, 0]).any() and (picture[..., :-1].any(axis=-1) != (alpha > 0)).any():
        raise UserError(
            "mask-alpha",
            f"{path}: its colours and its transparent parts show two different masks; save it without alpha.",
        )
    return None


def lies_in_alpha(picture: Array) -> bool:
    """Whether H x W x C, alpha last, is of one colour everywhere, and transparent in parts."""
    colours, alpha = picture[..., :-1], picture[..., -1]
    return bool((alpha != alpha[0, 0]).any() and (colours == colours[0, 0]).all())
