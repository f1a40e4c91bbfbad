"""Opens pages in a real browser without a window, and says how they look there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

WIDTHS = (1280, 390)
"""Pixels of a usual window, and of a phone."""
_SCRIPT = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const images = [...page.images];
    return {
      width: frame.clientWidth, needed: root.scrollWidth, text: page.body.innerText, images: images.length,
      broken: images.filter(one => !one.naturalWidth).length,
      outside: [...page.querySelectorAll("[src], link, script, iframe, object")]
        .filter(one => !(one.getAttribute("src") || "").startsWith("data:")).length,
      cut: [...page.querySelectorAll("table, pre, figure")].filter(one => {
        for (let box = one; box; box = box.parentElement)
          if (page.defaultView.getComputedStyle(box).overflowX === "auto") return false;
        return one.getBoundingClientRect().right > frame.clientWidth + 1;
      }).length,
      above_fold: [...page.querySelectorAll("h1, p, th, td")]
        .filter(one => one.getBoundingClientRect().bottom <= frame.clientHeight).map(one => one.innerText).join(" "),
      bold: [...page.querySelectorAll("b")].map(one => one.textContent),
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@dataclass(frozen=True)
class Seen:
    """A page in a window.

    Attributes:
        width, needed: pixels of the window, and how many the page takes: more means that one must scroll sideways.
        text: what a person reads.
        images, broken: how many there are, and how many of them show nothing.
        outside: elements that load something from elsewhere.
        cut: tables, figures and code that leave the window and cannot be scrolled.
        above_fold: text that is seen without scrolling.
        bold: texts in bold.
    """

    width: int
    needed: int
    text: str
    images: int
    broken: int
    outside: int
    cut: int
    above_fold: str
    bold: list[str]


def look(page: Path, folder: Path, widths: Sequence[int] = WIDTHS) -> list[Seen]:
    """How a page looks in windows of these widths; skips the test where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    frames = "".join(
        f'<iframe style="border: 0" width={width} height=900 src="file://{quote(str(page.absolute()))}"></iframe>'
        for width in widths
    )
    frame = folder / "frames.html"
    frame.write_text(f'<!doctype html>{frames}<pre id="found"></pre><script>{_SCRIPT}</script>', encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'browser'}", "--window-size=1800,2000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    shutil.rmtree(folder / "browser", ignore_errors=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found is not None and found[1], dumped[-2000:]
    return [Seen(**one) for one in json.loads(html.unescape(found[1]))]


def require_sound(page: Path, folder: Path) -> list[Seen]:
    """Every picture is shown, nothing is loaded from elsewhere, and nothing is cut at either width."""
    windows = look(page, folder)
    for seen in windows:
        where = f"{page.name} at {seen.width} px"
        assert seen.images > 0 and seen.broken == 0, f"{where}: {seen.broken} of {seen.images} pictures are broken"
        assert seen.outside == 0, where
        assert seen.needed <= seen.width, f"{where}: it takes {seen.needed} px"
        assert seen.cut == 0, f"{where}: {seen.cut} parts are cut"
    return windows
