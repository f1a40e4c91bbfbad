"""Near-duplicates among real images: which pairs are found, how many of known copies, and how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/duplicates.py --data SCANS

SCANS holds the folders kvasir, isic, hc18 and hippocampus. Whether a pair that is found shows the same thing is for the
eye: `--sheets FOLDER` draws the pairs of 2D images side by side. Made copies are every tenth image (every fifth volume)
cut, resized, noisy, turned by five degrees, mirrored or brightened, and looked for among all originals. Writes
benchmarks/results/duplicates.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from study import machine
from ucseg.machine.threads import for_each
from ucseg.planning.thumbnail import small_copy
from ucseg.scans.formats import read_scan
from ucseg.soundness import duplicates
from ucseg.soundness.duplicates import near_duplicates
from ucseg.types import Array

KNOWN = {"isic": [("0001134", "0010016"), ("0000240", "0009998"), ("0000397", "0010074")], "kvasir": [("222", "16")]}
"""Seen by eye before this search was written."""
CHANGES: dict[str, Callable[[Array], Array]] = {
    "cut": lambda a: a[tuple(slice(n // 12, n - n // 20) for n in a.shape)],
    "resized": lambda a: ndimage.zoom(a, 0.7, order=1),
    "noisy": lambda a: a + np.random.default_rng(0).normal(0, 0.05 * a.std(), a.shape),
    "turned": lambda a: ndimage.rotate(a, 5, (0, 1), reshape=False, order=1, mode="nearest"),
    "mirrored": lambda a: a[::-1].swapaxes(0, 1),
    "brightened": lambda a: np.clip(a, 0, None) ** 0.7,
}


def files(data: Path) -> dict[str, list[Path]]:
    """Images of each set."""
    return {
        "kvasir": [
            f for split in ("train", "validation", "test") for f in sorted(data.glob(f"kvasir/{split}/images/*"))
        ],
        "isic": sorted(data.glob("isic/images/*.jpg")),
        "hc18": sorted(f for f in data.glob("hc18/*.png") if "Annotation" not in f.name),
        "hippocampus": sorted(data.glob("hippocampus/images/*.nii.gz")),
    }


def measure(name: str, images: list[Path], sheets: Path | None) -> dict[str, Any]:
    """Of one set. Images of one exam of HC18 are related, as `ucseg init` knows."""
    begun = time.perf_counter()
    arrays = for_each(lambda file: read_scan(file).array, images)
    copies = [small_copy(array) for array in arrays]
    read = time.perf_counter()
    found = near_duplicates(copies, lambda i, j: name == "hc18" and images[i].name[:3] == images[j].name[:3])
    ended = time.perf_counter()
    if sheets and found and copies[0] is not None and copies[0].ndim == 2:
        draw([(images[i], images[j]) for i, j, _ in found], sheets / f"{name}.png")
    every = 10 if name != "hippocampus" else 5
    grey = [array.mean(axis=0, dtype=np.float32) for array in arrays[::every]]
    made = {}
    for change, work in CHANGES.items():
        again = [small_copy(np.asarray(work(array), np.float32)[None]) for array in grey]
        pairs = {(i, j) for i, j, _ in near_duplicates([*copies, *again], lambda i, j: max(i, j) < len(copies))}
        hits = sum((index * every, len(copies) + index) in pairs for index in range(len(again)))
        made[change] = [hits, len(again)]
    label = [f"{file.parent.parent.name}/{file.stem}" if name == "kvasir" else file.stem for file in images]
    stems = [{images[i].stem.removeprefix("ISIC_"), images[j].stem.removeprefix("ISIC_")} for i, j, _ in found]
    return {
        "images": len(images),
        "seconds_reading": round(read - begun, 2),
        "seconds_searching": round(ended - read, 2),
        "found": [[label[i], label[j], round(value, 3)] for i, j, value in sorted(found, key=lambda pair: -pair[2])],
        "known_found": {" ".join(pair): set(pair) in stems for pair in KNOWN.get(name, [])},
        "copies_found_of_made": made,
    }


def draw(pairs: list[tuple[Path, Path]], out: Path, edge: int = 150) -> None:
    """Pairs side by side, four a row."""
    sheet = Image.new("RGB", (8 * edge + 40, -(-len(pairs) // 4) * (edge + 4)), "white")
    for number, pair in enumerate(pairs):
        for side, file in enumerate(pair):
            at = ((number % 4) * (2 * edge + 8) + side * edge, number // 4 * (edge + 4))
            sheet.paste(Image.open(file).convert("RGB").resize((edge, edge)), at)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def hashing_seconds() -> dict[int, float]:
    """Of finding the candidates alone, among so many images of noise."""
    rng = np.random.default_rng(0)
    seconds = {}
    for count in (1000, 2000, 4000, 8000):
        copies = rng.integers(0, 256, (count, 64, 64), dtype=np.uint8)
        begun = time.perf_counter()
        candidates = sum(1 for _ in duplicates._candidates(copies))
        seconds[count] = round(time.perf_counter() - begun, 2)
        print(count, candidates, seconds[count])
    return seconds


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sheets", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"made_by": "OMP_NUM_THREADS=1 python benchmarks/duplicates.py --data SCANS", **machine()}
    results["thresholds"] = duplicates.NEARLY_THE_SAME
    results["sets"] = {}
    for name, images in files(given.data).items():
        results["sets"][name] = measure(name, images, given.sheets)
        print(name, {key: value for key, value in results["sets"][name].items() if key != "found"})
    results["seconds_of_candidates"] = hashing_seconds()
    out = Path(__file__).parent / "results" / "duplicates.json"
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
