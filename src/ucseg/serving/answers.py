"""What a client gets: files in the formats that viewers read, and the two-part answer of the viewers' protocol."""

from __future__ import annotations

import json
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from starlette.responses import Response

from ucseg.errors import UserError
from ucseg.scans import itk
from ucseg.scans.address import Address
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Scan
from ucseg.scans.writing import write_like
from ucseg.serving.frame import Frame
from ucseg.types import Array

RESULTS = (".nrrd", ".nii.gz", ".nii", ".mha", ".png", ".tif")
KINDS = ("uint8", "uint16", "int16", "int32", "uint32")
VIEWABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of files that viewers open as they are."""
OCTETS = "application/octet-stream"


def mask_file(mask: Array, frame: Frame, ending: str, kind: str, compress: bool) -> bytes:
    """A mask as a file on its image's grid.

    Args:
        mask: S class indices.
        ending: one of RESULTS; pictures (.png, .tif) keep rows and columns.
        kind: one of KINDS.
        compress: of NRRD, which OHIF reads only where it is not.

    Raises:
        UserError: the format cannot hold the mask.
    """
    if ending == ".seg.nrrd":
        ending = ".nrrd"
    if ending not in RESULTS or kind not in KINDS:
        raise UserError(
            "result-format", f"result_extension {ending}, result_dtype {kind}: not known; use .nrrd and uint8, say."
        )
    array = mask.astype(kind)
    if (array != mask).any():
        raise UserError("result-dtype", f"result_dtype {kind}: it does not hold {int(mask.max())} classes; use uint16.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"mask{ending}"
        if ending in (".png", ".tif"):
            write_like(array, Scan(array[None], frame.geometry, file), file)
        elif ending == ".nrrd":
            itk.write(frame.to_viewer(array), frame.as_viewer(file), file, compress=compress)
        else:
            write_like(np.ascontiguousarray(frame.to_viewer(array)), frame.as_viewer(file), file)
        return file.read_bytes()


def image_file(image: Address) -> tuple[str, Path | bytes]:
    """An image as a file that viewers open: its own, or its first channel as NIfTI. Its ending, and what is in it.

    Raises:
        UserError: it cannot be read.
    """
    if not image.several and not image.part and image.ending in VIEWABLE and image.file.is_file():
        return image.ending, image.file
    scan = read_scan(image)
    frame = Frame.of(scan, image.plain)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.nii.gz"
        write_like(np.ascontiguousarray(frame.to_viewer(scan.array[0])), frame.as_viewer(file), file)
        return ".nii.gz", file.read_bytes()


def file_name(case: str, ending: str) -> str:
    """A name for a client's disk: letters, digits and a few signs, with no dot but that of the ending."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', case)[:100] or '_'}{ending}"


def attached(content: bytes, name: str) -> Response:
    """A file as the whole body."""
    return Response(content, media_type=OCTETS, headers={"content-disposition": f'attachment; filename="{name}"'})


def two_parts(params: dict[str, Any], name: str, content: bytes) -> Response:
    """The answer of /infer: `params` as JSON, `image` as a file. Clients need its length, so it is one body."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n',
        json.dumps(params),
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {OCTETS}\r\n\r\n",
    ]
    body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})
