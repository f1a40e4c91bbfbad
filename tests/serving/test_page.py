"""The page at `/`, in Chromium: looking, deciding and drawing, by keyboard alone and by mouse."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chromium import Browser
from small_scans import save
from ucseg.dataset.manifest import load_dataset
from ucseg.pictures.drawing import COLOURS
from ucseg.pictures.planes import Planes

Data = tuple[Path, Path]
EVIL = "<img src onerror>"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as opened:
        yield opened


def at(client: Any) -> str:
    return f"http://127.0.0.1:{client.port}/"


def mask_of(data: Path, name: str) -> Any:
    mask = next(case.mask for case in load_dataset(data).cases if case.case == name)
    return None if mask is None else np.asarray(Image.open(mask.path))


def states(client: Any) -> dict[str, str]:
    return {row["case"]: row["state"] for row in client("GET", "/page/queue").json["rows"]}


def test_a_person_labels_with_the_keyboard_alone(served: Any, pictures: Data, browser: Browser) -> None:
    data, run = pictures
    client, session = served(data, run)
    browser.open(at(client))
    first = browser.wait("now && !busy && now.case")
    assert first == browser.run("queue.rows[0].case")
    model = np.array(browser.run("Array.from(now.mask)")).reshape(20, 24)
    assert model.sum() > 0
    browser.press("e")
    browser.press("ArrowUp", shift=True)
    browser.press(" ")
    erased = np.array(browser.run("Array.from(now.mask)")).reshape(20, 24)
    assert erased.sum() < model.sum()
    browser.press("z")
    assert browser.run("Array.from(now.mask)") == model.ravel().tolist()
    browser.press("b")
    browser.press("[")
    for _ in range(9):
        browser.press("ArrowLeft", shift=True)
    browser.press(" ")
    drawn = np.array(browser.run("Array.from(now.mask)")).reshape(20, 24)
    assert drawn.sum() > model.sum()
    browser.run("document.getElementById('who').value = 'me'")
    browser.press("a")
    second = browser.wait(f"!busy && now.case !== '{first}' && now.case")
    assert (mask_of(data, first) == drawn * 255).all()
    note = session.labels.newest(first).note
    assert (note["client"], note["how"], note["model"]["run"]) == ("me", "page, corrected", str(run))

    browser.press("r")
    third = browser.wait(f"!busy && now.case !== '{second}' && now.case")
    browser.press("s")
    browser.wait(f"!busy && now.case !== '{third}'")
    assert [states(client)[name] for name in (first, second, third)] == ["saved", "rejected", "sent"]
    assert client("POST", "/activelearning/random", {"client_id": "slicer"}).json["id"] == third
    for _ in range(10):
        browser.press("k")
        browser.wait("!busy")
    assert browser.run("now.case") == third, "what was sent is first in the list"
    browser.press("u")
    browser.press("?")
    assert browser.run("document.getElementById('keys').open")
    assert browser.run(
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight"
    )
    assert browser.run("COLOURS") == [list(colour) for colour in COLOURS], "a class has one colour on all pages"
    browser("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=False)
    browser.wait("innerWidth === 390 && document.querySelector('main').clientWidth > 350")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.wait("view.getBoundingClientRect().width > 300")
    assert browser.run("document.getElementById('accept').getBoundingClientRect().right") < 390
    browser.press("k")
    assert browser.wait("!busy") and browser.run("scrollY") == 0, "the scan stays in sight"
    assert not browser.complaints
    assert {url.split("/")[2] for url in browser.requests if url.startswith("http")} == {f"127.0.0.1:{client.port}"}


def test_a_person_draws_with_the_mouse_and_a_full_disk_loses_nothing(
    served: Any, pictures: Data, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = pictures
    client, session = served(data, run)
    browser.open(at(client))
    name = browser.wait("now && !busy && now.case")
    box = browser.run(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('view').getBoundingClientRect())"
    )
    x, y, width, height = box
    before = sum(browser.run("Array.from(now.mask)"))
    browser.drag(
        (x + 0.1 * width, y + 0.9 * height), (x + 0.5 * width, y + 0.9 * height), (x + 0.9 * width, y + 0.9 * height)
    )
    drawn = browser.run("Array.from(now.mask)")
    assert sum(drawn) > before
    monkeypatch.setattr(session, "keep", full)
    browser.press("a")
    browser.wait("document.getElementById('says').className === 'bad'")
    assert browser.run("Array.from(now.mask)") == drawn
    assert mask_of(data, name) is None
    monkeypatch.undo()
    browser.press("a")
    browser.wait(f"!busy && now.case !== '{name}'")
    assert (mask_of(data, name).ravel() == np.array(drawn) * 255).all()


def test_a_mask_without_anything_drawn_is_saved_at_the_second_try(
    served: Any, pictures: Data, browser: Browser
) -> None:
    data, run = pictures
    client, _ = served(data, run)
    browser.open(at(client))
    name = browser.wait("now && !busy && now.case")
    browser.run("now.mask.fill(0)")
    browser.press("a")
    assert browser.run("[now.case, document.getElementById('says').className]") == [name, "bad"]
    browser.press(" ")
    browser.press("z")
    browser.press("a")
    assert browser.run("now.case") == name, "it asks again after each change"
    assert mask_of(data, name) is None
    browser.press("a")
    browser.wait(f"!busy && now.case !== '{name}'")
    assert not mask_of(data, name).any()
    assert "version 1" in browser.run("document.getElementById('says').textContent")


def full(*given: Any) -> Any:
    raise OSError(28, "No space left on device")


def test_names_are_only_text(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser) -> None:
    from threshold_run import make_run, plan_2d

    import ucseg

    name = "<img src=x onerror='document.title=1'>"
    for number in range(3):
        image = np.zeros((20, 24), np.uint8)
        image[4:9, 4:9] = 200 + number
        save(tmp_path / "SCANS" / "images" / f"{name}{number}.png", image)
        if number == 0:
            save(tmp_path / "SCANS" / "masks" / f"{name}{number}.png", (image > 0).astype(np.uint8))
    ucseg.init(tmp_path / "SCANS", out=tmp_path / "DATA", classes=f"background,{EVIL}", validation="0", test="0")
    run = make_run(tmp_path / "RUN", plan_2d(classes={0: "background", 1: EVIL}), monkeypatch)
    client, _ = served(tmp_path / "DATA", run)
    browser.open(at(client))
    browser.wait("now && !busy && now.case")
    assert browser.run("document.title").startswith("SCANS")
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert EVIL in browser.run("document.getElementById('classes').textContent")
    assert name in browser.run("document.getElementById('list').textContent")
    assert not browser.complaints


def test_slices_of_a_volume(served: Any, volumes: Data, browser: Browser) -> None:
    client, session = served(*volumes)
    browser.open(at(client))
    name = browser.wait("now && !busy && now.case")
    about = browser.run(
        "({slices: now.slices, rows: now.rows, columns: now.columns, aspect: now.aspect, index: now.index})"
    )
    assert (about["slices"], about["rows"], about["columns"], about["aspect"]) == (16, 17, 18, 1)
    assert browser.run("now.letters") == ["R", "L", "A", "P"]
    assert browser.run("$('where').textContent") == f"axial slice k {about['index']} of 0 to 15"
    lines = browser.run("""(() => {
        const canvas = $('view'), at = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let found = 0;
        for (let i = 0; i < at.length; i += 4) found += String([at[i], at[i + 1], at[i + 2]]) === String(COLOURS[0]);
        return found / (part(now).filter(Boolean).length * canvas.width * canvas.height / (now.rows * now.columns));
    })()""")
    assert 0 < lines < 0.2, "edges are thin, however large a voxel is shown"
    browser.run("$('forth').click(); $('forth').click(); $('back').click()")
    assert browser.run("now.index") == about["index"] + 1
    size = browser.run("brush.radius")
    browser.run("$('larger').click()")
    assert browser.run("brush.radius") == size + 1
    browser.run("$('smaller').click()")
    browser.press(" ")
    drawn = np.array(browser.run("Array.from(now.mask)"), np.uint8).reshape(16, 17, 18)
    browser.press("a")
    browser.wait(f"!busy && now.case !== '{name}'")
    case = session.case(name)
    _, address = session.label_of(name, "final")
    from ucseg.scans.reading import read_scan

    label = read_scan(address)
    planes = Planes.of(label.geometry, label.array.shape[1:], case.image)
    assert (planes.slices(label.array[0]) == drawn).all()
    raw = client("GET", f"/page/mask?image={name}&of=label")
    assert zlib.decompress(raw.body) == drawn.tobytes()


def test_the_page_is_refused_what_is_not_there(served: Any, pictures: Data) -> None:
    client, session = served(*pictures)
    for path in ("/page/slice?image=case1&index=1", "/page/slice?image=case1&index=x", "/page/case?image=../x"):
        assert client("GET", path).status == 404
    assert client("PUT", "/page/label?image=case4", b"\0" * 5).status == 400
    assert client("PUT", "/page/label?image=case4", b"\7" * 480).status == 400
    assert client("POST", "/page/say?image=case4&what=no").status == 400
    assert session.labels.versions == []
    policy = client("GET", "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    entered = client("GET", "/enter?token=abc")
    assert (entered.status, entered.headers["location"]) == (303, "/")
    assert "HttpOnly" in entered.headers["set-cookie"]
