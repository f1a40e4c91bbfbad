"""The errors that a user can cause. The command line prints them as one sentence and exits with code 2."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5


class UserError(Exception):
    """A mistake in what the user gave us.

    The message is one clear sentence (or one line a finding): which file, what is wrong, what to do about it.
    """


class Interrupted(Exception):
    """Long work was stopped by the user after its state was saved; the message says how to go on."""


def some(names: Sequence[str]) -> str:
    """The first few names of a list, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
