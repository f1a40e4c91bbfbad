"""What annotation programs draw becomes masks: shapes by hand in the form of each program."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.cli.check import check
from ucseg.cli.init import init
from ucseg.dataset.masks import read_label
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_mask, segment_names
from ucseg.scans.scan import Geometry

HEIGHT, WIDTH = 12, 16
GRID = ((HEIGHT, WIDTH), Geometry(np.eye(3), "px"))
CELL = [[3, 2], [9, 2], [9, 7], [3, 7]]  # x, y: columns 3 to 8, rows 2 to 6
SPOT = [[5, 4], [7, 4], [7, 6], [5, 6]]
PACKED = "V157000000000b2"
"""Run lengths of the cell, as pycocotools packs them."""
TRUE = np.zeros((HEIGHT, WIDTH), np.uint8)
TRUE[2:7, 3:9], TRUE[4:6, 5:7] = 1, 2


def labelme(names: list[str]) -> dict[str, Any]:
    shapes = [{"label": "cell", "points": CELL, "shape_type": "polygon"}, {"label": "spot", "points": SPOT}]
    shapes.append({"label": "box", "points": CELL[::2], "shape_type": "rectangle"})
    return {"imagePath": names[0], "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}


def coco(names: list[str], cell: Any = None) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(names, 5)]
    drawn = [(7, [np.ravel(CELL).tolist()] if cell is None else cell), (90, [np.ravel(SPOT).tolist()])]
    shapes = [
        {"image_id": image["id"], "category_id": number, "segmentation": shape, "bbox": [0, 0, 1, 1]}
        for image in images
        for number, shape in drawn
    ]
    categories = [{"id": 90, "name": "spot"}, {"id": 7, "name": "cell"}]
    return {"images": images, "annotations": shapes, "categories": categories}


def via(names: list[str]) -> dict[str, Any]:
    regions = [
        {
            "shape_attributes": {"name": "polygon", "all_points_x": [x for x, _ in points],
                                 "all_points_y": [y for _, y in points]},
            "region_attributes": {"kind": label},
        }
        for label, points in (("cell", CELL), ("spot", SPOT))
    ]  # fmt: skip
    return {f"{name}123": {"filename": name, "size": 123, "regions": regions} for name in names}


def cvat(names: list[str]) -> str:
    cell = ";".join(f"{x},{y}" for x, y in CELL)
    shapes = (
        '<mask label="spot" z_order="1" rle="0, 4" left="5" top="4" width="2" height="2"/>'
        f'<polygon label="cell" z_order="0" points="{cell}"/><box label="cell" xtl="0" ytl="0" xbr="9" ybr="9"/>'
    )
    images = "".join(f'<image name="{n}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>' for n in names)
    empty = f'<image name="later.png" width="{WIDTH}" height="{HEIGHT}"></image>'
    labels = "<label><name>cell</name></label><label><name>spot</name></label>"
    return f"<annotations><meta><task><labels>{labels}</labels></task></meta>{images}{empty}</annotations>"


@pytest.mark.parametrize("form", [labelme, coco, via, cvat])
def test_a_folder_of_pictures_and_shapes_becomes_a_dataset(tmp_path: Path, form: Any) -> None:
    names = [f"p{i}.png" for i in range(6)]
    folder = tmp_path / "s" / ("" if form is labelme else "images")
    folder.mkdir(parents=True)
    for i, name in enumerate([*names, "later.png"]):
        pixels = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    if form is labelme:
        for name in names:
            (folder / name).with_suffix(".json").write_text(json.dumps(labelme([name])))
    elif form is cvat:
        (tmp_path / "s/annotations.xml").write_text(cvat(names))
    else:
        (tmp_path / "s/annotations").mkdir()
        (tmp_path / "s/annotations/all.json").write_text(json.dumps(form(names)))
    (tmp_path / "s/notes.json").write_text('{"by": "someone"}')
    dataset = init(tmp_path / "s", out=tmp_path / "d", validation="1", test="1")
    assert dataset.config.classes == {0: "background", 1: "cell", 2: "spot"}
    assert {case.case for case in dataset.cases if case.mask is None} == {"later"}
    for case in dataset.cases:
        if case.mask is not None:
            assert np.array_equal(read_label(case.mask, GRID[0], dataset.config, GRID[1]), TRUE)
    assert not [finding for finding in check(tmp_path / "d") if finding.severity == "error"]


def test_run_lengths_of_coco_plain_and_packed(tmp_path: Path) -> None:
    """Column by column."""
    flat = (TRUE > 0).T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    file = tmp_path / "a.json"
    for counted in (counts, PACKED):
        drawn = {"counts": counted, "size": [HEIGHT, WIDTH]}
        file.write_text(json.dumps(coco(["a.png"], drawn)))
        assert np.array_equal(read_mask(Path(f"{file}#a.png"), GRID).array[0], TRUE)


def test_circles_holes_and_patches(tmp_path: Path) -> None:
    patch = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(patch, format="PNG")
    shapes = [
        {"label": "round", "points": [[8, 6], [8, 9]], "shape_type": "circle"},
        {
            "label": "patch", "points": [[1, 1], [3, 3]], "shape_type": "mask",
            "mask": base64.b64encode(patch.getvalue()).decode(),
        },
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "..\\x\\a.png", "shapes": shapes}))
    address = Address.of(tmp_path / "a.json#a.png")
    found = read_mask(address, GRID).array[0]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    numbers = {name: number for number, name in segment_names(address).items()}
    assert np.array_equal(found == numbers["round"], (rows - 6) ** 2 + (columns - 8) ** 2 <= 9)
    assert np.argwhere(found == numbers["patch"]).tolist() == [[1, 1], [2, 1], [2, 2]]
    assert address.stem == "a"


def test_what_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(coco(["a.png"])))
    address = Address.of(f"{file}#a.png")
    for other, grid, kind in (
        (f"{file}#b.png", GRID, "annotation-missing"),
        (address, ((9, 9), GRID[1]), "annotation-size"),
        (address, None, "mask-needs-image"),
    ):
        with refused(kind, naming=file):
            read_mask(other, grid)
    with refused("annotation-as-image", naming=file):
        read_header(address)
    file.write_text(json.dumps(coco(["a.png"], {"counts": [3, 4], "size": [HEIGHT, WIDTH]})))
    with refused("scan-damaged", naming=file):
        read_mask(address, GRID)
    file.write_text(json.dumps({**coco(["a.png"]), "categories": []}))
    with refused("scan-damaged", naming=file):
        read_mask(address, GRID)
    file.write_text("[" * 100_000)
    with refused("scan-content", naming=file):
        read_mask(address, GRID)
