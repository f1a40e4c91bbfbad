"""The folder of one training run: what is in it, and how it is written so that a kill leaves nothing half done."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ucseg.errors import UserError
from ucseg.machine.writing import make_folder
from ucseg.training.environment import environment

# Where and how fast a run computes, and how often it saves or logs, may differ between its parts. With another number
# of devices the result is the same up to rounding and to the draws of dropout.
# A dataset may have moved: its cases and their content are in the configuration and may not differ.
FREE_ON_RESUME = frozenset(
    {f"train.{key}" for key in ("device", "devices", "nodes", "workers", "keep_memory", "save_every", "log_every")}
    | {"dataset"}
)


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file so that at every moment `path` is either the old file or the whole new one.

    `write` fills a temporary file in the same folder, which then takes the name in one step.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # safetensors gives its files to their owner alone
        temporary.replace(path)
        if os.name == "posix":  # the new name itself must outlive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all. Figures that are not finite become null."""
    replace_file(path, lambda temporary: _write_text(temporary, json_text(values)))


def json_text(values: Mapping[str, Any], indent: int | None = 2) -> str:
    """JSON in which figures that are not finite are null; it ends with its line."""
    return json.dumps(_plain(values), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; a UserError when it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "todo",
            f"{path}: there is no such file; is {path.parent} the folder of a training run?",
        ) from None
    except (OSError, ValueError) as error:
        raise UserError("todo", f"{path}: cannot be read ({error}); restore it from a copy or train anew.") from None
    if not isinstance(values, dict):
        raise UserError("todo", f"{path}: does not hold named values; restore it from a copy or train anew.")
    return values


class RunFolder:
    """One run on disk.

    config.json       everything that decides the result: method and its settings, training settings, data
    plan.yaml         how the data were prepared
    codes.yaml        what DICOM segmentations call the classes; decides no result
    environment.json  versions and machine, one entry a start or resume
    metrics.jsonl     one line a logged step
    time.json         where the time went, and what would help most
    state.safetensors the point to resume from: weights, optimiser, step, best, in one file
    last/best/ema .safetensors + .json   weights to predict with, and what is known of them
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.plan_file = self.path / "plan.yaml"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.state_file = self.path / "state.safetensors"

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return self.config_file.exists()

    @property
    def config(self) -> dict[str, Any]:
        """The complete configuration of the run."""
        return read_json(self.config_file)

    def weights_file(self, which: str) -> Path:
        """Weights called "last", "best" or "ema"; what is known of them stands beside it as .json."""
        return self.path / f"{which}.safetensors"

    @property
    def unfinished(self) -> str:
        """How far training has come where it is not at its end ("step 9 of 24"), else ""."""
        file = self.weights_file("last").with_suffix(".json")
        known = read_json(file) if file.exists() else {}
        step, of = known.get("step", 0), known.get("of", 0)
        return f"step {step} of {of}" if step < of else ""

    def require(self, resume: bool) -> None:
        """Refuse what would destroy a run, or resume none.

        Raises:
            UserError: nothing can be written here, a run is here and `resume` is off, or none is and `resume` is on.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError("todo", f"{self.path}: this is a file; choose another --out for the run's folder.")
        there = next(folder for folder in [self.path, *self.path.absolute().parents] if folder.exists())
        if not os.access(there, os.W_OK):
            raise UserError("todo", f"{self.path}: nothing can be written in {there}; choose another --out.")
        if self.started and not resume:
            raise UserError(
                "todo",
                f"{self.path}: there is a run in this folder already; "
                "go on with it by --resume, or choose another --out (or delete the folder) to train anew.",
            )
        if resume and not self.started:
            raise UserError(
                "todo",
                f"{self.path}: there is no run to resume in this folder; leave out --resume to begin one.",
            )

    def begin(self, config: Mapping[str, Any], write_plan: Callable[[Path], None] | None = None) -> None:
        """Make the folder and write the configuration; config.json comes last and says that the run has begun."""
        self.require(resume=False)
        make_folder(self.path, "--out")
        self._sweep()
        for leftover in (self.metrics_file, self.state_file, self.environment_file):
            leftover.unlink(missing_ok=True)
        if write_plan is not None:
            replace_file(self.plan_file, write_plan)
        write_json(self.config_file, config)

    def resume(self, config: Mapping[str, Any]) -> None:
        """Check that `config` is the run's own.

        Raises:
            UserError: no run here, or a setting that decides the result differs (one line each, with both values).
        """
        self.require(resume=True)
        from ucseg.training.settings import TrainConfig

        # A setting that ucseg did not have when the run began was what its default is now.
        here = _flat({"train": TrainConfig.model_validate({}).model_dump(mode="json")}) | _flat(_plain(self.config))
        asked = _flat(_plain(config))
        name = "method.name"
        if here.get(name) != asked.get(name):  # of which all its settings follow
            raise UserError(
                "todo",
                f"{self.path}: this is a run of method {here.get(name)}, not of {asked.get(name)}; "
                "resume it without --method, or train anew with another --out.",
            )
        differ = [
            key
            for key in sorted(here.keys() | asked.keys())
            if key not in FREE_ON_RESUME and here.get(key, _MISSING) != asked.get(key, _MISSING)
        ]
        wrong = [
            f"{self.path}: '{key}' was {_show(here, key)} when the run began and is {_show(asked, key)} now; "
            "resume with the value it began with, or train anew in another folder."
            for key in differ
            if not key.startswith("cases.")
        ]
        if others := [key.removeprefix("cases.") for key in differ if key.startswith("cases.")]:
            lists = [part for part in others if part != "content"]
            what = f"other {' and '.join(lists)} cases" if lists else "the same names, but of other scans or masks"
            wrong.append(
                f"{self.path}: the cases of {config.get('dataset')} are not those that the run began with ({what}); "
                f"resume with {here.get('dataset')} as it was then, or train anew with another --out."
            )
        if wrong:
            raise UserError("todo", "\n".join(wrong))
        self._sweep()

    def cut_metrics(self, step: int) -> None:
        """Keep the lines of metrics.jsonl up to `step` steps done; what a killed run wrote after its save goes."""
        if not self.metrics_file.exists():
            return
        kept = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                done = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError):
                break  # the line that was being written when the run was killed
            if done <= step:
                kept.append(line)
        text = "".join(f"{line}\n" for line in kept)
        replace_file(self.metrics_file, lambda temporary: _write_text(temporary, text))

    def metrics(self) -> list[dict[str, Any]]:
        """What was logged so far, one mapping a line."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]

    def note_environment(self, **chosen: Any) -> None:
        """Add this start to environment.json, with what was chosen for it (device, precision)."""
        starts = read_json(self.environment_file)["starts"] if self.environment_file.exists() else []
        write_json(self.environment_file, {"starts": [*starts, {**environment(), **chosen}]})

    def _sweep(self) -> None:
        """Remove what a killed process was writing."""
        # safetensors writes under a name of its own, .tmp and six letters, beside the one that it is given.
        for part in [*self.path.glob(".*.part"), *self.path.glob(".tmp" + 6 * "?")]:
            part.unlink(missing_ok=True)


class MetricsLog:
    """metrics.jsonl, open for appending."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        self._file.write(json_text(line, indent=None))
        self._file.flush()

    def settle(self) -> None:
        """Return once the lines are on disk: a saved state must never be ahead of its log."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_MISSING = object()


def _show(values: Mapping[str, Any], key: str) -> str:
    return textwrap.shorten(repr(values[key]), 100, placeholder="...") if key in values else "not there"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def _plain(value: Any) -> Any:
    """What JSON can hold: paths as text, tuples as lists, keys as text, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124
        return None
    return value


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
