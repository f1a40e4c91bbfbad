"""The server's application: its routes, who may ask, and what a mistake becomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ucseg.errors import UserError
from ucseg.machine.writing import NO_ROOM
from ucseg.serving.guard import Guard, TooLongError
from ucseg.serving.page import Page
from ucseg.serving.protocol import Protocol
from ucseg.serving.session import NotFoundError, Session

OF_THE_MACHINE = {"not-written": 507, "memory-ran-out": 503}
log = logging.getLogger("ucseg.serve")


def make_app(
    session: Session,
    *,
    token: str = "",
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    longest: int = 2**30,
) -> Starlette:
    """The ASGI application of a session.

    Args:
        token, hosts, origins, longest: of the `Guard`.
    """
    routes = Protocol(session, token).routes + Page(session).routes
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token, hosts=hosts, origins=origins, longest=longest)],
        exception_handlers={
            HTTPException: _refused,
            UserError: _user_error,
            OSError: _os_error,
            TooLongError: _too_long,
            ClientDisconnect: _gone,
        },
    )


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


def _user_error(request: Request, error: Exception) -> Response:
    """What a person can fix: in the request (400, 404), or on this machine (507: no room to write, 503: no memory)."""
    assert isinstance(error, UserError)
    status = 404 if isinstance(error, NotFoundError) else OF_THE_MACHINE.get(error.code, 400)
    log.warning("%s: %s", request.url.path, error)
    return JSONResponse({"detail": str(error), "kind": error.code}, status)


def _os_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    full = error.errno in NO_ROOM
    log.warning("%s: %s", request.url.path, error)
    reason = "No space is left on the server's disk." if full else f"The server cannot do it ({error.strerror})."
    return JSONResponse({"detail": reason}, 507 if full else 500)


def _too_long(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "The body is too long; start the server with a larger --max-upload."}, 413)


def _gone(request: Request, error: Exception) -> Response:
    log.warning("%s: the client went away in the middle of its request", request.url.path)
    return JSONResponse({"detail": "The request has no end."}, 400)
