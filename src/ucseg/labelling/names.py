"""What the strategies are called. Command lines need no more, and load nothing heavy for it."""

from __future__ import annotations

from typing import Literal, get_args

Strategy = Literal["random", "foreground-random", "entropy", "disagreement", "class-entropy", "diversity"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
DEFAULT: Strategy = "foreground-random"
