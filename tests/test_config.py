"""A wrong setting fails where it enters, in one line, and the nearest right one is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from refusals import refused
from ucseg.config import Strict, build, merge, parse_overrides, read_yaml
from ucseg.errors import UserError
from ucseg.methods import METHODS, build_method
from ucseg.training.masked_images import MaskedImagesConfig
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
    with refused("setting-unknown", "setting-unknown") as caught:
        build(Outer, {"mixng": False, "inner": {"momentm": 1.0}}, "plan.yaml")
    inner, outer = sorted(str(caught.value).splitlines())
    assert all(name in inner for name in ("plan.yaml", "'inner.momentm'", "'momentum'"))
    assert all(name in outer for name in ("plan.yaml", "'mixng'", "'mixing'"))


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with refused("setting-unknown", naming=["here", "'zzz'", "inner, mixing, steps"]):
        build(Outer, {"zzz": 1}, "here")


def test_all_wrong_values_are_reported_together() -> None:
    with refused("setting-value", "setting-value") as caught:
        build(Outer, {"steps": 0, "mixing": "perhaps"}, "here")
    steps, mixing = str(caught.value).splitlines()
    assert "'steps' = 0" in steps and "at least 1" in steps
    assert "'mixing' = 'perhaps'" in mixing and "true or false" in mixing


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        ({"lr": "abc"}, "'lr' = 'abc'", "to be a number."),
        ({"steps": 1.5}, "'steps' = 1.5", "a whole number."),
        ({"precision": "fp64"}, "'precision' = 'fp64'", "'auto', 'bf16' or 'fp32'."),
        ({"momentum": 1}, "'momentum' = 1", "below 1."),
        ({"lr": 0}, "'lr' = 0", "above 0."),
        ({"lr": math.inf}, "'lr' = inf", "a finite number."),
        ({"hours": math.nan}, "'hours' = nan", "a finite number."),
        ({"device": 1}, "'device' = 1", "to be text."),
        ({"channels_last": "perhaps"}, "'channels_last' = 'perhaps'", "true or false."),
    ],
)
def test_what_a_training_setting_has_to_be_is_said(settings: dict[str, object], given: str, expected: str) -> None:
    with refused("setting-value", naming=["train", given, expected]):
        build(TrainConfig, settings, "train")


@pytest.mark.parametrize("given", [[], ["unet"], ["unet", "vnet", "unet"]])
def test_a_pair_needs_both_of_its_values(given: list[str]) -> None:
    with refused(
        "setting-value", naming=["method uc_seg", f"'subnets' = {given}", "2 values", "[unet_strided, unet_light]"]
    ):
        build_method("uc_seg", {"subnets": given}, PROBLEM)


def test_overrides_are_read_as_yaml_into_nested_keys() -> None:
    found = parse_overrides(["method.mixing=false", "steps=100", "method.levels=[3, 4]", "note=a=b", "seed="])
    assert found == {"method": {"mixing": False, "levels": [3, 4]}, "steps": 100, "note": "a=b", "seed": None}
    assert parse_overrides("steps=100") == {"steps": 100}, "a Python call may give one by itself"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (["steps"], "set-form"),
        (["=5"], "set-form"),
        (["method=uc_seg", "method.mixing=false"], "set-twice"),
        (["steps=[1"], "set-yaml"),
    ],
)
def test_overrides_that_cannot_be_read_are_named(settings: list[str], kind: str) -> None:
    with refused(kind, naming=f"--set {settings[-1]}"):
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
    with refused("yaml-missing", naming=tmp_path / "none.yaml"):
        read_yaml(tmp_path / "none.yaml")
    for text in ("a: [1", "a:\tb: c"):
        good.write_text(text)
        with refused("yaml-damaged", naming=good):
            read_yaml(good)
    good.write_bytes(b"\xff\xfe\xfa")
    with refused("yaml-damaged", naming=good):
        read_yaml(good)
    for text in ("", "- 1\n- 2\n"):
        good.write_text(text)
        with refused("yaml-damaged", naming=[good, "key: value"]):
            read_yaml(good)


def test_methods_and_their_settings_are_held_to_the_same() -> None:
    with pytest.raises(UserError, match=r"'ucseg'.*'uc_seg'"):
        build_method("ucseg", {}, PROBLEM)
    with pytest.raises(UserError, match=", ".join(METHODS)):
        build_method("xyz", {}, PROBLEM)
    with refused("setting-unknown", naming=["method uc_seg", "'lamda_max'", "'lambda_max'"]):
        build_method("uc_seg", {"lamda_max": 2}, PROBLEM)
    with pytest.raises(UserError, match=r"'resnet'.*unet, unet_coarse, unet_thin, unet_strided, vnet"):
        build_method("supervised", {"networks": ["resnet"]}, PROBLEM)


@pytest.mark.parametrize("name", list(METHODS))
def test_the_defaults_of_every_method_are_settings_that_can_be_written_down(name: str) -> None:
    config = METHODS[name].Config
    assert build(config, config().model_dump(mode="json"), name) == config()


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A billion values in a few hundred letters."""


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "[" * 60 + "]" * 60, "&a [*a]", BOMB, "1" * 5000, "\0"])
def test_yaml_that_is_out_of_all_bounds_is_refused(tmp_path: Path, value: str) -> None:
    with refused("set-yaml", naming="lr"):
        parse_overrides(f"lr={value}")
    (tmp_path / "plan.yaml").write_text(value)
    with refused("yaml-damaged", naming=tmp_path / "plan.yaml"):
        read_yaml(tmp_path / "plan.yaml")


@pytest.mark.parametrize("value", ["2020-13-45", "2020-01-02", "9" * 4000, "1e400", "[[1]]", ".nan"])
def test_a_value_that_no_setting_takes_is_one_short_sentence(value: str) -> None:
    for setting in ("lr", "steps", "workers"):
        with refused("setting-value", naming=setting) as error:
            build(TrainConfig, parse_overrides(f"{setting}={value}"), "train")
        assert len(str(error.value)) < 300


def test_a_date_is_text() -> None:
    assert parse_overrides("name=2020-01-02") == {"name": "2020-01-02"}


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [("workers", 100_000, 256), ("steps", 10**12, 10**9), ("devices", 10**6, 1024), ("lr", 1e9, 1000)],
)
def test_numbers_have_bounds(key: str, value: float, most: int) -> None:
    with refused("setting-value", naming=[key, f"at most {most:g}"]):
        build(TrainConfig, {key: value}, "train")


@pytest.mark.parametrize("config", [*(method.Config for method in METHODS.values()), MaskedImagesConfig])
def test_every_number_of_every_method_has_bounds(config: type[Strict]) -> None:
    """Also those in lists: no setting is NaN, infinite, or of an absurd size."""
    for key, field in config.model_fields.items():
        kind = str(field.annotation)
        if "int" not in kind and "float" not in kind:
            continue
        for value in (math.nan, math.inf, 1e12, 10**12, -(10**12)):
            for given in (value, [value, value]):
                with pytest.raises(UserError) as caught:
                    build(config, {key: given}, "method")
                assert set(caught.value.codes) == {"setting-value"}, key
