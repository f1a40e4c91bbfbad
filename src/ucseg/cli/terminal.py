"""What ucseg shows in a terminal: messages on stderr, results on stdout, one look of progress bar.

Markup is off: a file named "scan[1].nii.gz" must print as it is. Emphasis is given with `style=`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

# Not wrapped: a path broken over two lines cannot be copied.
console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)

# Into a pipe or a file there is no terminal width to respect; 140 columns keep tables whole.
output = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


RECENT = 180.0
"""Seconds whose pace gives the time left. A window of a large scan may take a minute."""

hear: Callable[[str, str], None] | None = None
"""Called with (kind, text) of every message that `say` prints: tests rely on kinds, not on words."""


def say(kind: str, text: str, style: str | None = None) -> None:
    """Print one message for a person on stderr; `kind` names it, short and stable ("empty-masks")."""
    if hear is not None:
        hear(kind, text)
    console.print(text, style=style)


@contextmanager
def stages() -> Iterator[Callable[[str, int], None]]:
    """A bar for each stage: the caller calls what it gets with (stage, number of its cases) after each case."""
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.advance(tasks[stage])

        yield advance


class _Progress(Progress):
    def stop(self) -> None:
        """Leave the bars on screen; if none was shown, as before an early error, leave no empty line."""
        if any(task.visible for task in self.tasks):
            super().stop()
        else:
            self.live.transient = True
            self.live.stop()


class _Description(TextColumn):
    """The description; in a narrow terminal it is cut short, so that the time left is not."""

    def __init__(self) -> None:
        super().__init__("{task.description}", markup=False, table_column=Column(no_wrap=False))

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class _Times(ProgressColumn):
    """ "0:00:02 gone, 0:00:10 left", and at the end "in 0:00:12"."""

    def __init__(self, own_estimate: bool) -> None:
        super().__init__(Column(no_wrap=True))
        self.own_estimate = own_estimate

    def render(self, task: Task) -> Text:
        if task.finished_time is not None:
            return Text(f"in {_clock(task.finished_time)}")
        left = task.fields["left"] if self.own_estimate else _clock(task.time_remaining)
        return Text(f"{_clock(task.elapsed or 0)} gone" + (f", {left} left" if left else ""))


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def progress_bar(own_estimate: bool = False) -> Progress:
    """A progress display on stderr: description, bar, n/m, time gone, time left. Use as a context manager.

    With `own_estimate`, tasks give the time left in their field `left`; otherwise the speed of the bar gives it.
    """
    return _Progress(
        _Description(),
        BarColumn(bar_width=28 if console.width >= 110 else 10),
        MofNCompleteColumn(),
        _Times(own_estimate),
        console=console,
        speed_estimate_period=RECENT,
    )
