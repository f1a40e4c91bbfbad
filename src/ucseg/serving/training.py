"""Trainings that wait, run, stop and go on: one at a time, each in its own process and folder.

    DATA/trainings/0001/job.json   what was asked, and how it stands; a server that starts again goes on from here
    DATA/trainings/0001/data       the dataset as it was when the training began: later labels do not change it
    DATA/trainings/0001/run        the run's folder, as of `ucseg train`
    DATA/trainings/0001/log.txt    what it printed
    DATA/trainings/current.json    the run whose weights answer, and the run that the first of them began from

One server at a time has them: the one that holds the labels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ucseg.config import flat
from ucseg.dataset.manifest import CACHE, Dataset, load_dataset, save_dataset
from ucseg.errors import UserError
from ucseg.machine.lock import lock
from ucseg.machine.reading import read_json
from ucseg.machine.writing import make_folder, write_json
from ucseg.methods import METHODS
from ucseg.planning.plan import MOST_STEPS
from ucseg.training.run_folder import RunFolder

FOLDER = "trainings"
SUBMITTED, RUNNING, DONE, ERROR, STOPPED = "SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"
"""How a training stands, in the words of the viewers' protocol."""
LAST_LINES = 20
SHARE = 3
"""A training from weights makes one step in so many of the steps of the first run, if nothing else is said."""
_LOOK_AGAIN = 1.0
"""Seconds between two looks at a folder in which another process trains."""


class Trainings:
    """The trainings of a dataset.

    Args:
        data: folder of the dataset.
        run: the run that the first training starts from, if none of its trainings has ended yet.
        settings: --set words of every training.
        steps: of a training, if its client asks for none; None: a third of the run's.
        before: called before a training reads the dataset.
        ended: called with the folder of each run that has ended well.
    """

    def __init__(
        self,
        data: Path,
        run: Path,
        settings: Sequence[str] = (),
        steps: int | None = None,
        before: Callable[[], None] = lambda: None,
        ended: Callable[[Path], None] = lambda run: None,
    ) -> None:
        self.data, self.folder, self.first = data, data / FOLDER, run
        self.settings, self.steps = list(settings), steps
        self._before, self._ended = before, ended
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False
        files = sorted(self.folder.glob("[0-9]*/job.json"))
        self.jobs: list[dict[str, Any]] = [_job(file) for file in files]
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def current(self) -> Path:
        """The run whose weights answer: the last that has ended, of those that came from the first run."""
        file = self.folder / "current.json"
        if file.exists():
            known = read_json(file)
            if known.get("first") == str(self.first) and (found := Path(str(known.get("run")))).is_dir():
                return found
        return self.first

    @property
    def ended(self) -> int:
        """How many have ended well: each begins a new round of labels."""
        return sum(job["status"] == DONE for job in self.jobs)

    @property
    def usual_steps(self) -> int:
        """Of a training whose client asks for no number."""
        first = int(RunFolder(self.first).config.get("train", {}).get("steps", 3 * SHARE))
        return self.steps or max(1, first // SHARE)

    def start(self) -> None:
        """Begin to work on what waits, and go on with what a stopped server left."""
        self._thread.start()

    def close(self, wait: float = 60.0) -> None:
        """Stop the process that runs, after it has saved; its training keeps its place for the next server."""
        with self._changed:
            self._closing = True
            if self._process is not None:
                self._process.terminate()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait)

    def submit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A new training at the end of the queue; the one that waits already; or the one that was stopped, where no
        label has come since.

        Raises:
            UserError: it asks for what cannot be, or nothing can be written.
        """
        steps = request.get("steps")
        if steps is not None and (type(steps) is not int or not 1 <= steps <= MOST_STEPS):
            raise UserError("train-steps", f"steps = {steps}: is no number of steps; send a whole number above 0.")
        with self._changed:
            waiting = next((job for job in self.jobs if job["status"] == SUBMITTED), None)
            if waiting is None:
                waiting = self._stopped_as_it_was()
                if waiting is not None:
                    self._note(waiting, status=SUBMITTED, end_ts=None)
            if waiting is None:
                number = f"{1 + max((int(job['id']) for job in self.jobs), default=0):04d}"
                waiting = {"id": number, "status": SUBMITTED, "request": dict(request), "start_ts": _now()}
                make_folder(self.folder / number, "DATA")
                self._note(waiting)
                self.jobs.append(waiting)
            self._changed.notify_all()
            return self.shown(waiting)

    def stop(self) -> dict[str, Any] | None:
        """Stop the training that runs, which saves, and those that wait; the first of them, or None."""
        with self._changed:
            open_jobs = [job for job in self.jobs if job["status"] in (SUBMITTED, RUNNING)]
            for job in open_jobs:
                self._note(job, status=STOPPED, end_ts=_now())
            if self._process is not None:
                self._process.terminate()
            return self.shown(open_jobs[0]) if open_jobs else None

    @property
    def running(self) -> dict[str, Any] | None:
        """The training that runs, or waits to."""
        with self._changed:
            found = next((job for job in self.jobs if job["status"] == RUNNING), None)
            found = found or next((job for job in self.jobs if job["status"] == SUBMITTED), None)
            return None if found is None else self.shown(found)

    @property
    def last(self) -> dict[str, Any] | None:
        """The training that runs or waits, else the one that ended last."""
        if (found := self.running) is not None:
            return found
        with self._changed:
            ended = max(self.jobs, key=lambda job: str(job.get("end_ts")), default=None)
            return None if ended is None else self.shown(ended)

    def shown(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """A training as clients read it: with the last lines that it printed."""
        return {**job, "details": self.log(LAST_LINES, str(job["id"])).splitlines()}

    def log(self, lines: int, number: str = "") -> str:
        """The last lines of a training, or of the newest."""
        number = number or (str(self.jobs[-1]["id"]) if self.jobs else "")
        file = self.folder / number / "log.txt"
        if not number or not file.exists():
            return ""
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - 400 * lines))
            text = opened.read().decode("utf-8", "replace")
        return "\n".join(line.split("\r")[-1] for line in text.split("\n")[-lines - 1 :])

    def progress(self) -> dict[str, Any]:
        """Step, steps, best validation Dice and seconds of the training that runs or ran last; empty without one."""
        job = self.last
        if job is None:
            return {}
        run = RunFolder(self.folder / str(job["id"]) / "run")
        step, dice, seconds = 0, [], 0.0
        if run.metrics_file.exists():
            for line in run.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    found = json.loads(line)
                    step, seconds = int(found.get("step", step)), float(found.get("seconds", seconds))
                    value = found.get("validation", {}).get("dice")
                except (ValueError, TypeError, AttributeError):  # being written, or damaged by another
                    continue
                if isinstance(value, float):
                    dice.append(value)
        total = run.config.get("train", {}).get("steps", 0) if run.started else 0
        return {"step": step, "steps": total, "dice": dice[-1] if dice else None, "best": max(dice, default=None),
                "seconds": seconds, "status": job["status"], "id": job["id"]}  # fmt: skip

    def _stopped_as_it_was(self) -> dict[str, Any] | None:
        """The last training, if it was stopped and would begin with the same labels and weights today."""
        job = self.jobs[-1] if self.jobs else None
        if job is None or job["status"] != STOPPED or job.get("init") != str(self.current):
            return None
        frozen = self.folder / job["id"] / "data"
        if not (frozen / "dataset.yaml").exists():
            return None
        return job if _masks(load_dataset(frozen)) == _masks(load_dataset(self.data)) else None

    def _note(self, job: dict[str, Any], **changes: Any) -> None:
        job.update(changes)
        write_json(self.folder / job["id"] / "job.json", job)

    def _work(self) -> None:
        while True:
            with self._changed:
                job = None
                while not self._closing and job is None:
                    order = [one for status in (RUNNING, SUBMITTED) for one in self.jobs if one["status"] == status]
                    job = order[0] if order else None
                    if job is None:
                        self._changed.wait()
                if self._closing or job is None:
                    return
            try:
                code = self._train(job)
            except (UserError, OSError) as error:
                self._end(job, ERROR, str(error))
                continue
            if self._closing or job["status"] != RUNNING:  # stopped: it has saved
                continue
            if code:
                self._end(job, ERROR, self.log(LAST_LINES, job["id"]).strip().rpartition("\n")[2])
                continue
            try:
                run = self.folder / job["id"] / "run"
                self._ended(run)
                write_json(self.folder / "current.json", {"first": str(self.first), "run": str(run)})
                self._end(job, DONE)
            except UserError as error:
                self._end(job, ERROR, str(error))

    def _end(self, job: dict[str, Any], status: str, error: str = "") -> None:
        with self._changed:
            try:
                self._note(job, status=status, end_ts=_now(), **({"error": error} if error else {}))
            except UserError:  # the disk is full: the next server finds it as it was, and goes on
                job.update(status=status, end_ts=_now())

    def _train(self, job: dict[str, Any]) -> int:
        """Run it until it ends, however it ends; its exit code."""
        home = self.folder / job["id"]
        run = RunFolder(home / "run")
        while run.path.is_dir() and not self._closing and job["status"] in (RUNNING, SUBMITTED):
            held = lock(run.path)  # an earlier server was killed, and its training lives on
            if held is not None:
                held.release()
                break
            with self._changed:
                self._changed.wait(_LOOK_AGAIN)
        if self._finished(run):  # while no server was there to see it
            self._note(job, status=RUNNING)
            return 0
        if not (home / "data" / "dataset.yaml").exists():
            self._before()
            self._freeze(home / "data")
            self._note(job, init=str(self.current))
        words = self._words(job, home, run)
        with (home / "log.txt").open("ab") as log:
            with self._changed:
                if self._closing or job["status"] not in (RUNNING, SUBMITTED):
                    return 0
                self._note(job, status=RUNNING)
                self._process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            code = self._process.wait()
        with self._changed:
            self._process = None
        return code

    def _words(self, job: Mapping[str, Any], home: Path, run: RunFolder) -> list[str]:
        words = [sys.executable, "-m", "ucseg.cli.main", "train", str(home / "data"), "--out", str(run.path)]
        words += ["--cache", str(self.data / CACHE)]
        if run.started:
            return [*words, "--resume"]
        start = RunFolder(Path(job["init"]))
        name, settings = start.method
        usual = METHODS[name].Config().model_dump(mode="json")
        own = {key: value for key, value in flat(settings).items() if flat(usual).get(key) != value}
        steps = job["request"].get("steps") or self.usual_steps
        words += ["--init", str(start.path), "--plan", str(start.plan_file), "--method", name, "--steps", str(steps)]
        for text in [*(f"method.{key}={_yaml(value)}" for key, value in own.items()), *self.settings]:
            words += ["--set", text]
        return words

    def _freeze(self, folder: Path) -> None:
        """The dataset as it is now. Its root is absolute: the copy lies elsewhere."""
        found = load_dataset(self.data)
        make_folder(folder, "DATA")
        save_dataset(Dataset(folder, found.config.model_copy(update={"root": str(found.root)}), found.cases))

    @staticmethod
    def _finished(run: RunFolder) -> bool:
        return run.started and run.weights_file("last").with_suffix(".json").exists() and not run.unfinished


def _job(file: Path) -> dict[str, Any]:
    """What is known of a training. Its number is that of its folder, so that nothing is written elsewhere."""
    job = read_json(file)
    sound = job.get("id") == file.parent.name and job.get("status") in (SUBMITTED, RUNNING, DONE, ERROR, STOPPED)
    if not sound or not isinstance(job.get("request"), dict) or not isinstance(job.get("init", ""), str):
        raise UserError(
            "training-note", f"{file}: is not what ucseg wrote; restore it, or remove the folder {file.parent}."
        )
    return job


def _masks(dataset: Dataset) -> dict[str, tuple[str, str, str]]:
    return {case.case: (str(case.mask), case.split, str(case.slices)) for case in dataset.cases}


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
