"""Which reference does a case of a report have? That of its evaluation, else its dataset's, of this very scan."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from ucseg.config import Strict, build
from ucseg.dataset.case import Case
from ucseg.dataset.fitting import fitted
from ucseg.dataset.manifest import Dataset, reference_masks
from ucseg.dataset.masks import read_label
from ucseg.errors import UserError, some
from ucseg.evaluation.matching import match
from ucseg.evaluation.reading import Reading, class_indices
from ucseg.folder.predictions import rows_of
from ucseg.machine.reading import read_json
from ucseg.reporting.sources import METRICS_FILE, Sources
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.scan import Scan
from ucseg.types import NOT_ANNOTATED, Array


class _How(Strict):
    """Of metrics.json: how masks of a folder were read."""

    model_config = ConfigDict(extra="allow")

    subject: str | None = None
    fill_outlines: bool | None = None
    mask_threshold: float | None = None
    values: dict[int, int] | None = None
    not_annotated: list[int] = Field(default_factory=list)
    classes: dict[int, str] = Field(default_factory=dict)


class References:
    """The references of predicted cases.

    Args:
        sources: an evaluation also gives those of the dataset that training did not see.
        data: the dataset; None: it is not known.

    Attributes:
        missing: why there are none of the evaluation.
    """

    def __init__(self, sources: Sources, data: Dataset | None) -> None:
        self._data = data
        self._cases = {case.case: case for case in data.cases} if data is not None else {}
        self._hidden = reference_masks(data) if data is not None and sources.numbers is not None else {}
        self.missing = [f"{sources.gone}: the references are not there, so they are not drawn."] if sources.gone else []
        self._evaluated: dict[str, Address] = {}
        if sources.references is not None and sources.masks is not None and sources.numbers is not None:
            file = sources.numbers / METRICS_FILE
            how = build(_How, read_json(file), str(file))
            self._reading = Reading(
                *(None, None, how.classes, False, bool(how.fill_outlines)),
                values=how.values,
                not_annotated=how.not_annotated,
                threshold=how.mask_threshold,
            )
            try:
                pairs = match(sources.masks, sources.references, subject=how.subject).pairs
            except UserError as error:
                self.missing.append(str(error))
            else:
                self._evaluated = {pair.prediction.stem: pair.reference.mask for pair in pairs}
                known = {pair.reference.case for pair in pairs}
                if gone := sorted({row["case"] for row in rows_of(sources.numbers)} - known):
                    self.missing.append(f"{sources.references}: holds no reference of {some(gone)} any more.")

    def case_of(self, name: str, row: dict[str, str]) -> Case | None:
        """The case of the dataset that was predicted; None: it has none, or another scan of this name."""
        case = self._cases.get(name)
        if case is None or row.get("file") == str(case.image):
            return case
        return case if row.get("content") and row["content"] == _content(case.image) else None

    def label(self, name: str, case: Case | None, image: Scan) -> Array | None:
        """S, class indices on the grid of the scan, with background where nobody says; None: there is none.

        Raises:
            UserError: it cannot be read.
        """
        shape, geometry = image.array.shape[1:], image.geometry
        if (mask := self._evaluated.get(name)) is not None:
            how = self._reading
            label, _ = class_indices(
                *(mask, how, how.filled_references, (shape, geometry)),
                numbers=how.values,
                above=how.threshold,
                none=how.not_annotated,
            )
            return fitted(label, shape, mask)
        if case is None or self._data is None or (known := self._hidden.get(name, case.mask)) is None:
            return None
        label = read_label(known, shape, self._data.config, geometry, case.slices)
        label[label == NOT_ANNOTATED] = 0
        return label


def _content(image: Address) -> str:
    try:
        return content_of(image)
    except (OSError, UserError):
        return ""  # it has gone: another scan was predicted
