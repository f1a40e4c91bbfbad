"""Labelled scans unlike the unlabelled ones, and classes with too few labels, are reported; chance is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ucseg.dataset.manifest import Dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.planning.facts import ClassFacts, Header, ScanFacts
from ucseg.planning.fingerprint import Fingerprint
from ucseg.soundness.before_training import few_labels
from ucseg.soundness.shift import shifts

HEAD = ClassFacts(100, 1, 5, 5, (5, 5, 5), (0.5, 0.5, 0.5))


def dataset(modality: str = "ct") -> Dataset:
    values: dict[str, Any] = {"modality": modality, "classes": {0: "background", 1: "organ", 2: "lesion"}}
    return Dataset(Path("data"), DatasetConfig(name="test", root=".", dims=3, channels=1, **values), [])


def fingerprint(labelled: int = 12, unlabelled: int = 60, lesions: int = 12, **of_unlabelled: float) -> Fingerprint:
    """Scans that differ by chance; of the unlabelled ones `bright` and `thick` are offsets of every scan."""
    rng = np.random.default_rng(0)
    headers, scans = {}, {}
    for index in range(labelled + unlabelled):
        known = index < labelled
        extra = {} if known else of_unlabelled
        headers[f"c{index}"] = Header((64, 64, 40), (1.0, 1.0, 2.0 + 1e-5 * index + extra.get("thick", 0.0)), "mm")
        middle = rng.normal(0, 10) + extra.get("bright", 0.0)
        classes = {1: HEAD, **({2: HEAD} if index < lesions else {})} if known else None
        percentiles = tuple(middle + rng.normal(0, 1) + step for step in (-50, -20, 0, 20, 50))
        scans[f"c{index}"] = ScanFacts(0.0, percentiles, None, b"", classes)
    return Fingerprint("mm", 2, headers, scans, tuple(f"c{i}" for i in range(labelled)), 3)


def test_scans_that_differ_by_chance_or_rounding_are_alike() -> None:
    assert list(shifts(fingerprint(), "ct")) == []


@pytest.mark.parametrize(
    ("difference", "figure"), [({"bright": 60.0}, "median intensity"), ({"thick": 3.0}, "spacing along axis 2")]
)
def test_a_shift_is_reported_with_its_size_and_examples(difference: dict[str, float], figure: str) -> None:
    found = [one for one in shifts(fingerprint(**difference), "ct") if figure in one.finding]
    assert [(one.kind, one.severity) for one in found] == [("shift", "warning")]
    assert "distance 1.00" in found[0].finding and re.search(r"\bc\d+", found[0].fix)


def test_a_shift_that_normalisation_takes_away_is_none() -> None:
    assert list(shifts(fingerprint(bright=60.0), "mri")) == []


def test_too_few_scans_prove_nothing() -> None:
    assert list(shifts(fingerprint(labelled=4, bright=60.0), "ct")) == []


def test_a_class_with_too_few_labels_is_named() -> None:
    (found,) = few_labels(dataset(), fingerprint(lesions=1))
    assert found.kind == "class-few-labels"
    assert all(part in found.finding for part in ("1 of 12", "2 'lesion'")) and "2 more" in found.fix
    assert list(few_labels(dataset(), fingerprint(lesions=3))) == []
