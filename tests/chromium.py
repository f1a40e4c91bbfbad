"""Chromium without a window, by its own protocol through two pipes: nothing has to be installed beside the browser."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9, "Escape": 27}


class Browser:
    """One page. Use as a context manager; the test is skipped where there is no Chromium."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        program = next((found for name in NAMES if (found := shutil.which(name))), None)
        if program is None:
            pytest.skip("there is no Chromium on this machine")
        self._folder, self._program, self._size = folder, program, (width, height)
        self._number, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        words = [self._program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"]
        words += [f"--user-data-dir={self._folder / 'chromium'}", f"--window-size={self._size[0]},{self._size[1]}"]
        words += ["--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage", "about:blank"]
        # Chromium reads commands from descriptor 3 and answers at 4.
        shell = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "bash", *words],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._session = ours_in, ours_out, ""
        target = next(one for one in self._targets() if one["type"] == "page")
        attached = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")
        self(
            "Emulation.setDeviceMetricsOverride",
            width=self._size[0], height=self._size[1], deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        self._process.kill()
        self._process.wait(20)
        os.close(self._in)
        shutil.rmtree(self._folder / "chromium", ignore_errors=True)

    def _targets(self) -> list[dict[str, Any]]:
        until = time.monotonic() + 60
        while True:
            found: list[dict[str, Any]] = self("Target.getTargets")["targetInfos"]
            if any(one["type"] == "page" for one in found) or time.monotonic() > until:
                return found
            time.sleep(0.1)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], seconds)
            assert ready, "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._buffer += more
        one, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(one))

    def open(self, address: str) -> None:
        self("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression, once it is true."""
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"{script}: {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def press(self, key: str, shift: bool = False) -> None:
        """A key as a person presses it."""
        text = {"text": key} if len(key) == 1 else {}
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        same = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self("Input.dispatchKeyEvent", type="keyDown", **same, **text)
        self("Input.dispatchKeyEvent", type="keyUp", **same)

    def drag(self, *places: tuple[float, float]) -> None:
        """The left button goes down at the first place, and up at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 2), "mouseReleased"]
        for kind, (x, y) in zip(kinds, places, strict=True):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self, path: Path) -> Path:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))
        return path

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page was refused."""
        self.run("1")
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(str(event["params"]["entry"]["text"]))
        return found

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            str(event["params"]["request"]["url"])
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
