"""A verb called from Python: paths may be plain text, and one path may stand where several may."""

from __future__ import annotations

import functools
import inspect
import shlex
import typing
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from ucseg.errors import Interrupted, UserError
from ucseg.machine.cores import let_threads_sleep

NOTHING_DONE = "stopped before the end; the same command starts it again."


def without_return_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with annotations that can be evaluated: result types are imported for type checkers only."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    return copy


def interruption_in_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The verb for the command line: Ctrl-C where it has nothing to save ends it with a sentence, too."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted(NOTHING_DONE) from None

    return call


def as_python_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """The verb `function` for Python: its arguments of type Path (or list of Path) are taken as text too."""
    hints = typing.get_type_hints(without_return_type(function))
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        let_threads_sleep()
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            refuse_empty(value, f"{name} = ''")
            kinds = {hints.get(name), *typing.get_args(hints.get(name))}
            if list[Path] in kinds:
                several = [value] if isinstance(value, str | Path) else value
                given.arguments[name] = None if several is None else [Path(one) for one in several]
            elif Path in kinds and isinstance(value, str):
                given.arguments[name] = Path(value)
        return function(*given.args, **given.kwargs)

    return call


def refuse_empty(value: object, said: str) -> None:
    """Refuse an empty text, which as a path would be the current folder, and as a name the default."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise UserError("argument-empty", f"{said}: is empty; give it a value, or leave it out.")


def typed(verb: str, *arguments: Path | list[Path], **options: Any) -> str:
    """What one would type for a call: a list repeats its option, True and False are --x and --no-x, None is nothing."""
    words = ["ucseg", verb]
    for argument in arguments:
        words += map(str, argument if isinstance(argument, list) else [argument])
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{option}", str(one)] if one is not None else []
    return shlex.join(words)
