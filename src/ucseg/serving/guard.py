"""What stands before every request: is the host this server's own, may the page that asks, and is the body too long?

A web page of anyone can send requests to this machine. It may also call its own name this machine's address (DNS
rebinding). So names are checked, and origins. Without a token only this machine is listened to.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "ucseg_token"
FREE = ("/auth/", "/auth/token", "/auth", "/enter")
"""Paths that say whether and how one signs in."""


class TooLongError(Exception):
    """The body has more bytes than `--max-upload` allows."""


def same(given: str, token: str) -> bool:
    """Whether a client knows the token; how long the answer takes says nothing about it."""
    return hmac.compare_digest(given.encode(), token.encode())


class Guard:
    """ASGI middleware.

    Args:
        token: what clients must know; "" where only this machine is listened to.
        hosts: names of this server, beside those of this machine and all addresses in numbers.
        origins: pages of other servers that may ask ("http://ohif.example:3000").
        longest: bytes of a body.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Sequence[str], origins: Sequence[str], longest: int) -> None:
        self.app, self.token, self.origins, self.longest = app, token, set(origins), longest
        self.hosts = {name.lower() for name in ("localhost", socket.gethostname(), socket.getfqdn(), *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if (refusal := self._refusal(scope, headers, origin)) is not None:
            status, detail = refusal
            await JSONResponse({"detail": detail}, status)(scope, receive, send)
            return
        left = self.longest

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise TooLongError
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers(origin)]
            await send(message)

        if scope["method"] == "OPTIONS" and origin in self.origins:
            await JSONResponse({})(scope, receive, answer)
            return
        await self.app(scope, bounded, answer)

    def _refusal(self, scope: Scope, headers: Headers, origin: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "This name is not one of the server's; start it with --allow-host NAME."
        if origin and origin not in self.origins and origin.lower().partition("://")[2] != host.lower():
            return 403, "A page of another server asks; start this one with --allow-origin URL."
        other = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if other and origin not in self.origins:
            return 403, "A page of another server asks; start this one with --allow-origin URL."
        length = headers.get("content-length", "0")
        if not length.isdigit() or (int(length) > self.longest and scope["method"] in ("PUT", "POST")):
            return 413, f"The body is longer than {self.longest} bytes; start the server with a larger --max-upload."
        if self.token and scope["method"] != "OPTIONS" and scope["path"] not in FREE and not self.knows(headers):
            return 401, "A token is needed: open the address that the server printed, or sign in with the token."
        return None

    def knows(self, headers: Headers) -> bool:
        """Whether a request brings the token, in a header or in the cookie that the page gets."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same(given, self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, self.token)

    def _is_own(self, host: str) -> bool:
        """Names in numbers cannot be another's; of the others only known ones."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            urlsplit(f"//{host}").port  # noqa: B018 - raises where it is no number
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True

    def _headers(self, origin: str) -> list[tuple[bytes, bytes]]:
        own = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"cross-origin" if origin in self.origins else b"same-origin"),
        ]
        if origin in self.origins:
            own += [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),
                (b"access-control-allow-headers", b"authorization, content-type"),
                (b"access-control-expose-headers", b"content-disposition"),
                (b"vary", b"origin"),
            ]
        return own
