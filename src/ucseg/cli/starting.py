"""Where a training starts, if not from random weights, and what differs then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucseg.cli.terminal import say
from ucseg.cli.training_words import say_where_it_starts

if TYPE_CHECKING:
    from ucseg.methods.base import Method
    from ucseg.planning.plan import Plan
    from ucseg.training.settings import TrainConfig

ENCODER = ".backbone."
"""Part of the names of an encoder's tensors."""


def going_on(
    config: TrainConfig, method: str, overrides: Mapping[str, Any], asked: Mapping[str, Any], resume: bool
) -> tuple[TrainConfig, Mapping[str, Any]]:
    """Settings of training and of the method, without the schedule for random weights where the weights are not random.

    The networks are those of the earlier run, whose defaults may have been others.
    Settings that the user gives stay. A resumed run has its settings already, and a preset is taken as it is.

    Args:
        overrides: settings of the method that are not its defaults.
        asked: settings of training that the user gives.
    """
    from ucseg.methods import METHODS, settings_of
    from ucseg.training.settings import GOING_ON
    from ucseg.training.start import earlier_networks

    if resume or config.init is None or method not in METHODS:
        return config, overrides
    known = earlier_networks(Path(config.init), method)
    if known is None:
        return config, overrides
    now = settings_of(method, overrides).model_dump(mode="json")
    others = {key: value for key, value in known.items() if now[key] != value}
    if others and not overrides.keys().isdisjoint({*others, "preset"}):
        return config, overrides  # the user wants networks that the run does not have
    of_training = {key: value for key, value in GOING_ON.items() if key not in asked}
    own = {} if "preset" in overrides else METHODS[method].going_on
    of_method = {key: value for key, value in own.items() if key not in overrides}
    texts = [f"{key}={value:g}" for key, value in of_training.items()]
    texts += [f"method.{key}={value:g}" for key, value in of_method.items()]
    texts += [f"method.{key}={json.dumps(value, separators=(',', ':'))}" for key, value in others.items()]
    if texts:
        say("goes-on", f"A run of this method goes on, so {', '.join(texts)}; --set changes it.")
    return config.model_copy(update=of_training), {**of_method, **others, **overrides}


def with_earlier_encoder(plan: Plan, init: str | None, method: str, given: Mapping[str, Any]) -> Plan:
    """As `plan_going_on`, which `say`s what changed."""
    from ucseg.training.start import plan_going_on

    if init is None:
        return plan
    chosen = plan_going_on(plan, Path(init), method, given)
    if chosen.encoder != plan.encoder:
        say(
            "goes-on-encoder",
            f"Plan: encoder = {chosen.encoder or 'null'}, as in {init}; --set plan.encoder changes it.",
        )
    return chosen


def load_start(model: Method, init: str | None, before: Any, kept: bool, resume: bool) -> dict[str, str] | None:
    """Load the weights to start from, and say which; what config.json keeps of them.

    A resumed run has its weights already: of it the record is kept, and compared if the user gives weights once more.
    """
    from ucseg.networks.pretrained import load_pretrained
    from ucseg.training.start import find_start, start_from

    encoders = [] if resume else load_pretrained(model)
    fit = start = None
    if init is not None and not kept:
        start = find_start(Path(init))
        fit = None if resume else start_from(model, start)
    if fit is None or any(ENCODER in name for name in fit.missing):
        for line in encoders:
            say("encoder-weights", line)
    if start is None:
        return dict(before) if before else None
    if fit is not None:
        say_where_it_starts(start.path, fit, model)
    return start.record
