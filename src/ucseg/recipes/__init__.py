"""Recipes: a whole reproducible run in one file, for `ucseg run`.

Those with published settings are NAME.yaml beside this file. Any other data set that can be trained on has one by its
name too. Recipes that differ in the name only are made when they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from ucseg.catalogue import DATASETS, named
from ucseg.catalogue.splitting import chosen_split
from ucseg.config import Strict, build, check_keys, did_you_mean, read_yaml
from ucseg.errors import UserError
from ucseg.methods import METHODS, settings_of
from ucseg.planning.plan import Plan
from ucseg.training.settings import TrainConfig

FOLDER = Path(__file__).parent
SAME_AS = {"isic-2018": "polyps", "lgg-mri": "polyps", "tn3k": "polyps"}
"""Data sets that are published with the settings of another one."""
UNPUBLISHED = {
    "source": "Not published: a plan fitted to the data, 10 % of the labels, 10,000 steps.",
    "labelled": "10%",
    "steps": 10000,
}


class Recipe(Strict):
    """What a run is made of.

    Attributes:
        source: where the settings come from, in words.
        split: a published split; or
        labelled, validation, test: amounts, as `ucseg import` takes them.
        seed: of the training, and of what is drawn.
        plan: values of the plan to use instead of those chosen from the data.
    """

    source: str
    dataset: str
    split: str | None = None
    labelled: str | None = None
    validation: str | None = None
    test: str | None = None
    method: str = "uc_seg"
    steps: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    dims: int | None = None
    plan: dict[str, Any] = Field(default_factory=dict)
    method_settings: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


def read_recipe(name: str) -> Recipe:
    """A recipe by name or file, checked as far as that goes without data.

    Raises:
        UserError: there is no such recipe, or a key or value in it cannot be (an unknown key suggests the nearest).
    """
    path = Path(name) if Path(name).is_file() else FOLDER / f"{SAME_AS.get(name, name)}.yaml"
    if path.is_file():
        values = read_yaml(path) | ({"dataset": name} if path.stem == SAME_AS.get(name) else {})
    elif name in recipe_names():
        values = UNPUBLISHED | {"dataset": name}
    else:
        known = did_you_mean(name, recipe_names()) or f"known are {', '.join(recipe_names())}."
        raise UserError("recipe-missing", f"There is no recipe '{name}', neither a file nor a name; {known}")
    recipe = build(Recipe, values, str(path))
    chosen_split(recipe.dataset, named(recipe.dataset), recipe.split)
    check_keys(Plan, recipe.plan, f"{path}: plan")
    settings_of(recipe.method, {})
    build(METHODS[recipe.method].Config, recipe.method_settings, f"{path}: method_settings")
    build(TrainConfig, recipe.train, f"{path}: train")
    return recipe


def recipe_names() -> list[str]:
    """One for each data set that has training cases."""
    return sorted(name for name, public in DATASETS.items() if set(public.counts) != {"test"})
