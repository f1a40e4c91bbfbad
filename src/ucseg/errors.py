"""The errors that a user can cause. The command line prints them as one sentence and exits with code 2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_SHOWN = 5


class UserError(Exception):
    """A mistake in what the user gave us.

    The message is one clear sentence (or one line for each mistake): which file, what is wrong, what to do about it.

    Attributes:
        code: the kind of mistake, short and stable ("scan-missing"): callers and tests rely on it, not on the words.
        codes: the kinds of all mistakes that are reported together, in order.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.codes: tuple[str, ...] = (code,)

    def __str__(self) -> str:
        return str(self.args[1])

    @classmethod
    def together(cls, errors: Sequence[UserError]) -> UserError:
        """Several mistakes as one error, a line each; of many with one cause the first few, and how many more."""
        causes = [(error.code, cause(str(error))) for error in errors]
        total, shown = Counter(causes), Counter[tuple[str, str]]()
        lines = []
        for error, one in zip(errors, causes, strict=True):
            shown[one] += 1
            if shown[one] <= _SHOWN:
                lines.append(str(error))
            if shown[one] == _SHOWN < total[one]:
                lines.append(f"... and {total[one] - _SHOWN} more like this.")
        joined = cls(errors[0].code, "\n".join(lines))
        joined.codes = tuple(code for error in errors for code in error.codes)
        return joined


class Interrupted(Exception):
    """The user stopped long work after its state was saved; the message says how to continue."""


def cause(reason: str) -> str:
    """A sentence without the names of files and the numbers in it, so that sentences of one cause are equal."""
    return re.sub(r"\d+(\.\d+)?", "0", re.sub(r"\S+\.\w{1,6}\b(\.gz)?|'[^']*'", "X", reason))


def some(names: Sequence[str]) -> str:
    """The first few names of a list, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
