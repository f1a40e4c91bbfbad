"""What a run was made with: versions, machine and the commit of the code."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ucseg.machine.cores import cores

PACKAGES = (
    "ucseg", "torch", "lightning-fabric", "numpy", "scipy", "scikit-image", "SimpleITK", "nibabel", "pillow",
    "highdicom",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, machine, threads and the commit of a source checkout: what one needs to compare two runs."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": sys.version.split()[0],
        "versions": versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": cores(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "commit": commit_of(Path(__file__).resolve().parents[3]),
        "command": sys.argv,
    }


def commit_of(checkout: Path) -> str | None:
    """The commit of a checkout, with `-dirty.` and a digest of its files where the package in it is another; or None.

    What else is changed there, as results that are being collected, computes nothing.
    """
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        if not git("status", "--porcelain", "--", "src"):
            return commit
        # While a method is being written every run is dirty: runs of the same code have the same digest.
        digest = hashlib.blake2b(digest_size=4)
        for name in sorted(
            git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "src").split("\0")
        ):
            if name and (checkout / name).is_file():
                digest.update(name.encode() + (checkout / name).read_bytes())
        return f"{commit}-dirty.{digest.hexdigest()}"
    except (OSError, subprocess.SubprocessError):
        return None  # no git on this machine: the versions above still say what ran
