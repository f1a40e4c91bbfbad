"""Strict settings: an unknown key fails and suggests the nearest one; every value is checked where it enters."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ucseg.errors import UserError
from ucseg.machine.reading import read_text

T = TypeVar("T", bound="Strict")

MOST_VALUES, MOST_DEEP = 100_000, 50
"""In a YAML text, and how deeply they may nest."""
SHOWN = 120
"""Letters of a wrong value in a message."""


class Strict(BaseModel):
    """Base of every settings class: no unknown keys, no silent changes after creation, no number that is not finite.

    NaN passes through most comparisons, and config.json could hold neither it nor infinity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def build(model: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make settings from nested plain values; `where` names their origin in an error, e.g. "plan.yaml".

    Raises:
        UserError: one line for each problem; an unknown key names the nearest known one.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        # A list that lacks several values is a problem for each; the last one knows how many it needs.
        lines = {_place(problem): _mistake(model, problem, where) for problem in error.errors()}
        raise UserError.together([*lines.values()]) from None


def check_keys(model: type[T], values: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys of settings whose other values are not known yet: as `build`, of the keys alone."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        found = [_mistake(model, problem, where) for problem in error.errors() if problem["type"] == "extra_forbidden"]
        if found:
            raise UserError.together(found) from None


def _place(problem: ErrorDetails) -> tuple[int | str, ...]:
    """Where the setting is that is wrong: of a list of fixed length, the list, not the value that it lacks."""
    location = problem["loc"]
    return location[:-1] if problem["type"] == "missing" and isinstance(location[-1], int) else location


def _mistake(model: type[BaseModel], problem: ErrorDetails, where: str) -> UserError:
    place = _place(problem)
    key = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden":
        return UserError("setting-unknown", f"{where}: unknown setting '{key}'; {_nearest(model, place)}")
    if place == problem["loc"] and problem["type"] == "missing":
        return UserError("setting-missing", f"{where}: setting '{key}' is missing.")
    given = _short(problem["input"])
    return UserError("setting-value", f"{where}: setting '{key}' = {given}: {_expected(model, problem)}.")


def _short(value: Any) -> str:
    """As Python writes it, up to a length that a person reads."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of more than 4300 digits
        return "a value too long to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string_type": "text",
    "tuple": "a list, such as [a, b]",
    "list": "a list, such as [a, b]",
    "too_short": "a list of at least {min_length}",
    "dict": "values by name, such as {{a: 1}}",
    "model": "settings by name",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
}
"""What a setting has to be, by pydantic's name of the problem or by its first word ("int_parsing").

Of other problems pydantic's own message is given.
"""


def _expected(model: type[BaseModel], problem: ErrorDetails) -> str:
    context, place = problem.get("ctx", {}), _place(problem)
    if problem["type"] in ("missing", "too_long"):  # a list of fixed length: no other has a greatest one
        field = _fields(model, place).get(str(place[-1]))
        default = None if field is None else field.default
        example = f", such as [{', '.join(map(str, default))}]" if isinstance(default, tuple) else ""
        length = context["max_length"] if "max_length" in context else int(problem["loc"][-1]) + 1
        return f"it has to be a list of {length} values{example}"
    known = _EXPECTED.get(problem["type"]) or _EXPECTED.get(problem["type"].split("_")[0])
    if known is not None:
        return f"it has to be {known.format(**context)}"
    return str(context.get("error", problem["msg"])).rstrip(".")


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """Of the settings in which the last part of a location is."""
    fields = model.model_fields
    for part in location[:-1]:
        inner = fields[str(part)].annotation if str(part) in fields else None
        inner = get_args(inner)[-1] if get_origin(inner) is dict else inner
        if inner is None:
            continue  # the key of a mapping whose values are settings
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        fields = inner.model_fields
    return fields


def _nearest(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    fields = _fields(model, location)
    return did_you_mean(str(location[-1]), fields) or f"known settings: {', '.join(sorted(fields))}."


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """ "did you mean 'X'?", X being `before` and the nearest known name; "" where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{before}{close[0]}'?" if close else ""


def parse_overrides(settings: str | Iterable[str]) -> dict[str, Any]:
    """["method.mixing=false", "steps=100"] -> {"method": {"mixing": False}, "steps": 100}. Values are read as YAML.

    Python callers may give one setting by itself: set="steps=100".
    """
    out: dict[str, Any] = {}
    for setting in [settings] if isinstance(settings, str) else settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError("set-form", f"'--set {setting}' is not key=value, e.g. --set method.mixing=false.")
        node = out
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(
                    "set-twice", f"'--set {setting}' contradicts an earlier --set of '{parent}'; give one of them."
                )
        try:
            node[leaf] = load_yaml(value)
        except ValueError as error:
            said = f"'--set {setting[:SHOWN]}': the value is not valid YAML ({error}); put it in quotes."
            raise UserError("set-yaml", said) from None
    return out


class _Loader(yaml.SafeLoader):
    """YAML without dates, which no setting has: "2020-13-45" is text, that a setting takes or refuses."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its base has it
        letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        ValueError: it is not valid, it nests too deeply, or it holds more than any file of settings (a few aliases of
            aliases make millions of values).
    """
    try:
        values = yaml.load(text, _Loader)
        size = _count(values, MOST_DEEP)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ValueError((str(error) or "no reason is known").splitlines()[0]) from None
    except RecursionError:
        size = MOST_VALUES + 1
    if size > MOST_VALUES:
        raise ValueError("it holds too many values, or nests too deeply")
    return values


def _count(value: Any, deep: int) -> int:
    """How many values are in one, those of aliases each time; more than MOST_VALUES where it is too deep."""
    if not isinstance(value, list | tuple | dict):
        return 1
    if not deep:
        return MOST_VALUES + 1
    total = 1
    for one in [*value, *value.values()] if isinstance(value, dict) else value:
        total += _count(one, deep - 1)
        if total > MOST_VALUES:
            break
    return total


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid over it, nested mappings key by key."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their joined keys: {"train": {"lr": 0.1}} -> {"train.lr": 0.1}."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return out


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file; a UserError says what is wrong with it."""
    try:
        values = load_yaml(read_text(path))
    except FileNotFoundError:
        raise UserError("yaml-missing", f"{path}: there is no such file; check the path.") from None
    except (OSError, ValueError) as error:
        raise UserError("yaml-damaged", f"{path}: is not valid YAML ({error}); fix it or make it again.") from None
    if not isinstance(values, dict):
        raise UserError("yaml-damaged", f"{path}: expected 'key: value' lines; fix the file or make it again.")
    return values
