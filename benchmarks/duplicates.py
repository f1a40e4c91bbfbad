"""Near-duplicates among real images: which pairs are found, how many of known copies, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/duplicates.py --data SCANS

SCANS holds the folders kvasir, isic, hc18 and hippocampus. A person must judge whether the pairs that are found show
the same: `--sheets FOLDER` draws the pairs of 2D images side by side. Every tenth image (every fifth volume) is copied
in the ways of CHANGES, and the copy is searched for among all originals. Writes benchmarks/results/duplicates.json.

`--exact` measures whether an exact index could replace the comparison of all hashes. If two hashes of 120 bits differ
in at most R, one of m pieces differs in at most R / m. So an index of pieces finds all pairs within R, and looks at
the pairs that agree in a piece. Writes benchmarks/results/duplicates_exact.json.

`--growth` measures what comparing all hashes costs, of 1,000 to 30,000 images: the part of the search that grows
with the square. Writes benchmarks/results/duplicates_growth.json.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from provenance import machine
from ucseg.machine.pool import for_each
from ucseg.planning.thumbnail import pixels_of, thumbnail_of
from ucseg.scans.reading import read_scan
from ucseg.soundness import duplicates
from ucseg.soundness.duplicates import near_duplicates
from ucseg.types import Array

KNOWN = {"isic": [("0001134", "0010016"), ("0000240", "0009998"), ("0000397", "0010074")], "kvasir": [("222", "16")]}
"""Seen by eye before this search was written."""


def saved_again(array: Array) -> Array:
    """As a JPEG of low quality; volumes get a little noise instead."""
    if array.ndim == 3:
        return array + np.random.default_rng(0).normal(0, 0.02 * array.std(), array.shape)
    stored = io.BytesIO()
    Image.fromarray(np.uint8((array - array.min()) / np.ptp(array) * 255)).save(stored, "JPEG", quality=50)
    return np.asarray(Image.open(stored), np.float32)


def cropped(array: Array) -> Array:
    """5 to 10 % less along each axis, from either side."""
    rng = np.random.default_rng(int(array.sum(dtype=np.float64)) % 2**32)
    lost = [round(n * rng.uniform(0.05, 0.1)) for n in array.shape]
    first = [int(rng.integers(part + 1)) for part in lost]
    return array[tuple(slice(at, n - part + at) for at, part, n in zip(first, lost, array.shape, strict=True))]


CHANGES: dict[str, Callable[[Array], Array]] = {
    "saved again": saved_again,
    "resized to 0.7": lambda a: ndimage.zoom(a, 0.7, order=1),
    "cropped by 5 to 10 %": cropped,
    "turned by 90 degrees": np.rot90,
    "mirrored": lambda a: a[::-1],
    "brightened": lambda a: np.clip(a, 0, None) ** 0.7,
    "noisy": lambda a: a + np.random.default_rng(0).normal(0, 0.05 * a.std(), a.shape),
    "cropped by 13 %": lambda a: a[tuple(slice(n // 12, n - n // 20) for n in a.shape)],
    "turned by 5 degrees": lambda a: ndimage.rotate(a, 5, (0, 1), reshape=False, order=1, mode="nearest"),
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
    start = time.process_time()
    arrays = for_each(lambda file: read_scan(file).array, images)
    copies = [thumbnail_of(array) for array in arrays]
    read = time.process_time()
    found = near_duplicates(copies, lambda i, j: name == "hc18" and images[i].name[:3] == images[j].name[:3])
    ended = time.process_time()
    if sheets and found and copies[0] is not None and pixels_of(copies[0]).ndim == 2:
        draw([(images[i], images[j]) for i, j, _ in found], sheets / f"{name}.png")
    every = 10 if name != "hippocampus" else 5
    grey = [array.mean(axis=0, dtype=np.float32) for array in arrays[::every]]
    made = {}
    for change, work in CHANGES.items():
        again = [thumbnail_of(np.asarray(work(array), np.float32)[None]) for array in grey]
        pairs = {(i, j) for i, j, _ in near_duplicates([*copies, *again], lambda i, j: max(i, j) < len(copies))}
        hits = sum((index * every, len(copies) + index) in pairs for index in range(len(again)))
        made[change] = [hits, len(again)]
    label = [f"{file.parent.parent.name}/{file.stem}" if name == "kvasir" else file.stem for file in images]
    stems = [{images[i].stem.removeprefix("ISIC_"), images[j].stem.removeprefix("ISIC_")} for i, j, _ in found]
    return {
        "images": len(images),
        "cpu_seconds_reading": round(read - start, 2),
        "cpu_seconds_searching": round(ended - read, 2),
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


def cpu_seconds_of_noise() -> dict[int, list[float]]:
    """Of finding the candidates, and of the whole search, among so many images of noise."""
    rng = np.random.default_rng(0)
    seconds = {}
    for count in (1000, 2000, 4000):
        pixels = rng.integers(0, 256, (count, 64, 64), dtype=np.uint8)
        start = time.process_time()
        list(duplicates._candidates(pixels))
        found = time.process_time()
        near_duplicates([one.tobytes() for one in pixels])
        seconds[count] = [round(found - start, 2), round(time.process_time() - found, 2)]
        print(count, seconds[count])
    return seconds


def exact(data: Path) -> dict[str, Any]:
    """How many bits lie between images that show the same, and others; and what an index of pieces would look at."""
    found: dict[str, Any] = {"bits_of_a_hash": BITS, "sets": {}}
    everything = []
    for name in ("kvasir", "isic"):
        arrays = for_each(lambda file: read_scan(file).array, files(data)[name])
        copies = [thumbnail_of(array) for array in arrays]
        pixels = np.stack([pixels_of(copy) for copy in copies if copy is not None])
        hashes = np.stack(duplicates._variants(pixels)[0])
        same = {(i, j) for i, j, _ in near_duplicates(copies)}
        nearest = []
        for row in range(len(pixels)):
            apart = bits_between(hashes[:, row], hashes[0])
            apart[[row, *(j for pair in same if row in pair for j in pair)]] = BITS
            nearest.append(int(apart.min()))
        found["sets"][name] = {
            "images": len(pixels),
            "bits_between_pairs_found": sorted(
                int(min(bits_between(hashes[:, i], hashes[0, [j]])[0], bits_between(hashes[:, j], hashes[0, [i]])[0]))
                for i, j in same
            ),
            "bits_to_the_nearest_other": dict(
                zip(map(str, PARTS), np.percentile(nearest, PARTS).tolist(), strict=True)
            ),
            "bits_to_copies_of_10_images": {
                change: sorted(
                    bits_to_copy(hashes[:, row], hashes[0, row], arrays[row], work) for row in range(0, 100, 10)
                )
                for change, work in CHANGES.items()
            },
        }
        print(name, found["sets"][name], flush=True)
        everything.append(hashes)
    hashes = np.concatenate(everything, axis=1)
    found["looked_at"] = [
        looked_at(hashes, radius, pieces) for radius in (8, 16, 24, 32) for pieces in (4, 6, 8, 10, 12)
    ]
    return found


BITS = 120
PARTS = (1, 5, 50, 95)


def bits_between(variants: Array, hashes: Array) -> Array:
    """Of one image in all its variants (V x 2) to others (N x 2): the fewest bits, N."""
    return np.asarray(np.bitwise_count(variants[:, None] ^ hashes[None]).sum(axis=-1, dtype=np.int64).min(axis=0))


def bits_to_copy(variants: Array, plain: Array, array: Array, work: Callable[[Array], Array]) -> int:
    """Bits between an image and its changed copy, either way round."""
    copy = thumbnail_of(np.asarray(work(array.mean(axis=0, dtype=np.float32)), np.float32)[None])
    assert copy is not None
    changed = np.stack(duplicates._variants(pixels_of(copy)[None])[0])[:, 0]
    return int(min(bits_between(variants, changed[:1])[0], bits_between(changed, plain[None])[0]))


def looked_at(hashes: Array, radius: int, pieces: int, rows: int = 60) -> dict[str, Any]:
    """The share of comparisons (image, other image, variant) that agree in a piece, and look-ups for one hash."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=-1)[..., :BITS].reshape(*hashes.shape[:2], pieces, -1)
    chosen = np.linspace(0, hashes.shape[1] - 1, rows).astype(int)
    hits = sum(
        int(np.count_nonzero(((own[:, None] != bits[0][None]).sum(-1, dtype=np.uint8) <= radius // pieces).any(-1)))
        for own in bits[:, chosen].swapaxes(0, 1)
    )
    width = BITS // pieces
    return {
        "radius": radius,
        "pieces": pieces,
        "share_of_comparisons": round(hits / (rows * bits.shape[0] * bits.shape[1]), 4),
        "look_ups_of_a_hash": pieces * sum(comb(width, k) for k in range(radius // pieces + 1)),
    }


def growth() -> dict[str, Any]:
    """CPU seconds of comparing all hashes, of so many images."""
    rng = np.random.default_rng(0)
    seconds = {}
    for count in (1000, 3000, 10_000, 30_000):
        hashes = [rng.integers(0, 2**63, (count, 2)).astype(np.uint64) for _ in range(26)]
        start = time.process_time()
        for row in range(0, count, duplicates._ROWS_AT_ONCE):
            duplicates._nearest(hashes, row, duplicates._NEIGHBOURS)
        seconds[count] = round(time.process_time() - start, 2)
        print(count, seconds[count], flush=True)
    return {"cpu_seconds_of_comparing_all_hashes": seconds}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--sheets", type=Path)
    given = parser.parse_args()
    if given.growth:
        made_by = {"made_by": "OMP_NUM_THREADS=1 python benchmarks/duplicates.py --growth", **machine()}
        out = Path(__file__).parent / "results" / "duplicates_growth.json"
        out.write_text(json.dumps(made_by | growth(), indent=1) + "\n", encoding="utf-8")
        return
    if given.data is None:
        parser.error("--data or --growth is needed")
    if given.exact:
        made_by = {"made_by": "OMP_NUM_THREADS=1 python benchmarks/duplicates.py --data SCANS --exact", **machine()}
        out = Path(__file__).parent / "results" / "duplicates_exact.json"
        out.write_text(json.dumps(made_by | exact(given.data), indent=1) + "\n", encoding="utf-8")
        return
    results: dict[str, Any] = {"made_by": "OMP_NUM_THREADS=1 python benchmarks/duplicates.py --data SCANS", **machine()}
    results["thresholds"] = duplicates.NEARLY_THE_SAME
    results["sets"] = {}
    for name, images in files(given.data).items():
        results["sets"][name] = measure(name, images, given.sheets)
        print(name, {key: value for key, value in results["sets"][name].items() if key != "found"})
    results["cpu_seconds_of_candidates_and_of_all"] = cpu_seconds_of_noise()
    out = Path(__file__).parent / "results" / "duplicates.json"
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
