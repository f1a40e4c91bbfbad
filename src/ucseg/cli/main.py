"""`ucseg VERB ...`: finds the verb, and reports a mistake of the user as one sentence, without a traceback."""

from __future__ import annotations

import re
import signal
import sys
import threading
from importlib import import_module
from typing import Annotated

import typer

from ucseg import __all__ as VERBS
from ucseg import __version__
from ucseg.cli.calls import NOTHING_DONE, interruption_in_words, refuse_empty, without_return_type
from ucseg.errors import Interrupted, UserError
from ucseg.machine.cores import let_threads_sleep
from ucseg.machine.memory import is_out_of_memory
from ucseg.machine.writing import NO_ROOM

EXIT_USER = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and leave the process.

    Exit code: 0 done; 2 a mistake that the user can fix, one `ucseg: ...` line each on stderr; 130 interrupted.
    A traceback is a defect of ucseg.
    """
    words = sys.argv[1:] if arguments is None else arguments
    _stop_on_sigterm()
    let_threads_sleep()
    try:
        for before, word in zip(["ucseg", *words], words, strict=False):
            name, equals, value = word.partition("=") if word.startswith("--") else (before, "=", word)
            refuse_empty(value if equals else name, name)
        _app(words)(args=words, prog_name="ucseg")
    except UserError as error:
        _say(str(error))
        sys.exit(EXIT_USER)
    except (Interrupted, KeyboardInterrupt) as stop:  # the latter while a verb is loaded
        _say(str(stop) or NOTHING_DONE)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        # A full disk or a protected folder: the file and the system's reason. Anything else is a defect of ours.
        if error.strerror is None or (error.filename is None and error.errno not in NO_ROOM):
            raise
        _say(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}; make room, then again.")
        sys.exit(EXIT_USER)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _say("this machine has too little memory for it; use a smaller patch or batch, or another machine.")
        sys.exit(EXIT_USER)


def predict_main() -> None:
    """`ucseg-predict ...`: the same as `ucseg predict ...`, for machines without torch."""
    main(["predict", *sys.argv[1:]])


def _stop_on_sigterm() -> None:
    """As on Ctrl-C: half written files are removed. Python by itself would end in the middle of a file."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _app(words: list[str]) -> typer.Typer:
    """The command line; when the first word is a verb only that verb's module is imported."""
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )
    app.callback()(_root)
    chosen = [verb for verb in VERBS if words and _typed(verb) == words[0]]
    for verb in chosen or VERBS:
        function = getattr(import_module(f"ucseg.cli.{verb}"), verb)
        app.command(_typed(verb), help=_help(function.__doc__))(interruption_in_words(without_return_type(function)))
    return app


def _typed(verb: str) -> str:
    """The verb on the command line: label-next of label_next; `import` is a word of Python's own, so import_."""
    return verb.rstrip("_").replace("_", "-")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ucseg {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Semi-supervised medical image segmentation: few masks and many scans in; masks with uncertainty and numbers out.

    For your own data: init, then train, predict, evaluate. Without data: demo.
    """


def _help(doc: str | None) -> str:
    """A docstring up to its first section (Args, Returns, Raises): the rest is for Python callers.

    The terminal breaks the lines, so a paragraph is one line. A bracket is no markup: "ucseg[serve]".
    """
    words = re.split(r"\n\s*(?:Args|Returns|Raises|Attributes|Example):", doc or "", maxsplit=1)[0].strip()
    return re.sub(r"(?<!\n)\n[ ]*(?!\n)", " ", words).replace("[", r"\[")


def _say(message: str) -> None:
    for line in message.splitlines() or ["stopped."]:
        print(f"ucseg: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
