"""Which runs a comparison consists of: variants of methods x labelled amounts x seeds, and the ceiling."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ucseg.config import build
from ucseg.dataset.splits import share_or_cases
from ucseg.errors import UserError
from ucseg.methods import settings_of
from ucseg.training.settings import TrainConfig, check_hours, sort_settings

ALL = "all"
"""The labelled amount of the ceiling."""
BASELINE = "supervised"
# Both networks in one run, which do not see each other: the fair baseline of a method with one network is U-Net
# alone, that of a method with two networks their mean. In a run of equal time each of them would have half of it.
BASELINE_SETTINGS = ("method.networks=[unet,unet_strided]",)
COMMON = ("steps", "hours", "clock", "seed", "plan")
"""What is the same for every variant, or nothing would be compared."""
ELSEWHERE = {
    "method": ("common-method", "give it to the method, as in --variants uc_seg:{}"),
    "seed": ("common-seed", "the seeds are 0, 1, ...; give their number as --seeds"),
    "hours": ("common-hours", "give the time of each run as --hours-each"),
    "clock": ("common-clock", "--hours-each counts the work of a CPU, and the time that passes on a GPU"),
}
"""Settings that --set refuses, and what to do instead."""


@dataclass(frozen=True)
class Variant:
    """A method with its settings; `text` is how the user wrote it, e.g. "uc_seg:method.mixing=false".

    `alone`: the baseline is U-Net alone, as in comparisons of equal time.
    """

    text: str
    method: str
    settings: tuple[str, ...] = ()
    alone: bool = False

    @property
    def all_settings(self) -> tuple[str, ...]:
        """With those that every baseline has; the user's own come last and win."""
        both = self.method == BASELINE and not self.alone
        return (*BASELINE_SETTINGS, *self.settings) if both else self.settings

    @property
    def baseline(self) -> bool:
        return self.method == BASELINE

    @property
    def members(self) -> bool:
        """Whether its single networks are reported too."""
        return self.baseline and bool(self.all_settings)


@dataclass(frozen=True)
class Cell:
    """One training run of the grid."""

    variant: Variant
    labelled: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{file_name(self.variant.text)}-{file_name(self.labelled)}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.variant.text}, {self.labelled} labelled, seed {self.seed}"


def amount_name(text: str) -> str:
    """The one name of a labelled amount: "0.05" and "5.0%" are "5%", "100%" is "all"; a number of cases stays."""
    try:
        share, _ = share_or_cases(text, "--labelled")
    except UserError:
        return text  # refused where the cases are chosen, with all else that is wrong
    if share is None:
        return text
    return ALL if share == 1 else f"{100 * share:.10g}%"


def split_list(texts: str | Iterable[str]) -> list[str]:
    """ "a,b" or ["a", "b,c"] -> single words. Commas inside brackets do not separate."""
    whole = ",".join([texts] if isinstance(texts, str) else texts)
    return [word.strip() for word in _split(whole, ",") if word.strip()]


def parse_variants(texts: Sequence[str], alone: bool = False) -> tuple[list[Variant], list[UserError]]:
    """Variants, the baseline first whether it was named or not; and what is wrong with the others."""
    variants, problems = [Variant(BASELINE, BASELINE, alone=alone)], []
    for text in dict.fromkeys(texts):
        method, *settings = [part.strip() for part in _split(text, ":")]
        variant = Variant(":".join([method, *settings]), method, tuple(settings), alone)
        try:
            check_settings(variant, [])
        except UserError as error:
            problems.append(of_variant(text, error))
            continue
        if variant not in variants:
            variants.append(variant)
    return variants, problems


def of_variant(text: str, error: UserError) -> UserError:
    """The same error, with the variant named in front of each line."""
    named = UserError(error.code, "\n".join(f"variant '{text}': {line}" for line in str(error).splitlines()))
    named.codes = error.codes
    return named


def check_settings(variant: Variant, common: Sequence[str], options: Mapping[str, Any] | None = None) -> TrainConfig:
    """The settings of training that a variant ends up with; `options` are those that are not given with --set.

    Raises:
        UserError: unknown method or setting, or one that must be the same for all.
    """
    settings_of(variant.method, {})
    for setting in variant.settings:
        key, equals, _ = setting.partition("=")
        if not equals or not key.strip():
            raise UserError("variant-form", f"'{setting}' is not key=value, e.g. uc_seg:method.mixing=false.")
        if key.strip().split(".")[0] in COMMON:
            raise UserError("variant-common", f"'{key.strip()}' must be the same for all variants; give it to none.")
    found = sort_settings([*common, *variant.all_settings], options or {})
    settings_of(variant.method, found["method"])
    return build(TrainConfig, found["train"], "train")


def check_common(settings: Sequence[str], options: Mapping[str, Any]) -> TrainConfig:
    """The settings of training that every cell shares; `options` are those that are not given with --set.

    Raises:
        UserError: a setting that is unknown, or belongs to the grid, the plan or a method.
    """
    for setting in settings:
        room = setting.partition("=")[0].strip().split(".")[0]
        if room in ELSEWHERE:
            kind, advice = ELSEWHERE[room]
            raise UserError(kind, f"'--set {setting}': {advice.format(setting)}.")
    found = sort_settings(list(settings), options)
    if {"hours", "steps"} <= found["train"].keys():
        raise UserError(
            "hours-each-and-steps", "--hours-each and the number of steps contradict each other; give one of them."
        )
    config = build(TrainConfig, found["train"], "train")
    check_hours(config)
    return config


def cells(variants: Sequence[Variant], amounts: Sequence[str], seeds: int) -> list[Cell]:
    """The grid, seed by seed so that one stopped early has whole seeds; within a seed the cheap baseline first."""
    grid = []
    for seed in range(seeds):
        for variant in sorted(variants, key=lambda one: one.method != BASELINE):
            ceiling = [ALL] if variant.text == BASELINE and ALL not in amounts else []
            grid += [Cell(variant, labelled, seed) for labelled in [*amounts, *ceiling]]
    return grid


def file_name(text: str) -> str:
    """A name that file systems take and people can read; a digest keeps two texts from getting one name."""
    readable = text.replace(":", "+").replace("%", "pct")
    clean = re.sub(r"[^\w.=+-]", "_", readable)[:80]
    if clean == readable:
        return clean
    return f"{clean}-{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"


def _split(text: str, separator: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
