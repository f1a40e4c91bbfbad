"""What the plug-ins of 3D Slicer and OHIF call, over plain HTTP: requests as they send them, and the answers."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from PIL import Image

from ucseg.dataset.manifest import load_dataset
from ucseg.inference.predictor import Predictor
from ucseg.types import Array

Data = tuple[Path, Path]


def two_parts(reply: Any) -> tuple[dict[str, Any], str, bytes]:
    """Parameters, file name and file of an answer of /infer."""
    boundary = re.search("boundary=(.+)", reply.headers["content-type"])[1]
    assert int(reply.headers["content-length"]) == len(reply.body)
    first, second = reply.body.split(f"--{boundary}".encode())[1:3]
    head, _, text = first.partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert b"filename" not in head
    head, _, content = second.partition(b"\r\n\r\n")
    return json.loads(text), re.search(rb'filename="(.+)"', head)[1].decode(), content.removesuffix(b"\r\n")


def read(path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    return sitk.ReadImage(str(path))


def written(path: Path, array: Array, like: Any = None) -> bytes:
    """Z x Y x X as ITK writes it."""
    image = sitk.GetImageFromArray(array)
    if like is not None:
        image.CopyInformation(like)
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def test_the_page_of_serve_names_every_address(packages: None) -> None:
    from ucseg.serving.protocol import Protocol

    page = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text()
    named = {(method, path) for method, path in re.findall(r"(GET|POST|PUT|DELETE) (/[a-z/{}]*)", page)}
    routes = Protocol.routes.fget(object.__new__(Protocol))  # type: ignore[attr-defined]
    assert named == {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}


def test_info_says_what_the_plug_ins_need(served: Any, pictures: Data) -> None:
    client, _ = served(*pictures)
    info = client("GET", "/info/").json
    assert info["labels"] == ["foreground"]
    assert info["models"]["ucseg"]["type"] == "segmentation"
    assert info["models"]["ucseg"]["labels"] == {"foreground": 1}
    assert not info.get("config"), "3D Slicer would ask for a newer server"
    assert info["strategies"]
    assert info["trainers"]["ucseg"]["config"]["steps"] >= 1
    assert (info["datastore"]["total"], info["datastore"]["completed"]) == (6, 2)
    assert client("GET", "/auth/").json["enabled"] is False
    assert client("GET", "/info").status == 307


def test_a_session_of_slicer_with_volumes(served: Any, volumes: Data, tmp_path: Path) -> None:
    data, run = volumes
    client, _ = served(data, run)
    sample = client("POST", "/activelearning/random", {"client_id": "a"}).json
    assert sample["id"] in ("case1", "case2")
    assert Path(sample["path"]).exists()
    image = client("GET", f"/datastore/image?image={sample['id']}")
    assert image.body == Path(sample["path"]).read_bytes()
    assert image.headers["content-disposition"].endswith(f'filename="{sample["id"]}.nii.gz"')

    wanted = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "a"}
    params, name, content = two_parts(client.send("POST", f"/infer/ucseg?image={sample['id']}", wanted))
    assert name.endswith(".nrrd")
    assert params["label_names"] == {"foreground": 1}
    mask, scan = read(tmp_path / name, content), sitk.ReadImage(sample["path"])
    assert mask.GetSize() == scan.GetSize()
    np.testing.assert_allclose(mask.GetOrigin(), scan.GetOrigin())
    np.testing.assert_allclose(
        np.multiply(mask.GetDirection(), np.tile(mask.GetSpacing(), 3)),
        np.multiply(scan.GetDirection(), np.tile(scan.GetSpacing(), 3)),
    )
    array = sitk.GetArrayFromImage(mask)
    assert array.dtype == np.uint8
    assert array.any()

    array[0, 0, 0] = 1
    label = written(tmp_path / "label.nii.gz", array, scan)
    said = {"label_info": [{"name": "foreground", "idx": 1}], "client_id": "a"}
    saved = client.send("PUT", f"/datastore/label?image={sample['id']}", said, label=("/tmp/x/y.nii.gz", label))
    assert saved.json["image"] == sample["id"]
    found = client("GET", "/datastore/?output=all").json["objects"][sample["id"]]["labels"]
    assert found["final"]["ext"] == ".nii.gz"
    back = client("GET", f"/datastore/label?label={sample['id']}&tag=final")
    again = read(tmp_path / "back.nii.gz", back.body)
    assert (sitk.GetArrayFromImage(again) == array).all()
    assert client("GET", "/info/").json["datastore"]["completed"] == 2
    assert sample["id"] in [case.case for case in load_dataset(data).labelled]
    assert client("POST", "/activelearning/random", {"client_id": "a"}).json["id"] != sample["id"]


def test_ohif_gets_an_uncompressed_nrrd_as_the_whole_body(served: Any, volumes: Data, tmp_path: Path) -> None:
    client, _ = served(*volumes)
    wanted = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    reply = client.send("POST", "/infer/ucseg?image=case1&output=image", wanted)
    header, _, voxels = reply.body.partition(b"\n\n")
    assert header.startswith(b"NRRD")
    assert b"encoding: raw" in header
    mask = read(tmp_path / "mask.nrrd", reply.body)
    assert voxels == sitk.GetArrayFromImage(mask).astype("<u2").tobytes()
    only = client.send("POST", "/infer/ucseg?image=case1&output=json", wanted)
    assert only.json["label_names"] == {"foreground": 1}


def test_a_label_without_a_header_is_taken_as_ohif_sends_it(served: Any, volumes: Data, tmp_path: Path) -> None:
    data, run = volumes
    client, _ = served(data, run)
    array = np.zeros((16, 17, 18), np.uint16)  # z, y, x
    array[3, 5, 7] = 1
    said = {"label_info": [{"name": "foreground", "idx": 1}]}
    assert client.send("PUT", "/datastore/label?image=case1", said, label=("label.bin", array.tobytes())).status == 200
    mask = next(case.mask for case in load_dataset(data).cases if case.case == "case1")
    stored = np.asarray(nib.load(mask.path).dataobj)
    assert stored[7, 5, 3] == 1
    assert stored.sum() == 1
    short = client.send("PUT", "/datastore/label?image=case1", said, label=("label.bin", b"123"))
    assert (short.status, short.json["kind"]) == (400, "upload-size")
    large = ("label.nrrd", written(tmp_path / "large.nrrd", np.zeros((17, 17, 18), np.uint8)))
    reply = client.send("PUT", "/datastore/label?image=case1", said, label=large)
    assert (reply.status, reply.json["kind"]) == (400, "upload-large")
    assert "18 x 17 x 16" in reply.json["detail"]


def test_a_picture_is_one_slice_for_slicer_and_comes_back_as_it_was_drawn(
    served: Any, pictures: Data, tmp_path: Path
) -> None:
    data, run = pictures
    client, _ = served(data, run)
    picture = next(case.image.path for case in load_dataset(data).cases if case.case == "case3")
    _, name, content = two_parts(client.send("POST", "/infer/ucseg?image=case3", {"result_extension": ".nrrd"}))
    mask = read(tmp_path / name, content)
    assert mask.GetSize() == (24, 20, 1)
    bright = np.asarray(Image.open(picture)) > 100
    assert (sitk.GetArrayFromImage(mask)[0] == bright).all()

    drawn = bright.astype(np.uint8)
    drawn[0, 23] = 1
    label = written(tmp_path / "label.nii.gz", drawn[None])
    assert client.send("PUT", "/datastore/label?image=case3", {}, label=("label.nii.gz", label)).status == 200
    stored = next(case.mask for case in load_dataset(data).cases if case.case == "case3")
    assert (np.asarray(Image.open(stored.path)) == drawn * 255).all(), "it is coded as the other masks are"
    whole = client.send("POST", "/infer/ucseg?image=case3&output=image", {"result_extension": ".png"})
    (tmp_path / "mask.png").write_bytes(whole.body)
    assert (np.asarray(Image.open(tmp_path / "mask.png")) == bright).all()


def test_an_image_that_a_client_brings_is_predicted(served: Any, pictures: Data, tmp_path: Path) -> None:
    client, _ = served(*pictures)
    image = np.zeros((30, 26), np.uint8)
    image[4:9, 3:20] = 255
    Image.fromarray(image).save(tmp_path / "own.png")
    sent = ("C:\\scans\\own.png", (tmp_path / "own.png").read_bytes())
    reply = client.send("POST", "/infer/ucseg?image=&output=image", {"result_extension": ".png"}, file=sent)
    (tmp_path / "mask.png").write_bytes(reply.body)
    assert np.asarray(Image.open(tmp_path / "mask.png"))[6, 10] == 1


def test_memory_that_runs_out_is_an_answer_and_the_server_goes_on(
    served: Any, pictures: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = served(*pictures)

    def predict_scan(self: Predictor, scan: Any, **options: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(Predictor, "predict_scan", predict_scan)
        reply = client.send("POST", "/infer/ucseg?image=case0&output=image", {"result_extension": ".png"})
    assert (reply.status, reply.json["kind"]) == (503, "memory-ran-out") and "case0.png" in reply.json["detail"]
    assert client.send("POST", "/infer/ucseg?image=case0&output=image", {"result_extension": ".png"}).status == 200


def test_segments_count_by_their_names(served: Any, volumes: Data, tmp_path: Path) -> None:
    """3D Slicer numbers its list from the first segment, and writes 1, 2, ... of those that it exports."""
    client, _ = served(*volumes)
    array = np.zeros((16, 17, 18), np.uint8)
    array[3, 5, 7] = 1
    like = sitk.ReadImage(client("POST", "/activelearning/random", {}).json["path"])
    label = written(tmp_path / "label.nii.gz", array, like)
    put = "/datastore/label?image=case1"
    shifted = {"label_info": [{"name": "foreground", "idx": 2}]}
    assert client.send("PUT", put, shifted, label=("x.nii.gz", label)).status == 200
    unclear = {"label_info": [{"name": "tumour", "idx": 2}, {"name": "foreground", "idx": 1}]}
    reply = client.send("PUT", put, unclear, label=("x.nii.gz", label))
    assert (reply.status, reply.json["kind"]) == (400, "upload-order")
    other = {"label_info": [{"name": "foreground", "idx": 2}, {"name": "tumour", "idx": 1}]}
    array[3, 5, 8] = 2
    label = written(tmp_path / "label.nii.gz", array, like)
    in_order = {"label_info": [{"name": "foreground", "idx": 1}, {"name": "tumour", "idx": 2}]}
    reply = client.send("PUT", put, in_order, label=("x.nii.gz", label))
    assert (reply.status, reply.json["kind"]) == (400, "mask-segment")
    assert client.send("PUT", put, other, label=("x.nii.gz", label)).json["kind"] == "upload-order"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/infer/other?image=case0", 404),
        ("POST", "/infer/ucseg?image=none", 404),
        ("POST", "/infer/ucseg", 400),
        ("POST", "/infer/ucseg?image=../../SCANS/images/case0.png", 404),
        ("POST", "/infer/ucseg?image=case0&output=dicom_seg", 400),
        ("POST", "/activelearning/none", 404),
        ("POST", "/train/none", 404),
        ("GET", "/datastore/image?image=/etc/passwd", 404),
        ("GET", "/datastore/label?label=case4&tag=final", 404),
        ("GET", "/datastore/label?label=case0&tag=../v1", 404),
        ("GET", "/train/", 404),
        ("GET", "/train/?check_if_running=true", 404),
    ],
)
def test_what_is_not_there_is_refused(served: Any, pictures: Data, method: str, path: str, status: int) -> None:
    client, _ = served(*pictures)
    reply = client.send(method, path) if path.startswith("/infer") else client(method, path)
    assert (reply.status, "detail" in reply.json) == (status, True)


def test_nothing_runs_so_nothing_is_stopped(served: Any, pictures: Data) -> None:
    client, _ = served(*pictures)
    stopped = client("DELETE", "/train/")
    assert (stopped.status, stopped.json) == (200, None)
    assert client("POST", "/train/ucseg", {"steps": 0}).json["kind"] == "train-steps"
    logs = client("GET", "/logs/?html=false")
    assert logs.headers["content-type"].startswith("text/plain")


def test_no_test_or_validation_case_is_offered(served: Any, pictures: Data) -> None:
    data, run = pictures
    rows = list(csv.DictReader((data / "cases.csv").open()))
    for row, split in zip(rows, ["train", "train", "test", "validation", "test", "train"], strict=True):
        row["split"] = split
    with (data / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    client, _ = served(data, run)
    assert {client("POST", "/activelearning/random", {"client_id": who}).json["id"] for who in "abc"} == {"case5"}


def test_a_segmentation_of_slicer_that_is_cut_to_what_is_drawn_is_laid_in_its_place(
    served: Any, volumes: Data, tmp_path: Path
) -> None:
    data, run = volumes
    client, _ = served(data, run)
    scan = sitk.ReadImage(str(next(case.image.path for case in load_dataset(data).cases if case.case == "case1")))
    part = sitk.GetImageFromArray(np.ones((2, 3, 4), np.uint8))
    part.SetSpacing(scan.GetSpacing())
    part.SetDirection(scan.GetDirection())
    part.SetOrigin(scan.TransformIndexToPhysicalPoint((5, 6, 7)))
    for key, value in {"Name": "foreground", "Layer": "0", "LabelValue": "1"}.items():
        part.SetMetaData(f"Segment0_{key}", value)
    sitk.WriteImage(part, str(tmp_path / "cut.seg.nrrd"))
    sent = ("cut.seg.nrrd", (tmp_path / "cut.seg.nrrd").read_bytes())
    assert client.send("PUT", "/datastore/label?image=case1", {}, label=sent).status == 200
    mask = next(case.mask for case in load_dataset(data).cases if case.case == "case1")
    stored = np.asarray(nib.load(mask.path).dataobj)
    assert stored.sum() == 24
    assert stored[5:9, 6:9, 7:9].all()


def test_a_label_that_lies_elsewhere_is_refused(served: Any, volumes: Data, tmp_path: Path) -> None:
    client, session = served(*volumes)
    moved = sitk.GetImageFromArray(np.ones((16, 17, 18), np.uint8))
    moved.SetOrigin((100.0, 0.0, 0.0))
    sitk.WriteImage(moved, str(tmp_path / "label.nii.gz"))
    sent = ("label.nii.gz", (tmp_path / "label.nii.gz").read_bytes())
    reply = client.send("PUT", "/datastore/label?image=case1", {}, label=sent)
    assert (reply.status, reply.json["kind"]) == (400, "geometry-differs")
    assert session.labels.versions == []
