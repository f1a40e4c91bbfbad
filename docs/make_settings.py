"""Makes docs/reference/settings.md from the settings classes, so that no setting is described twice:

    python docs/make_settings.py

What a setting means is taken from where it is declared: its field's description, the class's `Attributes:`, or the
comment on its line or above it. COMMON says what a name means in every method that has it.
"""

from __future__ import annotations

import importlib
import inspect
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ucseg.methods import METHODS
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.plan import Plan
from ucseg.training.masked_images import MaskedImagesConfig
from ucseg.training.settings import TrainConfig

PAGE = Path(__file__).parent / "reference" / "settings.md"
INTRODUCTION = """\
# Settings

<!-- Made by `python docs/make_settings.py`; a test holds it and the settings together. -->

Change a setting with `--set NAME=VALUE`, as often as you need. Write a value as in YAML (`true`, `null`,
`[32, 48, 32]`). An unknown name or a wrong value ends the command before it does anything, with the nearest known name.
`RUN/config.json` and `RUN/plan.yaml` keep all settings of a run.

| what | with `ucseg train` and `ucseg compare` | with `ucseg plan` |
| --- | --- | --- |
| training | `--set lr=0.02` | |
| plan | `--set plan.labelled_batch=4` (train) | `--set labelled_batch=4` |
| augmentation | `--set plan.augmentation.flip=0` (train) | `--set augmentation.flip=0` |
| method | `--set method.mixing=false`; in a comparison `--variants uc_seg:method.mixing=false` | |

`ucseg pretrain` takes the settings of training, those of the plan, and [its own](#pretraining).

The page of a method shows which equation a setting belongs to.
"""
COMMON = {
    "network": "see [Networks](networks.md)",
    "networks": "see [Networks](networks.md)",
    "subnets": "see [Networks](networks.md)",
    "decay": "decay of the teacher's weights, a running mean of the student's",
    "predict_with": "whose prediction is the method's",
    "ramp": "part of the steps after which the unlabelled terms have their whole weight",
    "temperature": "divides the logits, or likenesses, before the softmax",
    "gamma": "exponent of the focal weights",
    "consistency_weight": "weight of the term in which predictions should agree",
    "contrast_weight": "weight of the contrastive term",
    "smooth_weight": "weight of the adversarial smoothness",
    "calibration_weight": "weight of L_u, the evidential part of the supervised loss; 0: none",
    "beta_start": "beta_0 of L_u, which rises to 1",
    "ife_weight": "weight of the contrast with the feature memory; 0: none",
    "ic_weight": "weight of the contrast between regions of the two subnets; 0: none",
    "mixing": "copy-paste between labelled and unlabelled images",
    "mixing_box": "edge of the pasted box, a part of the patch's",
}


def page() -> str:
    """The page as it should be."""
    parts = [INTRODUCTION]
    parts += ["## Training\n", *table(TrainConfig, attributes(TrainConfig))]
    parts += [
        "\n## Plan\nChosen from the data ([plan.md](../explanation/plan.md)); `ucseg plan DATA --explain` says why.\n",
        *table(Plan, {name: field.description or "" for name, field in Plan.model_fields.items()}),
    ]
    parts += [
        "\n## Augmentation\nThe defaults here leave all off; `ucseg plan` writes into plan.yaml what it switches on.\n",
        *table(AugmentationConfig, comments(AugmentationConfig)),
    ]
    parts += [
        "\n## Pretraining\nOf `ucseg pretrain`, e.g. `--set method.networks=[unet]`; "
        "see [Start from known weights](../how-to/pretrain.md).\n",
        *table(MaskedImagesConfig, of_method(MaskedImagesConfig)),
    ]
    for name in METHODS:
        module = importlib.import_module(f"ucseg.methods.{name}")
        (config,) = {
            one
            for one in vars(module).values()
            if inspect.isclass(one) and issubclass(one, BaseModel) and one.__module__ == module.__name__
        }
        parts += [f"\n## Method [{name}](../methods/{name}.md)\n", *table(config, of_method(config))]
    return "\n".join(parts) + "\n"


def table(config: type[BaseModel], meaning: dict[str, str]) -> list[str]:
    """A line a setting."""
    if not config.model_fields:
        return ["No settings."]
    rows = ["| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, field in config.model_fields.items():
        default = "from the data" if field.is_required() else shown(field.get_default(call_default_factory=True))
        cells = [f"`{name}`", default, values(field), meaning.get(name, "")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def shown(value: Any) -> str:
    """A default, as YAML has it."""
    if isinstance(value, BaseModel):
        return "below"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def values(field: Any) -> str:
    """What a setting may be: its choices or its kind, with its limits."""
    text = re.sub(r"(typing\.|ucseg[\w.]*\.|annotated_types\.)", "", inspect.formatannotation(field.annotation))
    text = re.sub(r"Annotated\[(\w+), FieldInfo\(.*?\[.*?\]\)\]", r"\1", text)
    text = re.sub(r"Annotated\[(\w+), \w+\([^)]*\)\]", r"\1", text)
    text = re.sub(r"Optional\[(Literal\[[^]]*\])\]", r"\1 | None", text)
    text = re.sub(r"Literal\[([^]]*)\]", lambda found: found[1].replace(", ", " or "), text)
    text = re.sub(r"\bNone\b", "null", text.replace(" | ", " or ").replace("'", ""))
    for kind, words in {"int": "whole", "float": "number", "bool": "true or false", "str": "text"}.items():
        text = re.sub(rf"\b{kind}\b", words, text)
    for kind, words in {
        "dict[whole, text]": "names by number",
        "tuple[": "[",
        "Strides": "[[whole, ...], ...]",
    }.items():
        text = text.replace(kind, words)
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {getattr(one, key):g}" for one in field.metadata for key, sign in signs.items() if hasattr(one, key)
    ]
    return ", ".join([text, *limits])


def of_method(config: type[BaseModel]) -> dict[str, str]:
    """What COMMON says of a name, and what the method says of it."""
    own = attributes(config) | comments(config)
    return {name: "; ".join(text for text in (COMMON.get(name), own.get(name)) if text) for name in config.model_fields}


def attributes(config: type[BaseModel]) -> dict[str, str]:
    """Name -> text of the docstring's `Attributes:`; `a, b: of both` counts for each."""
    section = re.search(r"\n *Attributes:\n(.*)", inspect.cleandoc(config.__doc__ or ""), flags=re.DOTALL)
    found: dict[str, str] = {}
    for entry in re.split(r"\n    (?=\S)", "\n" + section[1]) if section else []:
        names, _, text = entry.strip().partition(": ")
        found |= dict.fromkeys(re.split(r",\s*", names), " ".join(text.split()))
    return found


def comments(config: type[BaseModel]) -> dict[str, str]:
    """Name -> the comment on the line of a field, or else the whole lines of comment above it."""
    source = inspect.getsource(config)
    lines = source.splitlines()
    remarks = {
        token.start[0]: (token.string.lstrip("# "), lines[token.start[0] - 1].lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, str] = {}
    above: list[str] = []
    field: str | None = None
    for number, line in enumerate(lines, start=1):
        remark, alone = remarks.get(number, ("", False))
        if alone:
            above.append(remark)
            continue
        if declared := re.match(r"    (\w+): ", line):
            field = declared[1]
            found[field] = " ".join(above)
        above = []
        if remark and field:
            found[field] = _joined(found[field], remark)
        if not line.strip():
            field = None
    return {name: text for name, text in found.items() if text}


def _joined(above: str, remark: str) -> str:
    """What is above a field may be sentences on it, which follow, or the heading of a group, which comes before."""
    if not above:
        return remark
    return f"{remark}. {above}" if above.endswith(".") else f"{above}: {remark}"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE}\n")
