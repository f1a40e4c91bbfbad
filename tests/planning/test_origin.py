"""A plan knows its dataset: what dataset.yaml said when it was made, and which training cases there were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.planning.origin import cases_changed, differences_from, origin_of, require_fit
from ucseg.planning.plan import plan_from, read_plan, write_plan
from ucseg.soundness.tables import findings_of_tables_and_folders

VALUES = {
    "dims": 2, "unit": "px", "spacing": 1, "size": [32, 32], "patch": 32, "token": 8, "labelled_batch": 2,
    "unlabelled_batch": 2, "channels": 1, "classes": {0: "background", 1: "liver", 2: "kidney"},
    "normalisation": "zscore",
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Two labelled cases, one unlabelled one and one of each other split, with the plan that was made of them."""
    cases = []
    for number, (split, labelled) in enumerate(
        [("train", True), ("train", True), ("train", False), ("validation", True), ("test", True)]
    ):
        label = np.zeros((32, 32), np.uint8)
        label[4:10, 4 : 12 + number], label[20:28, 6:20] = 1, 2
        image, mask = tmp_path / f"c{number}.png", tmp_path / f"c{number}_mask.png"
        Image.fromarray(label * 60 + np.random.default_rng(number).integers(0, 9, label.shape, np.uint8)).save(image)
        Image.fromarray(label).save(mask)
        cases.append(Case(f"c{number}", f"s{number}", image, mask if labelled else None, split))
    config = DatasetConfig(
        name="two", root=str(tmp_path), dims=2, modality="ultrasound", channels=1, classes=VALUES["classes"]
    )
    dataset = Dataset(tmp_path / "dataset", config, cases)
    save_dataset(dataset)
    write_plan(plan_from({**VALUES, "made_of": origin_of(dataset).model_dump()}, "test"), dataset.folder / "plan.yaml")
    return dataset


def edited(data: Dataset, **changes: Any) -> Dataset:
    """The dataset after dataset.yaml was changed by hand."""
    save_dataset(Dataset(data.folder, data.config.model_copy(update=changes), data.cases))
    return load_dataset(data.folder)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"classes": {0: "background", 1: "kidney", 2: "liver"}}, ["class 1", "'liver'", "'kidney'"]),
        ({"classes": {0: "background", 1: "liver"}}, ["3 classes", "2"]),
        ({"modality": "ct"}, ["modality", "ultrasound", "ct"]),
        ({"mask_threshold": 127.0}, ["mask_threshold", "null", "127.0"]),
        ({"fill_outlines": True}, ["fill_outlines", "false", "true"]),
        ({"channels": 3}, ["channels", "1", "3"]),
    ],
)
def test_every_verb_refuses_the_plan_of_what_the_dataset_was(
    data: Dataset, tmp_path: Path, changes: dict[str, Any], names: list[str]
) -> None:
    now = edited(data, **changes)
    for verb in (lambda: ucseg.train(data.folder, tmp_path / "run"), lambda: ucseg.prepare(data.folder)):
        with refused("plan-outdated", naming=[data.folder / "plan.yaml", "ucseg plan", *names]):
            verb()
    assert not (tmp_path / "run").exists() and not (data.folder / "cache").exists()
    found = {one.kind: one for one in findings_of_tables_and_folders(now)}["plan-outdated"]
    assert found.severity == "error" and all(name in found.finding for name in names)


def test_a_new_plan_and_a_plan_without_an_origin_fit(data: Dataset) -> None:
    now = edited(data, modality="ct")
    plan = read_plan(data.folder / "plan.yaml")
    assert differences_from(plan, now) and not differences_from(plan.model_copy(update={"made_of": None}), now)
    made = ucseg.plan(data.folder)
    assert made.made_of == origin_of(now) == read_plan(data.folder / "plan.yaml").made_of
    require_fit(made, now, "plan.yaml")


def test_other_training_cases_are_noted_and_others_are_free(data: Dataset) -> None:
    plan = read_plan(data.folder / "plan.yaml")
    assert cases_changed(plan, data) == ""
    label = data.cases[1].mask
    assert label is not None
    more = Dataset(data.folder, data.config, [*data.cases[:2], replace(data.cases[2], mask=label), *data.cases[3:]])
    assert "2 labelled and 1 unlabelled" in cases_changed(plan, more) and "3 labelled" in cases_changed(plan, more)
    without_test = Dataset(data.folder, data.config, data.cases[:4])
    assert cases_changed(plan, without_test) == ""
    Image.new("L", (40, 40)).save(data.cases[0].image.file)
    assert cases_changed(plan, data)


def test_init_says_that_the_plan_of_the_dataset_before_stays(data: Dataset, said: list[tuple[str, str]]) -> None:
    words = {"out": data.folder, "validation": "1", "test": "1", "modality": "ultrasound", "overwrite": True}
    ucseg.init(data.root, classes="background,kidney,liver", **words)
    assert "'liver' in the plan and 'kidney'" in dict(said)["plan-outdated"]
    said.clear()
    ucseg.plan(data.folder)
    ucseg.init(data.root, classes="background,kidney,liver", **words)
    assert "plan-outdated" not in dict(said)
