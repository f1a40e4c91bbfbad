"""`ucseg run`: a recipe from a folder of data to numbers on its test cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucseg.cli.terminal import say

if TYPE_CHECKING:
    from ucseg.evaluation.results import Evaluation


def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe (most data sets have one), or a file.")],
    folder: Annotated[Path, typer.Argument(help="Folder that holds the data set.")],
    out: Annotated[Path, typer.Option(help="Folder for dataset, run, masks and numbers.")],
    steps: Annotated[int | None, typer.Option(help="Number of updates, instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training, instead of the recipe's.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="key=value, as for `ucseg train`. May be repeated.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load batches.")] = None,
) -> Evaluation | None:
    """Import, plan, train, predict and evaluate, as a recipe says: one file repeats a whole run.

    OUT gets dataset/, run/, test/ (masks) and numbers/. The same command goes on after a stop; what is done is kept.

    Returns:
        The numbers on the test cases; None if the data set has none.

    Raises:
        UserError: there is a mistake in the recipe, or any that the single verbs report.
        Interrupted: stopped by the user, after saving.
    """
    from ucseg.cli.evaluate import evaluate
    from ucseg.cli.import_ import import_
    from ucseg.cli.plan import plan
    from ucseg.cli.predict import predict
    from ucseg.cli.train import train
    from ucseg.dataset.manifest import CONFIG_FILE, load_dataset
    from ucseg.recipes import read_recipe

    what = read_recipe(recipe)
    say("recipe", f"{recipe}: {what.source}")
    data, trained = out / "dataset", out / "run"
    if not (data / CONFIG_FILE).exists():
        import_(
            what.dataset, folder, data, split=what.split, validation=what.validation, test=what.test,
            labelled=what.labelled, seed=what.seed,
        )  # fmt: skip
    if not (data / "plan.yaml").exists():
        plan(data, dims=what.dims, set=_texts(what.plan))
    train(
        data,
        trained,
        method=what.method,
        steps=steps or what.steps,
        seed=what.seed if seed is None else seed,
        set=[*_texts(what.train), *_texts(what.method_settings, "method."), *(set or [])],
        resume=(trained / "config.json").exists(),
        device=device,
        workers=workers,
    )
    if not load_dataset(data).test:
        return None
    predict(trained, [data], out=out / "test", device=device or "auto", resume=(out / "test" / "cases.csv").exists())
    return evaluate(out / "test", data, out / "numbers", overwrite=True)


def _texts(values: Mapping[str, Any], room: str = "") -> list[str]:
    """As --set takes them; JSON is YAML."""
    return [f"{room}{key}={json.dumps(value)}" for key, value in values.items()]
