"""Options of several verbs: how files are read that do not say it, say two things, or say too much."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Spacing: TypeAlias = Annotated[
    str | None,
    typer.Option(help="For arrays and stacks that state no spacing: mm along each of their axes, '10,1.5,1.5'."),
]
MaxVoxels: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Refuse files with more voxels; default: 1024 x 1024 x 1024.")
]
