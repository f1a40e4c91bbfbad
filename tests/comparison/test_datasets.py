"""Derived datasets: which masks they show, and that the others are nowhere in them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ucseg
from refusals import refused
from ucseg.comparison.datasets import Cohort, check_fit, labelled_amounts, other_cohort, own_cohort, write_amount
from ucseg.comparison.definition import Definition, agree, choose_plan, earlier
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks
from ucseg.demonstration.scans import draw_dataset
from ucseg.planning.plan import plan_from

WORDS = {"validation": "2", "test": "3", "classes": "background,organ", "modality": "ultrasound", "seed": 4}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root / "scans", "ultrasound", 15, (32, 32), 0)
    ucseg.init(root / "scans", out=root / "all", **WORDS)
    return root


def test_shown_masks_are_those_of_init_and_nested(scans: Path) -> None:
    (two, half, everything), problems = labelled_amounts(load_dataset(scans / "all"), ["50%", "2"])
    assert problems == []
    assert [one.text for one in (two, half, everything)] == ["2", "50%", "all"]
    assert [len(one.labelled) for one in (two, half, everything)] == [2, 5, 10]
    assert set(two.labelled) < set(half.labelled) < set(everything.labelled)
    known = ucseg.init(scans / "scans", out=scans / "two", labelled="2", **WORDS)
    assert two.labelled == [case.case for case in known.labelled]


def test_a_derived_dataset_holds_no_trace_of_hidden_masks_or_test_cases(scans: Path, tmp_path: Path) -> None:
    source = load_dataset(scans / "all")
    amount = labelled_amounts(source, ["2"])[0][0]
    folder = write_amount(amount, tmp_path)
    written = load_dataset(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["cases.csv", "dataset.yaml"]
    assert len(written.training) == len(source.training)
    assert [case.mask for case in written.validation] == [case.mask for case in source.validation]
    assert written.test == []
    assert set(reference_masks(written)) == {*amount.labelled, *(case.case for case in source.validation)}
    text = (folder / "cases.csv").read_text()
    hidden = [case for case in source.labelled if case.case not in amount.labelled]
    assert hidden
    assert not any(f"masks/{case.mask.name}" in text for case in hidden if case.mask)


@pytest.mark.parametrize(
    ("amount", "code", "named"),
    [
        ("0", "amount-nothing", "--labelled 0"),
        ("11", None, "10"),  # as many as there are; refused as by `ucseg init`
        ("some", None, "'some'"),
        ("100.0%", "amount-everything", "'all'"),
        ("30%", "amounts-same", "--labelled 3 and 30%"),
    ],
)
def test_impossible_amounts_are_named(scans: Path, amount: str, code: str | None, named: str) -> None:
    found, (problem,) = labelled_amounts(load_dataset(scans / "all"), ["3", amount])
    assert [one.text for one in found] == ["3", "all"]
    assert named in str(problem)
    assert code in (None, problem.code)


def test_classes_of_another_dataset_belong_together_by_name(scans: Path) -> None:
    data = load_dataset(scans / "all")
    other = data.config.model_copy(update={"classes": {0: "nothing", 1: "b", 2: "a"}})
    cohort = Cohort("x", "x", Dataset(data.folder, other, data.cases), data.test, 0)
    label = np.array([[0, 1], [2, 2]])
    assert cohort.to_model(label, {0: "background", 1: "a", 2: "b"}).tolist() == [[0, 2], [1, 1]]
    with refused("test-set-classes", naming=["a, b", "organ", data.folder]):
        check_fit(data, cohort)


def test_a_test_set_must_fit_the_models(scans: Path) -> None:
    data = load_dataset(scans / "all")
    check_fit(data, own_cohort(data))
    with refused("test-set-no-mask", naming=data.folder):
        check_fit(data, Cohort("x", "x", data, [], 0))
    for change, value in (("dims", 3), ("channels", 4)):
        other = Dataset(data.folder, data.config.model_copy(update={change: value}), data.cases)
        with refused("test-set-images", naming=[f"{change} {value}", data.folder]):
            check_fit(data, Cohort("x", "x", other, data.test, 0))


def test_a_dataset_without_test_split_is_measured_whole(scans: Path, tmp_path: Path) -> None:
    words = WORDS | {"test": "0", "validation": "0"}
    ucseg.init(scans / "scans", out=tmp_path / "other", **words)
    assert len(other_cohort(tmp_path / "other").cases) == 15
    assert "test split" not in other_cohort(tmp_path / "other").title
    assert len(other_cohort(scans / "all").cases) == len(own_cohort(load_dataset(scans / "all")).cases) == 3


def test_the_plan_is_made_from_the_masks_of_the_smallest_amount_alone(scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scans / "scans", tmp_path / "scans")
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", **WORDS)
    data = load_dataset(tmp_path / "data")
    smallest = labelled_amounts(data, ["2", "4"])[0][0]
    for case in data.labelled:
        if case.case not in smallest.labelled:
            assert case.mask is not None
            case.mask.file.unlink()  # a hidden mask is not even looked at
    ucseg.plan(scans / "all", out=tmp_path / "data" / "plan.yaml", set=["labelled_batch=5"])  # knows all masks
    plan, said = choose_plan(smallest, {"unlabelled_batch": 3}, None)
    assert "--labelled 2" in said
    assert (plan.labelled_batch != 5, plan.unlabelled_batch) == (True, 3)
    kept = Definition({"plan": plan.model_copy(update={"labelled_batch": 3}).model_dump()}, {}, {}, "earlier words")
    assert choose_plan(smallest, {}, kept)[0].labelled_batch == 3  # finished cells were made with it
    assert choose_plan(smallest, {"labelled_batch": 4}, kept)[0].labelled_batch == 4  # which is then refused


def a_plan() -> dict[str, Any]:
    values = {
        "dims": 2, "unit": "px", "spacing": 1.0, "patch": 32, "token": 8, "labelled_batch": 1, "unlabelled_batch": 1,
        "channels": 1, "classes": {0: "background", 1: "organ"}, "normalisation": "unit",
    }  # fmt: skip
    plan: dict[str, Any] = json.loads(plan_from(values, "a test").model_dump_json(exclude={"made_of"}))
    return plan


def test_what_makes_cells_incomparable_is_named_and_growth_is_not(tmp_path: Path) -> None:
    plan = a_plan()
    older = {key: value for key, value in plan.items() if key != "slice_axis"}  # a setting that came later
    older["always_present"] = [1]  # what no cell depends on
    train = {"steps": 4, "lr": 0.01}
    before = Definition({"train": train, "plan": older, "tolerance": 2.0}, {"5%": ["a"]}, {"test": "x"}, "w")
    # As every comparison was before it said so; of its data it said nothing.
    now = before.fixed | {"plan": plan, "mirror": False, "data": {"mask_threshold": None}}
    grown = Definition(now, {"10%": ["a", "b"]}, {"test": "x", "other": "y"}, "later words")
    after = agree(before, grown, tmp_path)
    assert after == Definition(now, {"5%": ["a"], "10%": ["a", "b"]}, {"test": "x", "other": "y"}, "w")
    changed = Definition(
        now | {"train": {"steps": 8, "lr": 0.01}, "tolerance": 1.0}, {"5%": ["b"]}, {"test": "z"}, "w"
    )  # fmt: skip
    with refused(*["comparison-changed"] * 4, naming=["lost a", "gained b", "'steps' was 4"]) as error:
        agree(before, changed, tmp_path)
    recoded = Definition(now | {"data": {"mask_threshold": 127.0}}, {}, {}, "w")
    with refused("comparison-changed", naming=["'mask_threshold'", "null", "127.0"]):
        agree(grown, recoded, tmp_path)
    lines = str(error.value).splitlines()
    for named in ("'steps'", "'tolerance'", "labelled cases of 5%", "of test"):
        assert sum(named in line for line in lines) == 1
    with refused("comparison-changed", naming=["'labelled cases of 5%'", "order"]):
        agree(replace(before, labelled={"5%": ["a", "b"]}), replace(grown, labelled={"5%": ["b", "a"]}), tmp_path)
    larger = replace(grown, fixed=now | {"plan": plan | {"patch": [64, 64]}})
    with refused("comparison-changed", naming=["'plan.patch'", [32, 32], [64, 64]]):
        agree(before, larger, tmp_path)
    with refused("amount-twin", naming=["--labelled 1", "5%"]):
        agree(before, replace(grown, labelled={"1": ["a"]}), tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    assert earlier(tmp_path / "new") is None
    (tmp_path / "dataset.yaml").touch()
    with refused("not-a-comparison", naming=[tmp_path, "dataset.yaml"]):
        earlier(tmp_path)
    (tmp_path / "comparison.json").write_text('{"other": 1}')
    with refused("comparison-damaged", naming=tmp_path / "comparison.json"):
        earlier(tmp_path)
