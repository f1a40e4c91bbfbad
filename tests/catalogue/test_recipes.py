"""Recipes: those that come with the package are sound, a wrong one says what is wrong, and one runs from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import grow

import ucseg
from refusals import refused
from ucseg.catalogue import DATASETS
from ucseg.errors import UserError
from ucseg.recipes import FOLDER, read_recipe, recipe_names

SMALL = """
source: a test
dataset: promise12
labelled: "2"
method: supervised
steps: 1
dims: 3
plan: {patch: [16, 16, 16], labelled_batch: 1, unlabelled_batch: 1}
train: {workers: 0}
"""


def test_every_data_set_that_can_be_trained_on_has_a_recipe() -> None:
    test_only = {name for name, public in DATASETS.items() if set(public.counts) == {"test"}}
    assert set(recipe_names()) == set(DATASETS) - test_only
    for name in recipe_names():
        assert read_recipe(name).dataset == name
    assert {file.stem for file in FOLDER.glob("*.yaml")} < set(recipe_names())


@pytest.mark.parametrize(
    ("change", "wrong", "hint"),
    [
        ("stpes: 2", "stpes", "steps"),
        ("plan: {pach: 16}", "pach", "patch"),
        ("train: {momentom: 1}", "momentom", "momentum"),
        ("method: supervisd", "supervisd", "supervised"),
        ("dataset: promise", "promise", "promise12"),
        ("split: 8-of-80", "8-of-80", "promise12"),
    ],
)
def test_a_wrong_recipe_is_named_with_what_was_meant(tmp_path: Path, change: str, wrong: str, hint: str) -> None:
    key = change.split(":", maxsplit=1)[0]
    kept = [line for line in SMALL.strip().splitlines() if not line.startswith(f"{key}:")]
    (tmp_path / "mine.yaml").write_text("\n".join([*kept, change]))
    with pytest.raises(UserError, match=rf"'{wrong}'.*\b{hint}\b"):
        ucseg.run(str(tmp_path / "mine.yaml"), tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    with refused("recipe-missing", naming=["acdcc", "'acdc'"]):
        ucseg.run("acdcc", tmp_path, out=tmp_path / "out")


def test_from_a_folder_to_numbers_and_again(tmp_path: Path) -> None:
    data = grow(tmp_path / "data", [f"Case0{n}{end}.mhd" for n in range(8) for end in ("", "_segmentation")])
    (tmp_path / "mine.yaml").write_text(SMALL)
    numbers = ucseg.run(str(tmp_path / "mine.yaml"), data, out=tmp_path / "out")
    assert len(numbers.cases) == 2
    again = ucseg.run(str(tmp_path / "mine.yaml"), data, out=tmp_path / "out")
    assert again.mean("dice") == numbers.mean("dice")
