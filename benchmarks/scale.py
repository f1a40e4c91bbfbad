"""Time, memory and busy cores of init, check, plan and prepare over growing numbers of generated cases.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --work WORK
    OMP_NUM_THREADS=1 python benchmarks/scale.py --work WORK --only photographs --verbs init,plan,prepare

KINDS says what is generated (demonstration/scans.py). A few cases are drawn and repeated: turned, moved round and with
other noise. Each verb is one process, on a dataset without a cache. Seconds are of the wall, start and imports
included. Peak memory is that of the verb and all its children at one moment, with shared pages counted once (PSS,
Linux). It is sampled every 250 ms, which costs the cores some ms each time. `cores_busy` is processor seconds over
seconds times cores. `cores_wanted` also counts the time in which a thread waited for a core (Linux's schedstat): it
says what cores would do that no other program used. More than 1 means more threads than cores.

`plain` is a floor for `prepare`, which carries over to other machines: one loop in one thread that reads image and mask
of each case with the library of their format, and saves both arrays. `start` holds processor seconds until `import
ucseg` and `ucseg --help` are done, beside those of Python alone and of typer, which draws the help.
Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from ucseg.demonstration.scans import draw_case
from ucseg.types import Array


@dataclass(frozen=True)
class Kind:
    """What is generated: look and S of demonstration/scans.py, ending of the images (masks of 2D images are PNG)."""

    look: str
    shape: tuple[int, ...]
    ending: str
    counts: tuple[int, ...]
    drawn: int = 20


KINDS = {
    "images": Kind("ultrasound", (64, 64), ".png", (100, 1000, 10_000)),
    "volumes": Kind("mri", (64, 64, 40), ".nii.gz", (100, 400)),
    # As large as real ones are:
    "photographs": Kind("endoscopy", (256, 256), ".jpg", (2000,)),
    "screenshots": Kind("endoscopy", (256, 256), ".png", (2000,)),
    "hippocampi": Kind("mri", (36, 50, 36), ".nii.gz", (500,)),
    "scans": Kind("mri", (128, 128, 128), ".nii.gz", (200,), 4),
}
VERBS = ("init", "check", "plan", "prepare")
ASIDE = "measured"
STARTS = {
    "python": "pass",
    "import typer": "import typer.main",
    "import ucseg": "import ucseg",
    "ucseg --help": "from ucseg.cli.main import main; main(['--help'])",
}


def moved(image: Array, mask: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Another place of the same drawing, so that `check` does not find copies."""
    axes = tuple(range(-mask.ndim, 0))
    by = [int(rng.integers(mask.shape[axis])) for axis in axes]
    turned = [axis for axis in axes if rng.random() < 0.5]
    image, mask = (np.flip(np.roll(array, by, axes), turned) for array in (image, mask))
    return image, mask


def generate(folder: Path, kind: Kind, count: int) -> None:
    """`count` cases, all with a mask."""
    if folder.exists():
        return
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    (part / "masks").mkdir()
    drawn = [draw_case(kind.look, kind.shape, 0, n) for n in range(min(count, kind.drawn))]
    rng = np.random.default_rng(0)
    for number in range(count):
        image, mask = drawn[number % len(drawn)]
        noise = rng.integers(-20, 21, image.shape, dtype=np.int16)
        if number >= len(drawn):
            image, mask = moved(image, mask, rng)
        if len(kind.shape) == 2:
            noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
            Image.fromarray(np.moveaxis(noisy, 0, -1).squeeze()).save(part / "images" / f"{number:05}{kind.ending}")
            Image.fromarray((mask > 0).astype(np.uint8) * 255).save(part / "masks" / f"{number:05}.png")
        else:
            for array, name in ((image[0] + noise[0], "images"), (mask, "masks")):
                whole = array.astype(np.int16 if name == "images" else np.uint8)
                volume: Any = nibabel.nifti1.Nifti1Image(whole, np.eye(4))  # type: ignore[no-untyped-call]
                volume.to_filename(part / name / f"{number:05}{kind.ending}")
    part.rename(folder)


def plain_seconds(scans: Path) -> float:
    """Of reading images and masks one after the other, and saving their arrays."""
    begun = time.perf_counter()
    made = Path(tempfile.mkdtemp(prefix="plain-", dir=scans.parent))
    for file in sorted(scans.glob("*/*")):
        if file.name.endswith(".nii.gz"):
            array = np.asarray(nibabel.nifti1.load(file).dataobj)
        else:
            array = np.asarray(Image.open(file))
        kept = array.astype(np.float16) if file.parent.name == "images" else array
        np.save(made / f"{file.parent.name}-{file.name}.npy", kept)
    seconds = time.perf_counter() - begun
    put_aside(made, scans.parent)
    return seconds


def put_aside(folder: Path, work: Path) -> None:
    """Out of the way now, removed once all is measured.

    ext4 does not give out an inode that was freed in the last half minute, and walks past each of them whenever a file
    is made: files removed just before would be measured as time of `prepare`.
    """
    if folder.exists():
        (work / ASIDE).mkdir(exist_ok=True)
        folder.rename(work / ASIDE / uuid.uuid4().hex)


def start_seconds(repeats: int = 9) -> dict[str, float]:
    """Processor seconds of a process that does each of STARTS, medians; by turns."""
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(repeats):
        for name, program in STARTS.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=True)
            found[name].append(processor_since(before))
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


def processor_since(before: resource.struct_rusage) -> float:
    """Processor seconds of children that have ended since."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(words: list[str]) -> dict[str, float]:
    """One verb in its own process."""
    # 2: `check` finds something to fix
    found = measure_command([sys.executable, "-m", "ucseg.cli.main", *words], good=(0, 2))
    return {key: value for key, value in found.items() if key != "cpu_seconds"}


def measure_command(
    command: list[str], environment: dict[str, str] | None = None, good: Sequence[int] = (0,)
) -> dict[str, float]:
    """One command in its own process, with all the processes that it starts. `good`: exit codes of success."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:  # a pipe would fill, and stop the command
        environment = None if environment is None else os.environ | environment
        verb = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        peak, wanted = 0.0, dict[int, float]()
        while verb.returncode is None:
            peak = max(peak, look(verb.pid, wanted))
            with contextlib.suppress(subprocess.TimeoutExpired):
                verb.wait(0.25)
        seconds = time.perf_counter() - begun
        if verb.returncode not in good:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)}\n{errors.read()}")
    processor = processor_since(before)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(processor, 2),
        "peak_mib": round(peak, 1),
        "cores_busy": round(processor / (seconds * cores()), 2),
        "cores_wanted": round(sum(wanted.values()) / (seconds * cores()), 2),
    }


def look(process: int, wanted: dict[int, float]) -> float:
    """MiB of a process and all its descendants; seconds that each thread ran or waited for a core go to `wanted`."""
    total = 0.0
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += next(float(line.split()[1]) / 2**10 for line in rollup.splitlines() if line.startswith("Pss:"))
        children: list[str] = []
        for task in Path(f"/proc/{process}/task").iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            wanted[int(task.name)] = (int(ran) + int(waited)) / 1e9
            children += (task / "children").read_text().split()
    except (OSError, StopIteration):  # it has just ended
        return total
    return total + sum(look(int(child), wanted) for child in children)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def row_of(work: Path, name: str, count: int, verbs: Sequence[str] = VERBS) -> dict[str, Any]:
    """Some verbs, one after the other, on `count` cases of a kind; without `init` on the dataset that is there."""
    scans, dataset = work / f"{name}-{count}", work / f"{name}-{count}-dataset"
    generate(scans, KINDS[name], count)
    row: dict[str, Any] = {"scans": name, "count": count}
    for verb in verbs:
        # What one verb measures, the next one would only read.
        put_aside(dataset if verb == "init" else dataset / "cache", work)
        told = ["init", str(scans), "--out", str(dataset)] if verb == "init" else [verb, str(dataset)]
        row[verb] = measure(told)
        if verb == "prepare":
            row["plain"] = {"seconds": round(plain_seconds(scans), 2)}
            row[verb]["over_plain"] = round(row[verb]["seconds"] / row["plain"]["seconds"], 2)
    print(row, flush=True)
    return row


def main() -> None:
    """See the module's docstring."""
    from provenance import RESULTS, machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for scans and datasets")
    parser.add_argument("--most", type=int, default=10_000, help="leave out larger counts")
    parser.add_argument("--only", choices=[*KINDS, "start"], action="append", help="the file keeps the others")
    parser.add_argument("--verbs", default=",".join(VERBS), help="the file keeps what it knows of the others")
    parser.add_argument("--generate", action="store_true", help="only the scans, so that nothing is measured beside it")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    words = parser.parse_args()
    kept: dict[str, Any] = json.loads(words.out.read_text())["kinds"] if words.only and words.out.exists() else {}
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    for name in words.only or [*KINDS, "start"]:
        counts = [] if name == "start" else [n for n in KINDS[name].counts if n <= words.most]
        if words.generate:
            for count in counts:
                generate(words.work / f"{name}-{count}", KINDS[name], count)
            continue
        found: Any = start_seconds() if name == "start" else None
        if found is None:
            before = {row["count"]: row for row in kept.get(name, {}).get("rows", [])}
            found = [before.get(n, {}) | row_of(words.work, name, n, words.verbs.split(",")) for n in counts]
        command = f"OMP_NUM_THREADS={threads} python benchmarks/scale.py --work WORK --only {name}"
        # The other verbs' figures stay as they are, of the commit that the file was made at then.
        command += "" if words.verbs == ",".join(VERBS) or name == "start" else f" --verbs {words.verbs}"
        kept[name] = {"command": command, "cores": cores(), **machine(), "rows": found}
        words.out.write_text(json.dumps({"kinds": kept}, indent=1) + "\n")
    shutil.rmtree(words.work / ASIDE, ignore_errors=True)


if __name__ == "__main__":
    main()
