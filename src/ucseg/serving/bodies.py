"""What a request holds: JSON, or parts of which one is JSON and others are files."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

LONGEST_PARAMS = 2**20
"""Bytes of parameters, which are text."""


async def named_values(request: Request) -> dict[str, Any]:
    """The body's mapping; an empty body is an empty one."""
    body = await request.body()
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is no JSON.") from None
    if not isinstance(found, dict):
        raise HTTPException(400, "The body is JSON, but holds no named values.")
    return found


async def parts(request: Request) -> tuple[dict[str, Any], dict[str, UploadFile]]:
    """`params`, and the files of a multipart body."""
    form = await request.form(max_files=4, max_fields=20, max_part_size=LONGEST_PARAMS)
    try:
        params = json.loads(str(form.get("params") or "{}"))
    except (ValueError, RecursionError):
        raise HTTPException(400, "The part 'params' is no JSON.") from None
    files = {name: value for name, value in form.items() if isinstance(value, UploadFile)}
    return params if isinstance(params, dict) else {}, files


def count(text: str) -> int | None:
    """A whole number of a query, from 0 on; None: it is no number, or longer than any that is meant."""
    return int(text) if len(text) < 10 and text.isascii() and text.isdigit() else None


def number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else value
