"""A wrong setting fails where it enters, in one line, and the nearest right one is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from ucseg.config import Strict, build, merge, parse_overrides, read_yaml
from ucseg.errors import UserError
from ucseg.methods import METHODS, build_method
from ucseg.training.settings import TrainConfig
from ucseg.types import Problem

PROBLEM = Problem(2, 1, 2, (32, 32), (8, 8))


class Inner(Strict):
    momentum: float = 0.9


class Outer(Strict):
    steps: int = Field(10, ge=1)
    mixing: bool = True
    inner: Inner = Inner()


def test_settings_are_built_from_nested_values_and_cannot_change() -> None:
    made = build(Outer, {"steps": 5, "inner": {"momentum": 0.5}}, "here")
    assert (made.steps, made.mixing, made.inner.momentum) == (5, True, 0.5)
    with pytest.raises(ValidationError):
        made.steps = 6  # type: ignore[misc]


def test_an_unknown_key_names_the_nearest_one_at_every_depth() -> None:
    with pytest.raises(UserError) as caught:
        build(Outer, {"mixng": False, "inner": {"momentm": 1.0}}, "plan.yaml")
    assert sorted(str(caught.value).splitlines()) == [
        "plan.yaml: unknown setting 'inner.momentm'; did you mean 'momentum'?",
        "plan.yaml: unknown setting 'mixng'; did you mean 'mixing'?",
    ]


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown setting 'zzz'; known settings: inner, mixing, steps\."):
        build(Outer, {"zzz": 1}, "here")


def test_all_wrong_values_are_told_together() -> None:
    with pytest.raises(UserError) as caught:
        build(Outer, {"steps": 0, "mixing": "perhaps"}, "here")
    assert str(caught.value).splitlines() == [
        "here: setting 'steps' = 0: it has to be a number of at least 1.",
        "here: setting 'mixing' = 'perhaps': it has to be true or false.",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": "abc"}, "train: setting 'lr' = 'abc': it has to be a number."),
        ({"steps": 1.5}, "train: setting 'steps' = 1.5: it has to be a whole number."),
        ({"precision": "fp64"}, "train: setting 'precision' = 'fp64': it has to be 'auto', 'bf16' or 'fp32'."),
        ({"momentum": 1}, "train: setting 'momentum' = 1: it has to be a number below 1."),
        ({"lr": 0}, "train: setting 'lr' = 0: it has to be a number above 0."),
        ({"lr": math.inf}, "train: setting 'lr' = inf: it has to be a finite number."),
        ({"hours": math.nan}, "train: setting 'hours' = nan: it has to be a finite number."),
    ],
)
def test_what_a_training_setting_has_to_be_is_said(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        build(TrainConfig, settings, "train")
    assert str(caught.value) == said


@pytest.mark.parametrize("given", [[], ["unet"], ["unet", "vnet", "unet"]])
def test_a_pair_needs_both_of_its_values(given: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build_method("uc_seg", {"subnets": given}, PROBLEM)
    expected = "it has to be a list of 2 values, such as [unet, vnet]."
    assert str(caught.value) == f"method uc_seg: setting 'subnets' = {given}: {expected}"


def test_overrides_are_read_as_yaml_into_nested_keys() -> None:
    found = parse_overrides(["method.mixing=false", "steps=100", "method.levels=[3, 4]", "note=a=b", "seed="])
    assert found == {"method": {"mixing": False, "levels": [3, 4]}, "steps": 100, "note": "a=b", "seed": None}
    assert parse_overrides("steps=100") == {"steps": 100}, "a Python call may give one by itself"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["steps"], "not of the form key=value"),
        (["=5"], "not of the form key=value"),
        (["method=uc_seg", "method.mixing=false"], "contradicts an earlier --set of 'method'"),
        (["steps=[1"], "cannot be read as YAML"),
    ],
)
def test_overrides_that_cannot_be_read_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_overrides(settings)


def test_merge_goes_key_by_key_and_changes_neither_side() -> None:
    base, over = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 5}, "e": {"f": 6}}
    assert merge(base, over) == {"a": 1, "b": {"c": 5, "d": 3}, "e": {"f": 6}}
    assert base == {"a": 1, "b": {"c": 2, "d": 3}} and over == {"b": {"c": 5}, "e": {"f": 6}}
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_yaml_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("steps: 5\n")
    assert read_yaml(good) == {"steps": 5}
    with pytest.raises(UserError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")
    for text in ("a: [1", "a:\tb: c"):
        good.write_text(text)
        with pytest.raises(UserError, match=r"good\.yaml: this is not valid YAML"):
            read_yaml(good)
    good.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(good)
    for text in ("", "- 1\n- 2\n"):
        good.write_text(text)
        with pytest.raises(UserError, match="expected 'key: value' lines"):
            read_yaml(good)


def test_methods_and_their_settings_are_held_to_the_same() -> None:
    with pytest.raises(UserError, match=r"there is no method 'ucseg'; did you mean 'uc_seg'\?"):
        build_method("ucseg", {}, PROBLEM)
    with pytest.raises(UserError, match="known methods: " + ", ".join(METHODS)):
        build_method("xyz", {}, PROBLEM)
    with pytest.raises(UserError, match=r"method uc_seg: unknown setting 'lamda_max'; did you mean 'lambda_max'\?"):
        build_method("uc_seg", {"lamda_max": 2}, PROBLEM)
    with pytest.raises(UserError, match="there is no network 'resnet'; known networks: unet, vnet, vnet_norm"):
        build_method("supervised", {"networks": ["resnet"]}, PROBLEM)


@pytest.mark.parametrize("name", list(METHODS))
def test_the_defaults_of_every_method_are_settings_that_can_be_written_down(name: str) -> None:
    config = METHODS[name].Config
    assert build(config, config().model_dump(mode="json"), name) == config()
