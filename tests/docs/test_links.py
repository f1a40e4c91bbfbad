"""The site builds without a broken link, and what README, other pages and sources say of pages is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ucseg.methods import METHODS

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("src", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")]


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "mkdocs.yml"]
    built = subprocess.run(
        [*words, "--site-dir", tmp_path / "site"],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "how-to" / "init.html").exists()


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_of_the_pages_outside_the_site_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_pages_that_sources_and_documents_name_are_there() -> None:
    named = {
        (name, path.relative_to(ROOT).as_posix())
        for path in [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|py|png)", path.read_text())
        if "NAME" not in name  # a page to be written
    }
    assert named
    assert not [one for one in named if not (ROOT / one[0]).exists()]


def test_the_files_in_the_table_of_the_architecture_are_there() -> None:
    """A bare name lies in the folder of the name before it in its row."""
    rows = [line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if line.startswith("| ")]
    missing = []
    for row in rows:
        folder = Path()
        for name in re.findall(r"`([\w/.-]+\.(?:py|md|yaml|yml))`", row):
            folder = Path(name).parent if "/" in name else folder
            path = folder / Path(name).name
            places = (ROOT / "src" / "ucseg" / path, ROOT / path, ROOT / name)
            if "NAME" not in name and not any(place.is_file() for place in places):
                missing.append(f"{name} in: {row}")
    assert len(rows) > 30
    assert not missing, "\n".join(missing)


def test_the_page_of_methods_links_each_of_them() -> None:
    page = (ROOT / "docs" / "methods" / "index.md").read_text()
    assert not [name for name in METHODS if f"| [{name}]({name}.md) |" not in page]


def test_the_picture_of_the_readme_is_small() -> None:
    assert (ROOT / "docs" / "images" / "demo.png").stat().st_size < 150_000
