"""A method so small that a run takes a second, with everything a run has to keep: dropout, momentum, buffers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
