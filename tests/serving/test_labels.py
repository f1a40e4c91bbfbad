"""No label is lost, whatever happens: a full disk, a broken body, a killed server, several clients at once."""

from __future__ import annotations

import errno
import io
import json
import socket
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.dataset.manifest import load_dataset
from ucseg.machine import writing
from ucseg.scans.reading import read_scan
from ucseg.serving import labels
from ucseg.serving.labels import Labels
from ucseg.types import Array

Data = tuple[Path, Path]
PUT = "/datastore/label?image=case4"


def png(array: Array) -> tuple[str, bytes]:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return "label.png", out.getvalue()


def drawn(value: int = 0) -> Array:
    array = np.zeros((20, 24), np.uint8)
    array[2, 2 + value] = 1
    return array


def files(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "labels").iterdir() if not path.name.startswith(".lock"))


def mask_of(data: Path, name: str = "case4") -> Path:
    mask = next(case.mask for case in load_dataset(data).cases if case.case == name)
    assert mask is not None
    return mask.path


def test_each_label_is_a_new_version_with_its_origin(served: Any, pictures: Data) -> None:
    data, run = pictures
    client, _ = served(data, run)
    before = {path: path.read_bytes() for path in (data.parent / "SCANS").rglob("*.png")}
    table = (data / "cases.csv").read_text()
    client.send("POST", "/infer/ucseg?image=case0", {})
    for number in (1, 2):
        url = "/datastore/label?image=case0"
        reply = client.send("PUT", url, {"client_id": f"expert{number}"}, label=png(drawn(number)))
        assert reply.json["version"] == number
    assert files(data) == [
        "case0.v0001.json",
        "case0.v0001.png",
        "case0.v0002.json",
        "case0.v0002.png",
        "cases.before.csv",
    ]
    notes = [json.loads((data / "labels" / f"case0.v000{number}.json").read_text()) for number in (1, 2)]
    assert [note["client"] for note in notes] == ["expert1", "expert2"]
    assert notes[0]["model"]["run"] == str(run)
    assert reply.json["warnings"] == []
    assert notes[0]["replaces"].endswith("masks/case0.png")
    assert notes[1]["replaces"].endswith("case0.v0001.png")
    assert mask_of(data, "case0").name == "case0.v0002.png"
    assert (data / "labels" / "cases.before.csv").read_text() == table
    assert before == {path: path.read_bytes() for path in before}, "files of the user have changed"


def test_an_empty_label_is_kept_with_a_warning(served: Any, pictures: Data) -> None:
    client, _ = served(*pictures)
    reply = client.send("PUT", PUT, label=png(np.zeros((20, 24), np.uint8)))
    assert (reply.status, reply.json["label"], len(reply.json["warnings"])) == (200, "case4", 1)
    assert mask_of(pictures[0]).name == "case4.v0001.png"
    page = client("PUT", "/page/label?image=case4", bytes(480)).json
    assert (page["version"], page["warnings"]) == (2, reply.json["warnings"])


def test_a_label_for_another_use_is_kept_but_not_trained(served: Any, pictures: Data) -> None:
    data, run = pictures
    client, _ = served(data, run)
    assert client.send("PUT", f"{PUT}&tag=draft", {}, label=png(drawn())).status == 200
    assert next(case.mask for case in load_dataset(data).cases if case.case == "case4") is None
    assert client("GET", "/datastore/label?label=case4&tag=v1").status == 200
    assert client.send("PUT", f"{PUT}&tag=../x", {}, label=png(drawn())).json["kind"] == "label-tag"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_results_are_not_measured_against_what_a_model_proposed(served: Any, pictures: Data, split: str) -> None:
    table = pictures[0] / "cases.csv"
    lines = [line.replace(",train", f",{split}") if line.startswith(("case0,", "case4,")) else line
             for line in table.read_text().splitlines()]  # fmt: skip
    table.write_text("\n".join(lines) + "\n")
    client, _ = served(*pictures)
    reference = mask_of(pictures[0], "case0")
    reply = client.send("PUT", "/datastore/label?image=case0", label=png(drawn()))
    assert (reply.status, reply.json["tag"], len(reply.json["warnings"])) == (200, "beside", 1)
    assert mask_of(pictures[0], "case0") == reference
    assert "case0.v0001.png" in files(pictures[0]), "no label is lost"
    for number in (1, 2):  # it had no mask, so its own ones follow each other
        assert client.send("PUT", PUT, label=png(drawn(number))).json["tag"] == "final"
        assert mask_of(pictures[0]).name == f"case4.v000{number}.png"


@pytest.mark.parametrize("fails", ["case4.v0001.png", "case4.v0001.json", "cases.csv"])
def test_a_full_disk_loses_no_label(served: Any, pictures: Data, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    data, run = pictures
    client, session = served(data, run)
    client.send("PUT", "/datastore/label?image=case5", {}, label=png(drawn()))
    table = (data / "cases.csv").read_text()
    real = writing.os.replace

    def no_room(source: Any, target: Any) -> None:
        if Path(target).name == fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(writing.os, "replace", no_room)
    reply = client.send("PUT", PUT, {}, label=png(drawn()))
    assert reply.status == 507, reply.json
    assert (data / "cases.csv").read_text() == table
    assert not list((data / "labels").glob(writing.PART))
    kept = [name for name in files(data) if name.startswith("case4")]
    assert kept == (["case4.v0001.json", "case4.v0001.png"] if fails == "cases.csv" else [])
    monkeypatch.undo()
    if fails == "cases.csv":  # there is room again: the next label or start enters it
        session.labels.settle()
    else:
        assert client.send("PUT", PUT, {}, label=png(drawn())).status == 200
    assert (np.asarray(Image.open(mask_of(data))) > 0).sum() == 1


def test_a_server_that_was_killed_between_two_files_goes_on(pictures: Data) -> None:
    data, _ = pictures
    dataset = load_dataset(data)
    case = next(case for case in dataset.cases if case.case == "case4")
    scan = read_scan(case.image)
    store = Labels(data)
    store._enter = lambda versions: None  # type: ignore[method-assign]
    store.save(case, drawn(), scan, dataset.config, {"tag": "final"})
    (data / "labels" / "case4.v0002.png").write_bytes(b"half")  # its note was never written
    (data / "labels" / ".99-99-case4.v0002.json.part").write_text("{")
    with refused("serve-busy", naming=data):
        Labels(data)
    store.close()
    assert load_dataset(data).cases[4].mask is None
    again = Labels(data)
    assert mask_of(data).name == "case4.v0001.png"
    assert not list((data / "labels").glob("*.part"))
    again.save(case, drawn(3), scan, dataset.config, {"tag": "final"})
    assert mask_of(data).name == "case4.v0003.png"
    assert (data / "labels" / "case4.v0002.png").read_bytes() == b"half"
    again.close()


def test_what_a_person_changed_in_cases_csv_stays(pictures: Data) -> None:
    data, _ = pictures
    table = data / "cases.csv"
    text = table.read_text().replace("\n", ",\n").replace("split,", "split,note").replace("train,\n", "train,mine\n")
    table.write_text(text)
    dataset = load_dataset(data)
    case = dataset.cases[4]
    store = Labels(data)
    store.save(case, drawn(), read_scan(case.image), dataset.config, {"tag": "final"})
    assert table.read_text().count("mine") == 6
    table.write_text(text)  # the person takes the old mask back
    store.close()
    entered = [version.note["replaces"] for version in store.versions]
    assert entered == [""]
    table.write_text(text.replace("images/case4.png,,", "images/case4.png,masks/case1.png,"))
    Labels(data).close()
    assert mask_of(data).name == "case1.png"


def test_a_new_mask_is_annotated_everywhere_and_shown_with_predictions_where_the_old_one_is_not(
    served: Any, volumes: Data
) -> None:
    data, run = volumes
    table = data / "cases.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},labelled_slices", f"{lines[1]},3:5", *(f"{one}," for one in lines[2:])]))
    case = load_dataset(data).cases[0]
    assert case.slices is not None and case.slices.numbers == (3, 4, 5)
    client, session = served(data, run)
    bodies = [client("GET", f"/page/mask?image=case0&of={of}").body for of in ("label", "model")]
    seen, model = (np.frombuffer(zlib.decompress(body), np.uint8).reshape(16, 17, 18) for body in bodies)
    others = [number for number in range(16) if number not in (3, 4, 5)]
    assert seen.max() == 1 and (seen[others] == model[others]).all()
    label = np.zeros(read_scan(case.image).array.shape[1:], np.uint8)
    label[2, 2, 2] = 1
    session.labels.save(case, label, read_scan(case.image), load_dataset(data).config, {"tag": "final"})
    assert load_dataset(data).cases[0].slices is None


def test_a_broken_body_saves_nothing(served: Any, pictures: Data) -> None:
    data, run = pictures
    client, _ = served(data, run)
    name, content = png(drawn())
    for broken, kind in (((name, content[:45]), None), (("x.png", b""), None), (("x.h5", content), "upload-format")):
        reply = client.send("PUT", PUT, {}, label=broken)
        assert reply.status == 400, reply.body
        assert kind in (None, reply.json["kind"])
        assert "tmp" not in reply.json["detail"], "a path of the server"
    assert client.send("PUT", PUT, {}, other=(name, content)).status == 400
    assert client("PUT", PUT, b"no multipart", content_type="multipart/form-data; boundary=x").status == 400
    with socket.create_connection(("127.0.0.1", client.port)) as half:  # a client that dies in the middle
        kind = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000"
        part = 'Content-Disposition: form-data; name="label"; filename="x.png"'
        half.sendall(f"PUT {PUT} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n\r\n--b\r\n{part}\r\n\r\n".encode())
        half.sendall(content[:50])
    assert client("GET", "/info/").json["datastore"]["completed"] == 2
    assert files(data) == []


def test_several_clients_save_at_once(served: Any, pictures: Data) -> None:
    data, run = pictures
    client, _ = served(data, run)
    replies: list[Any] = []

    def work(number: int) -> None:
        reply = client.send("PUT", f"/datastore/label?image=case{2 + number % 3}", {}, label=png(drawn(number)))
        replies.append((reply.status, reply.json["image"], reply.json["version"]))
        client.send("POST", "/infer/ucseg?image=case1", {})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == [(200, f"case{case}", version) for case in (2, 3, 4) for version in (1, 2, 3)]
    assert len(files(data)) == 19
    for case in (2, 3, 4):
        assert mask_of(data, f"case{case}").name == f"case{case}.v0003.png"


def test_a_label_that_would_be_read_as_another_is_refused(served: Any, pictures: Data) -> None:
    data, run = pictures
    settings = data / "dataset.yaml"
    settings.write_text(settings.read_text().replace("fill_outlines: false", "fill_outlines: true"))
    client, _ = served(data, run)
    ring = np.zeros((20, 24), np.uint8)
    ring[4:16, 4:16] = 1
    ring[6:14, 6:14] = 0
    reply = client.send("PUT", PUT, {}, label=png(ring))
    assert (reply.status, reply.json["kind"]) == (400, "label-not-kept")
    assert files(data) == []
    ring[5:15, 5:15] = 1
    ring[9:11, 9:11] = 0  # a region with a hole is none of the lines
    assert client.send("PUT", PUT, {}, label=png(ring)).status == 200


def test_names_of_cases_with_signs_are_only_names(tmp_path: Path) -> None:
    assert labels._literal("a[1]*?") == "a[[]1][*][?]"
