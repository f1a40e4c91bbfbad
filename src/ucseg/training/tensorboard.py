"""What is logged, also for TensorBoard: every loss and each validation figure, as a scalar."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ucseg.errors import UserError

FOLDER = "tensorboard"


def require_tensorboard() -> None:
    """Refuse at once, with a UserError, where it is not installed."""
    if find_spec("tensorboard") is None:
        raise UserError("tensorboard-missing", "--tensorboard needs a package; run: pip install 'ucseg[tensorboard]'.")


class Scalars:
    """Takes lines of metrics.jsonl, and writes their figures into the run's folder `tensorboard`.

    It is opened with the first line, in the process that logs: of several, only the first one does.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._writer: Any = None

    def __call__(self, line: Mapping[str, Any]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._run / FOLDER))
        measured = {f"validation/{name}": value for name, value in (line.get("validation") or {}).items()}
        trained = {f"training/{name}": value for name, value in line.items() if name not in ("step", "validation")}
        for name, value in {**trained, **measured}.items():
            self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()
