"""An HTML page from a template of the package, and the pictures in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ucseg.machine.writing import write_text


def write_page(path: Path, template: str, values: Mapping[str, Any], package: str) -> None:
    """Fill a template of a package, which extends page.html.j2; written whole or not at all.

    Text is escaped; a missing value is an error.
    """
    places = ChoiceLoader([PackageLoader(name, ".") for name in (package, __package__)])
    environment = Environment(loader=places, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    write_text(path, environment.get_template(template).render(values))


def png_uri(save: Callable[[BinaryIO], object]) -> str:
    """A picture as a part of the page (data URI); `save` writes it as PNG."""
    data = io.BytesIO()
    save(data)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
