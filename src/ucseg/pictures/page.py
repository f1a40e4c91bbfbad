"""A page of one file: a filled template of the package with its pictures inside it; nothing is loaded from outside.

Every text of a template is escaped: names of files and classes are of others.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ucseg.machine.writing import write_text
from ucseg.types import Array

_QUALITY = 90


def write_page(path: Path, template: str, values: Mapping[str, Any], package: str) -> None:
    """Fill a template of a package, which extends page.html.j2; written whole or not at all.

    Text is escaped; a missing value is an error.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    places = ChoiceLoader([PackageLoader(name, ".") for name in (package, __package__)])
    environment = Environment(loader=places, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    write_text(path, environment.get_template(template).render(values))


def png_uri(save: Callable[[BinaryIO], object]) -> str:
    """A picture as a part of the page (data URI); `save` writes it as PNG."""
    data = io.BytesIO()
    save(data)
    return _uri("png", data)


def exact_uri(picture: Array) -> str:
    """Rows x columns x 3, uint8, as PNG."""
    return png_uri(lambda file: Image.fromarray(np.ascontiguousarray(picture)).save(file, format="PNG", optimize=True))


def small_uri(picture: Array) -> str:
    """Rows x columns x 3, uint8, as JPEG: a fifth of what PNG takes for photographs. Lines keep their colour."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(data, format="JPEG", quality=_QUALITY, subsampling=0)
    return _uri("jpeg", data)


def _uri(kind: str, data: io.BytesIO) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data.getvalue()).decode("ascii")
