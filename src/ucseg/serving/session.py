"""Everything a running server knows: the dataset, its labels, the model, the queue and the trainings."""

from __future__ import annotations

import logging
import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CASES_FILE, Dataset, load_dataset
from ucseg.errors import UserError
from ucseg.planning.origin import require_fit
from ucseg.scans.address import Address
from ucseg.scans.dicom.series import read_file
from ucseg.scans.reading import files_of, is_dicom_scan, read_scan
from ucseg.serving.frame import Frame
from ucseg.serving.labels import FINAL, TAG, Labels, Version
from ucseg.serving.model import Answer, Model
from ucseg.serving.queue import STRATEGIES, Queue
from ucseg.serving.training import Trainings
from ucseg.serving.uploads import ending_of_upload, read_upload
from ucseg.types import Array

log = logging.getLogger("ucseg.serve")


class NotFoundError(UserError):
    """A client names what is not there."""


class Session:
    """A dataset and a run, served.

    Args:
        data: folder of the dataset.
        run: folder of the run.
        checkpoint: weights, as of `ucseg predict`.
        predicting: settings of the predictor.
        settings, steps: of the trainings.
        look_ahead: predict unlabelled cases while nothing else is to do, so that the queue can be sorted.

    Raises:
        UserError: the dataset or the run cannot be used, or they do not fit each other.
    """

    def __init__(
        self,
        data: Path,
        run: Path,
        checkpoint: str = "last",
        predicting: Mapping[str, Any] | None = None,
        settings: Sequence[str] = (),
        steps: int | None = None,
        look_ahead: bool = True,
    ) -> None:
        dataset = load_dataset(data)
        self.data = dataset.folder
        self.trainings = Trainings(self.data, run.absolute(), settings, steps, self._settle, self._take)
        self.model = Model(self.trainings.current, checkpoint, predicting)
        require_fit(self.model.predictor.plan, dataset, self.model.run / "plan.yaml")
        self.labels = Labels(self.data)  # all else is sound: from here on files are written
        try:
            self.queue = Queue(
                self.labels.folder / "queue.json",
                lambda: (self.dataset.unlabelled, self.dataset.labelled),
                lambda: dict(self.model.measures),
                lambda: self.trainings.ended,
            )
        except BaseException:
            self.labels.close()
            raise
        self._read = self._changed_at()
        self._dataset = dataset if not self.labels.versions else load_dataset(self.data)
        self._reading = threading.Lock()
        self._closing = threading.Event()
        self._scout = threading.Thread(target=self._look_ahead, daemon=True) if look_ahead else None

    def start(self) -> None:
        """Begin to train what waits, and to look at unlabelled cases."""
        self.trainings.start()
        if self._scout is not None:
            self._scout.start()

    def close(self) -> None:
        """Stop the training, which keeps its place, and let another server in."""
        self._closing.set()
        self.trainings.close()
        if self._scout is not None and self._scout.is_alive():
            self._scout.join(60)
        self.labels.close()

    @property
    def dataset(self) -> Dataset:
        """As cases.csv says now: labels come in, and a person may edit it."""
        with self._reading:
            now = self._changed_at()
            if now != self._read:
                self._dataset, self._read = load_dataset(self.data), now
            return self._dataset

    @property
    def strategies(self) -> dict[str, str]:
        """Those of the queue that the model can serve, with what they do."""
        several = all(math.isfinite(one.disagreement) for one in list(self.model.measures.values()))
        return {name: what for name, what in STRATEGIES.items() if several or name != "disagreement"}

    def score(self, name: str) -> float | None:
        """The failure score of a case, if the model has looked at it."""
        found = self.model.measures.get(name)
        return None if found is None else found.failure_score

    def case(self, name: str) -> Case:
        """A case by its name, or by the SeriesInstanceUID of its DICOM series. A name is looked up, never a path.

        Raises:
            NotFoundError: there is none.
        """
        for case in self.dataset.cases:
            if name and name in (case.case, case.image.part if case.image.format == "dicom" else ""):
                return case
        found = self._by_series().get(name)
        if found is None:
            raise NotFoundError("serve-image", "There is no image of this name; see /datastore/?output=all.")
        return self.case(found)

    def infer(self, name: str) -> tuple[Case, Frame, Answer]:
        """What the model says of a case.

        Raises:
            UserError: there is no such case, or its scan cannot be predicted.
        """
        case = self.case(name)
        answer = self.model.answer(case)
        return case, Frame.of(answer.scan, case.image.plain), answer

    def infer_file(self, file: Path) -> tuple[Frame, Answer]:
        """What the model says of an image that a client sent.

        Raises:
            UserError: it cannot be read or predicted.
        """
        address = Address.of(file)
        answer = self.model.answer_scan(read_scan(address))
        return Frame.of(answer.scan, address.plain), answer

    def label_of(self, name: str, tag: str) -> tuple[Case, Address]:
        """A case's mask: "final" is the one of cases.csv, "v1" the first that came to the server.

        Raises:
            NotFoundError: there is none.
        """
        case = self.case(name)
        if tag == FINAL and case.mask is not None:
            return case, case.mask
        for version in self.labels.of(case.case):
            if tag == f"v{version.number}":
                return case, Address.of(version.mask)
        raise NotFoundError("serve-label", "This image has no label of that tag; see /datastore/?output=all.")

    def receive(self, name: str, tag: str, file_name: str, content: bytes, params: Mapping[str, Any]) -> Version:
        """Take in a label that a viewer sent.

        Args:
            file_name: as the client says it; only its ending is used.
            params: what the client says of it: label_info, client_id.

        Raises:
            UserError: it is not a label of this image, or cannot be written; nothing is left of it then.
        """
        case = self.case(name)
        scan = read_scan(case.image)
        frame = Frame.of(scan, case.image.plain)
        segments = params.get("label_info") or []
        if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
            raise UserError("upload-segments", "label_info is no list of segments; send name and idx of each.")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"label{ending_of_upload(file_name)}"
            file.write_bytes(content)
            try:
                label = read_upload(file, segments, frame, self.dataset.config.classes)
            except UserError as error:
                raise UserError(error.code, str(error).replace(str(file), "The label")) from None
        return self.keep(case, label, scan, tag, {"how": "viewer", "client": params.get("client_id")})

    def keep(self, case: Case, label: Array, scan: Any, tag: str, note: Mapping[str, Any]) -> Version:
        """Save a label of S class indices as a new version.

        Raises:
            UserError: as of `Labels.save`.
        """
        if not TAG.fullmatch(tag):
            raise UserError("label-tag", "The tag is none; use up to 64 letters, digits, '-' and '_'.")
        client = note.get("client")
        about = {**note, "client": None if client is None else str(client)[:200], "tag": tag}
        about.setdefault("model", self.model.last_said(case.case))
        version = self.labels.save(case, label, scan, self.dataset.config, about)
        log.info("label %s of %s saved, from %s", version.mask.name, case.case, about["client"])
        for warning in version.warnings:
            log.warning("%s: %s", case.case, warning)
        return version

    def say(self, case: Case, what: str, who: str) -> None:
        """Keep that a person rejected a case, sent it to a viewer, or took that back ("open").

        Raises:
            UserError: it cannot be written.
        """
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self.queue.say(case.case, what, {"who": who[:200], "when": when, "model": self.model.last_said(case.case)})
        log.info("%s is %s", case.case, what)

    def _settle(self) -> None:
        self.labels.settle()

    def _take(self, run: Path) -> None:
        self.model.use(run)
        log.info("the weights of %s answer from now on", run)

    def _changed_at(self) -> tuple[int, int]:
        found = (self.data / CASES_FILE).stat()
        return found.st_mtime_ns, found.st_ino

    def _by_series(self) -> dict[str, str]:
        """SeriesInstanceUID -> case, of DICOM folders that cases.csv names without it. Read once."""
        if not hasattr(self, "_series"):
            self._series: dict[str, str] = {}
            for case in self.dataset.cases:
                if is_dicom_scan(case.image):
                    self._series[read_file(files_of(case.image)[0]).series] = case.case
        return self._series

    def _look_ahead(self) -> None:
        """Look at the training cases, first those without a mask, while no training runs."""
        failed: set[tuple[str, str]] = set()
        while not self._closing.is_set():
            weights, seen = self.model.origin["weights"], self.model.measures
            dataset = self.dataset
            cases = [] if self.trainings.running else [*self.queue.order("random"), *dataset.labelled]
            todo = next((one for one in cases if one.case not in seen and (one.case, weights) not in failed), None)
            if todo is None:
                self._closing.wait(1.0)
                continue
            try:
                self.model.look(todo)
            except (UserError, OSError) as error:
                log.warning("%s", error)
                failed.add((todo.case, weights))
