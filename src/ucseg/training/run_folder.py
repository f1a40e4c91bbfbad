"""The folder of one training run: what is in it, and how it is written so that a kill leaves nothing half done."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ucseg.config import build, flat
from ucseg.errors import UserError
from ucseg.machine.lock import Lock, lock
from ucseg.machine.reading import read_json, read_text
from ucseg.machine.writing import json_text, make_folder, require_place, whole_file, write_json, write_text, writing
from ucseg.training.environment import environment
from ucseg.training.read_back import Reached, RunConfig, Starts

# Where and how fast a run computes, and how often it saves or logs, may differ between its parts. With another number
# of devices the result is the same up to rounding and to the draws of dropout.
# A dataset may have moved, and weights to start from: their content is in the configuration and may not differ.
FREE_ON_RESUME = frozenset(
    {f"train.{key}" for key in ("device", "devices", "nodes", "workers", "keep_memory", "save_every", "log_every")}
    | {"dataset", "images", "train.init", "init.file", "plan.always_present"}  # the last one trains nothing
)


OTHERS = ("dataset.yaml", "prediction.json", "comparison.json", "metrics.json")
"""Of a folder that another command wrote."""


class RunFolder:
    """One run on disk.

    - config.json: everything that decides the result: method and its settings, training settings, data
    - plan.yaml: how the data were prepared
    - codes.yaml: what DICOM segmentations call the classes; decides no result
    - environment.json: versions and machine, one entry for each start or resume
    - metrics.jsonl: one line for each logged step
    - time.json: where the time went, and what would help most
    - state.safetensors: the point to resume from: weights, optimiser, step, best, in one file
    - last, best, ema (.safetensors and .json): weights to predict with, and what is known of them
    - calibration.json: of the final weights, by the validation cases
    - weights.safetensors: what a finished pretraining hands on

    `verb` is the command that goes on with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: Lock | None = None
        self.also_log: Callable[[Mapping[str, Any]], None] | None = None
        self.config_file = self.path / "config.json"
        self.plan_file = self.path / "plan.yaml"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.state_file = self.path / "state.safetensors"
        self.pretrained_file = self.path / "weights.safetensors"

    @property
    def started(self) -> bool:
        return self.config_file.exists()

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says; a UserError if it says what cannot be."""
        values = read_json(self.config_file)
        build(RunConfig, values, str(self.config_file))
        return values

    @property
    def digest(self) -> str:
        """Of everything in config.json that decides the result. Weights and state carry it, so that edits are seen."""
        values = {key: value for key, value in flat(self.config).items() if key not in FREE_ON_RESUME}
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()

    def require_unchanged(self, made_with: object, file: Path) -> None:
        """Refuse weights or a state that carry another digest than the run's; earlier versions gave them none.

        Raises:
            UserError: config.json was edited, or the file is of another run.
        """
        if made_with is not None and made_with != self.digest:
            raise UserError(
                "run-changed",
                f"{self.config_file}: is not what {file.name} was trained with; restore both from a copy, or train "
                "again with another --out.",
            )

    @property
    def verb(self) -> str:
        return str(self.config.get("verb", "train"))

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        return f"ucseg {self.verb} {self.config.get('dataset', 'DATASET')} --out {self.path} --resume"

    @property
    def method(self) -> tuple[str, dict[str, Any]]:
        """The method's name, and its settings as they were at the start.

        Raises:
            UserError: config.json lacks them.
        """
        record = build(RunConfig, read_json(self.config_file), str(self.config_file)).method
        if record.name is None or record.config is None:
            raise UserError(
                "run-config-damaged",
                f"{self.config_file}: it lacks the method's name or settings; restore it from a copy or train again.",
            )
        return record.name, record.config

    def weights_file(self, which: str) -> Path:
        """Weights called "last", "best" or "ema"; what is known of them stands beside it as .json."""
        return self.path / f"{which}.safetensors"

    def _weights_and_note(self, which: str) -> tuple[Path, Path]:
        file = self.weights_file(which)
        return file, file.with_suffix(".json")

    @property
    def unfinished(self) -> str:
        """How far training is if it has not ended ("step 9 of 24"), else ""."""
        file = self.weights_file("last").with_suffix(".json")
        known = build(Reached, read_json(file) if file.exists() else {}, str(file))
        return f"step {known.step} of {known.of}" if known.step < known.of else ""

    def require(self, resume: bool, verb: str = "train") -> None:
        """Refuse to overwrite a run, and to resume where there is none.

        Raises:
            UserError: the folder cannot be written to; it holds a run and `resume` is off, or none and `resume` is on;
                or another verb has made the run.
        """
        require_place(self.path)
        if not self.started and (other := next((name for name in OTHERS if (self.path / name).exists()), None)):
            raise UserError(
                "run-out-taken", f"{self.path}: it holds a {other}, so it is no run's folder; choose another --out."
            )
        if self.started and not resume:
            raise UserError(
                "run-exists",
                f"{self.path}: there already is a run; continue it with --resume, or choose another --out.",
            )
        if resume and not self.started:
            raise UserError("run-not-there", f"{self.path}: there is no run; leave out --resume to start one.")
        if resume and self.verb != verb:
            raise UserError(
                "run-of-other-verb", f"{self.path}: this is a run of 'ucseg {self.verb}'; resume it with that command."
            )

    def begin(
        self, config: Mapping[str, Any], write_plan: Callable[[Path], None] | None = None, *, hold: bool = False
    ) -> None:
        """Make the folder and write the configuration; config.json comes last and shows that the run has started.

        Args:
            hold: keep other processes out first, as `hold` does.
        """
        if hold:
            self.hold()
        self.require(resume=False)
        make_folder(self.path, "--out")
        self._sweep()
        weights = [file for name in ("last", "best", "ema") for file in self._weights_and_note(name)]
        others = (self.metrics_file, self.state_file, self.environment_file, self.path / "calibration.json")
        for leftover in (*others, *weights):
            leftover.unlink(missing_ok=True)
        if write_plan is not None:
            with whole_file(self.plan_file, durable=True) as part:
                write_plan(part)
        write_json(self.config_file, config)

    def resume(self, config: Mapping[str, Any]) -> None:
        """Refuse a `config` that is not the run's own: a line for each setting that decides the result and differs."""
        self.require(resume=True, verb=str(config.get("verb", "train")))
        here, asked = flat(self.config), flat(json.loads(json_text(config)))
        name = "method.name"
        if here.get(name) != asked.get(name):  # its settings would all differ too
            raise UserError(
                "resume-method",
                f"{self.path}: this is a run of method {here.get(name)}, not {asked.get(name)}; "
                "resume it without --method, or start a new run with another --out.",
            )
        if "data" not in self.config:  # of an earlier version
            asked = {key: value for key, value in asked.items() if not key.startswith("data.")}
        differ = [
            key
            for key in sorted(here.keys() | asked.keys())
            if key not in FREE_ON_RESUME and here.get(key, _MISSING) != asked.get(key, _MISSING)
        ]
        # Without a setting the run was not made with its default: it may be what the default changes.
        rooms = ("method.config.", "plan.", "train.")
        if newer := [key for key in differ if key.startswith(rooms) and key not in here]:
            raise UserError(
                "resume-older",
                f"{self.path}: an earlier version made this run, without settings such as {newer[0]}; "
                f"start a new run with another --out, from its weights with --init {self.path}.",
            )
        wrong = [self._changed(key, here, asked) for key in differ if not key.startswith("cases.")]
        if others := [key.removeprefix("cases.") for key in differ if key.startswith("cases.")]:
            lists = [part for part in others if part != "content"]
            what = f"other {' and '.join(lists)} cases" if lists else "the same names, but other scans or masks"
            wrong.append(
                UserError(
                    "resume-cases",
                    f"{self.path}: the cases of {config.get('dataset')} have changed since the start ({what}); "
                    f"resume with {here.get('dataset')} as it was, or start a new run with another --out.",
                )
            )
        if wrong:
            raise UserError.together(wrong)
        self._sweep()

    def hold(self) -> None:
        """Keep other processes out until `let_go`, or until this process ends. The folder is made if it is not there.

        Raises:
            UserError: another process trains here, or the folder cannot be made.
        """
        make_folder(self.path, "--out")
        self._lock = lock(self.path)
        if self._lock is None:
            raise UserError(
                "run-busy", f"{self.path}: another process trains in this folder; wait until it ends, or stop it."
            )

    def let_go(self) -> None:
        """Let other processes in; nothing if the folder is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def require_data(self, reading: Mapping[str, Any]) -> None:
        """Refuse to go on when dataset.yaml reads images or masks in another way than at the start.

        Args:
            reading: what dataset.yaml says now; of a run of an earlier version it is not known.
        """
        known = self.config.get("data", {})
        now = json.loads(json_text({key: value for key, value in reading.items() if key in known}))
        here, asked = flat({"data": known}), flat({"data": now})
        differ = [key for key in sorted(here | asked) if here.get(key) != asked.get(key)]
        if differ:
            raise UserError.together([self._changed(key, here, asked) for key in differ])

    def _changed(self, key: str, here: Mapping[str, Any], asked: Mapping[str, Any]) -> UserError:
        what = f"'{key.removeprefix('data.')}' of dataset.yaml" if key.startswith("data.") else f"'{key}'"
        return UserError(
            "resume-setting",
            f"{self.path}: {what} was {_show(here, key)} at the start of the run and is {_show(asked, key)} now; "
            "resume with the first value, or start a new run with another --out.",
        )

    def cut_metrics(self, step: int) -> None:
        """Keep the lines of metrics.jsonl up to `step` steps done; what a killed run wrote after its save goes."""
        if not self.metrics_file.exists():
            return
        kept = []
        for line in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                break  # the line that was being written when the run was killed
        write_text(self.metrics_file, "".join(f"{line}\n" for line in kept))

    def log(self, file: TextIO, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl, which the caller has open."""
        with writing(self.metrics_file):
            file.write(json_text(line, indent=None))
            file.flush()
        if self.also_log is not None:
            self.also_log(line)

    def settle(self, file: TextIO) -> None:
        """Wait until metrics.jsonl is on disk."""
        with writing(self.metrics_file):
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """What was logged so far, one mapping a line."""
        if not self.metrics_file.exists():
            return []
        try:
            return [dict(json.loads(line)) for line in read_text(self.metrics_file).splitlines()]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(
                "metrics-damaged", f"{self.metrics_file}: cannot be read ({error}); restore it from a copy."
            ) from None

    def first_precision(self, asked: str) -> str:
        """The precision that the run began in, where it is to be the quicker one: timed again, it may be the other."""
        if asked != "auto" or not self.environment_file.exists():
            return asked
        starts = self._starts()
        first = starts[0].get("precision") if starts else None
        return first if first in ("bf16", "fp32") else asked

    def note_environment(self, **chosen: Any) -> None:
        """Add this start to environment.json, with what was chosen for it (device, precision)."""
        write_json(self.environment_file, {"starts": [*self._starts(), {**environment(), **chosen}]})

    def _starts(self) -> list[dict[str, Any]]:
        file = self.environment_file
        return build(Starts, read_json(file), str(file)).starts if file.exists() else []

    def _sweep(self) -> None:
        """Remove what a killed process was writing."""
        # safetensors itself writes to .tmp and six letters, beside the name that it is given.
        for part in [*self.path.glob(".*.part"), *self.path.glob(".tmp" + 6 * "?")]:
            part.unlink(missing_ok=True)


_MISSING = object()


def _show(values: Mapping[str, Any], key: str) -> str:
    return textwrap.shorten(repr(values[key]), 100, placeholder="...") if key in values else "not there"
