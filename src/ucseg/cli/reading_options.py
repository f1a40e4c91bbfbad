"""Options of several verbs: how files are read that do not say it, say two things, or say too much; what is listed."""

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

Subject: TypeAlias = Annotated[
    str | None, typer.Option(help="Regular expression whose group 1, in a file's name or path, is the subject.")
]
Classes: TypeAlias = Annotated[
    str | None, typer.Option(help="'background,liver,tumour' or '1=liver,128=tumour'; default: as the masks hold.")
]
Modality: TypeAlias = Annotated[str | None, typer.Option(help="mri, ct, ultrasound, rgb or other; default: a guess.")]
MaskThreshold: TypeAlias = Annotated[
    float | None, typer.Option(help="Foreground is where the mask is greater; default: from the masks.")
]
FillOutlines: TypeAlias = Annotated[
    bool | None,
    typer.Option("--fill-outlines/--no-fill-outlines", help="Masks are drawn contours; default: from the masks."),
]
Instances: TypeAlias = Annotated[
    bool | None,
    typer.Option("--instances/--no-instances", help="Masks number objects of one class; default: from the masks."),
]
Ignore: TypeAlias = Annotated[
    int | None, typer.Option(help="Value in the masks that means 'not annotated', e.g. 255; default: none does.")
]
Orientation: TypeAlias = Annotated[
    str | None, typer.Option(help="Pictures with an orientation tag: shown (turned) or stored; default: as masks fit.")
]
Geometry: TypeAlias = Annotated[
    str | None,
    typer.Option(help="NIfTI headers that say two things: qform, sform or pixdim; default: the likelier one."),
]
Every: TypeAlias = Annotated[
    bool, typer.Option("--all", help="List every file and every finding, also where many have one cause.")
]
Palette: TypeAlias = Annotated[
    str | None, typer.Option(help="Masks in colours: 'liver=#ff0000,tumour=#00ff00', or a file with a class a line.")
]
