"""The wheel by itself, as a user of `pip install` has it: in an environment without what only the tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
SHORT = ("--steps", "2", "--labelled", "2", "--unlabelled", "4")


def run(*words: str | Path, cwd: Path) -> None:
    """A command that must end well, which sees no checkout and no package of this environment."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([str(word) for word in words], cwd=cwd, env=clean, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The wheel, and the files of the package that are under version control."""
    tmp_path = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sources = [file for file in listed.split() if (ROOT / file).exists()]
    for file in ("pyproject.toml", "README.md", "LICENSE", *sources):  # no build folder with what was there before
        copy = tmp_path / "checkout" / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", tmp_path, "./checkout", cwd=tmp_path)
    (wheel,) = tmp_path.glob("ucseg-*.whl")
    return wheel, sources


def environment(folder: Path, *packages: str | Path) -> Path:
    """The Python of a new environment with these packages alone; pip of this one fills it, which is quicker."""
    run(sys.executable, "-m", "venv", "--without-pip", "alone", cwd=folder)
    python = folder / "alone" / "bin" / "python"
    pins = ("-c", ROOT / "constraints.txt")
    run(*PIP, "--python", python, "install", "--no-compile", *pins, *packages, cwd=folder)
    return python


@pytest.mark.wheel
def test_an_exported_model_predicts_where_torch_is_not_installed(built: tuple[Path, list[str]], tmp_path: Path) -> None:
    wheel, _ = built
    python = environment(tmp_path, "-r", ROOT / "requirements-predict.txt")
    run(*PIP, "--python", python, "install", "--no-compile", "--no-deps", wheel, cwd=tmp_path)
    packages = next((tmp_path / "alone" / "lib").glob("python*")) / "site-packages"
    assert not (packages / "torch").exists()
    own = [entry for entry in packages.iterdir() if not entry.name.startswith(("pip", "setuptools", "pkg_resources"))]
    sizes = [file.stat().st_size for entry in own for file in entry.rglob("*") if file.is_file()]
    assert sum(sizes) < 400e6

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "inference")
        patch.syspath_prepend(ROOT / "tests")
        from test_exported import a_run, small_plan

        import ucseg

        ucseg.export(a_run(tmp_path / "run", small_plan(2, channels=3)), out=tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    run(python.with_name("ucseg-predict"), "model", "scan.png", "--out", "masks", cwd=tmp_path)
    assert Image.open(tmp_path / "masks" / "scan.png").size == (30, 40)


@pytest.mark.wheel
def test_the_wheel_alone_holds_every_file_and_runs_the_demo(built: tuple[Path, list[str]], tmp_path: Path) -> None:
    wheel, sources = built
    lacking = {file.removeprefix("src/") for file in sources} - {*zipfile.ZipFile(wheel).namelist()}
    assert not lacking, "see [tool.setuptools.package-data]"

    # As the Makefile does: an exact pin of torch is what lets an index offer its CPU build.
    python = environment(tmp_path, "torch==2.13.0", wheel)
    run(python.with_name("ucseg"), "demo", "--out", "demo", *SHORT, cwd=tmp_path)
    report, picture = tmp_path / "demo" / "report.html", tmp_path / "demo.png"
    run(sys.executable, ROOT / "docs" / "make_picture.py", report, picture, cwd=tmp_path)
    assert picture.stat().st_size < 150_000
