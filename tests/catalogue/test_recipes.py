"""Recipes: those that come with the package are sound, a wrong one says what is wrong, and one runs from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import grow

import ucseg
from ucseg.catalogue import DATASETS
from ucseg.errors import UserError
from ucseg.recipes import read_recipe, recipe_names

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stpes: 2", "unknown setting 'stpes'; did you mean 'steps'"),
        ("plan: {pach: 16}", "unknown value 'pach' of a plan; did you mean 'patch'"),
        ("train: {momentom: 1}", "unknown setting 'momentom'; did you mean 'momentum'"),
        ("method: supervisd", "did you mean 'supervised'"),
        ("dataset: promise", "did you mean 'promise12'"),
        ("split: 8-of-80", "no published split of promise12"),
    ],
)
def test_a_wrong_recipe(tmp_path: Path, change: str, message: str) -> None:
    key = change.split(":", maxsplit=1)[0]
    kept = [line for line in SMALL.strip().splitlines() if not line.startswith(f"{key}:")]
    (tmp_path / "mine.yaml").write_text("\n".join([*kept, change]))
    with pytest.raises(UserError, match=message):
        ucseg.run(str(tmp_path / "mine.yaml"), tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'acdc'"):
        ucseg.run("acdcc", tmp_path, out=tmp_path / "out")


def test_from_a_folder_to_numbers_and_again(tmp_path: Path) -> None:
    data = grow(tmp_path / "data", [f"Case0{n}{end}.mhd" for n in range(8) for end in ("", "_segmentation")])
    (tmp_path / "mine.yaml").write_text(SMALL)
    numbers = ucseg.run(str(tmp_path / "mine.yaml"), data, out=tmp_path / "out")
    assert len(numbers.cases) == 2
    again = ucseg.run(str(tmp_path / "mine.yaml"), data, out=tmp_path / "out")
    assert again.mean("dice") == numbers.mean("dice")
