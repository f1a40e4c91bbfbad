"""An HTML page from a template of the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ucseg.training.run_folder import replace_file


def write_page(path: Path, template: str, values: Mapping[str, Any], package: str) -> None:
    """Fill a template of a package; write it whole or not at all. Text is escaped; a missing value is an error."""
    environment = Environment(
        loader=PackageLoader(package, "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template(template).render(values)

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    replace_file(path, write)
