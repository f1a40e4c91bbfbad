"""What surrounds every training: its folder is held, memory is kept, and a stop says how to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ucseg.errors import Interrupted

if TYPE_CHECKING:
    from ucseg.training.outcome import FitResult
    from ucseg.training.run_folder import RunFolder


def holding(run: RunFolder, resume: bool, work: Callable[[], FitResult]) -> FitResult:
    """Keep other trainings out of the folder: a resumed run from here on, before the minutes of preparing."""
    from ucseg import ranks

    try:
        if resume and ranks.rank() == 0:
            run.hold()
        return work()
    finally:
        run.let_go()


def keeping_memory(keep: bool, work: Callable[[], FitResult]) -> FitResult:
    """Also before the loop, where planning may measure steps."""
    from ucseg.training.allocator import kept_memory

    with kept_memory(keep):
        return work()


def or_how_to_go_on(run: RunFolder, work: Callable[[], FitResult]) -> FitResult:
    """Ctrl-C before the loop that saves, or a second one in it: the folder may hold a run already."""
    try:
        return work()
    except KeyboardInterrupt:
        if not run.started:
            raise
        raise Interrupted(f"stopped at once, with nothing more saved. Continue with: {run.again}") from None
