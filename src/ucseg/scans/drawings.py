"""Masks drawn by annotation programs: LabelMe and COCO (JSON), VIA (JSON), CVAT for images (XML), ImageJ (ROI).

    file.json#NAME, file.xml#NAME, RoiSet.zip#NAME        the shapes on the picture called NAME

Coordinates are x, y in pixels, with 0, 0 at the corner of the picture: the centre of the first pixel is at 0.5, 0.5. A
pixel belongs to a shape where its centre lies inside or on the line. Where shapes overlap, the later one lies on top.
Boxes, points and open lines are no masks. A picture without a shape counts as not annotated.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from ucseg.errors import UserError
from ucseg.scans import imagej, refusals
from ucseg.scans.address import Address
from ucseg.scans.polygons import filled
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array

ENDINGS = (".json", ".xml", *imagej.ENDINGS)
_BROKEN = (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, binascii.Error, RecursionError)
Draw = Callable[[tuple[int, int]], Array]
"""From H, W to H x W bool."""


@dataclass
class _Picture:
    """What is drawn on one picture: label and shape, the last on top; its height and width, where they are stated.

    `pages`: of each shape, the slice of a stack that it is drawn on; None where it is on none in particular.
    """

    shapes: list[tuple[str, Draw]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    pages: list[int | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Annotations:
    labels: list[str]
    pictures: dict[str, _Picture]


def pictures_of(path: Path) -> list[str] | None:
    """Names of the pictures on which a file has shapes, as it says them; None where it is no file of annotations.

    Raises:
        UserError: it is one, and damaged.
    """
    found = _read(path)
    if found is None:
        return None
    return [name or imagej.picture_of(path) for name, one in found.pictures.items() if one.shapes]


def names(address: Address) -> dict[int, str]:
    """Value -> label of all shapes that a file knows."""
    found = _known(address)
    return dict(enumerate(found.labels, start=1))


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Raises a UserError: there is no picture in the file."""
    raise UserError("annotation-as-image", f"{address}: holds shapes, and no picture; use it as a mask.")


def read(address: Address) -> Scan:
    """Raises a UserError, as `read_header`."""
    read_header(address)
    raise AssertionError


def drawn(address: Address, grid: tuple[tuple[int, ...], Geometry], wanted: Sequence[str] | None = None) -> Scan:
    """1 x S, unsigned: values as in `names`, 0 elsewhere.

    Args:
        grid: S and geometry of the picture, H x W; or of a stack, if the program says which slice a shape is on.
        wanted: labels to draw, in any case; None: all.

    Raises:
        UserError: the file is damaged, has nothing on this picture, or is of a picture of another size.
    """
    shape, geometry = grid
    found = _known(address)
    picture = found.pictures.get(address.part, found.pictures.get(""))
    if picture is None:
        raise UserError("annotation-missing", f"{address}: nothing is drawn there on this picture; check its name.")
    if len(shape) != (3 if picture.pages and len(shape) == 3 else 2) or picture.size not in (None, tuple(shape)):
        raise UserError(
            "annotation-size",
            f"{address}: was drawn on a picture of {picture.size}, its image has {tuple(shape)}; pair them again.",
        )
    numbers = {label: number for number, label in enumerate(found.labels, start=1)}
    asked = None if wanted is None else {name.strip().lower() for name in wanted}
    out = np.zeros(shape, np.uint8 if len(numbers) < 256 else np.uint16)
    for (label, draw), page in zip(picture.shapes, picture.pages or [None] * len(picture.shapes), strict=True):
        if asked is None or label.lower() in asked:
            try:
                _slice_of(out, page, label, address)[draw((shape[-2], shape[-1]))] = numbers[label]
            except _BROKEN as error:
                raise refusals.damaged(address.file, error) from error
    return Scan(out[None], geometry, address.path)


def _slice_of(out: Array, page: int | None, label: str, address: Address) -> Array:
    """H x W of S, that a shape is drawn on."""
    if out.ndim == 2 and page in (None, 0):
        return out
    if out.ndim == 2 or page is None or page >= len(out):
        where = "no slice in particular" if page is None else f"slice {page + 1}"
        slices = 1 if out.ndim == 2 else len(out)
        raise UserError(
            "annotation-slice",
            f"{address}: its region '{label}' is on {where}, and the image has {slices}; set its position again.",
        )
    found: Array = out[page]
    return found


def _known(address: Address) -> _Annotations:
    found = _read(address.file)
    if found is None:
        raise refusals.other_content(
            address.file, "annotations of LabelMe, COCO, VIA, CVAT or ImageJ", "name another file"
        )
    return found


def _read(path: Path) -> _Annotations | None:
    stat = path.stat()
    return _parsed(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _parsed(path: Path, size: int, changed: int) -> _Annotations | None:
    if path.suffix.lower() in imagej.ENDINGS:
        regions = imagej.regions(path)
        return None if regions is None else _imagej(regions)
    try:
        if path.suffix.lower() == ".xml":
            root = ElementTree.parse(path).getroot()
            return _cvat(root) if root.tag == "annotations" and root.find("image") is not None else None
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, ElementTree.ParseError):
        return None  # any program may leave such files beside pictures
    except OSError as error:
        raise refusals.damaged(path, error) from error
    try:
        return _of_json(content) if isinstance(content, dict) else None
    except _BROKEN as error:
        raise refusals.damaged(path, error) from error


def _of_json(content: dict[str, Any]) -> _Annotations | None:
    if isinstance(content.get("shapes"), list) and "imagePath" in content:
        return _labelme(content)
    if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
        return _coco(content)
    entries = content.get("_via_img_metadata", content)
    if isinstance(entries, dict) and entries:
        every = list(entries.values())
        if all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in every):
            return _via(every)
    return None


def _labelme(content: dict[str, Any]) -> _Annotations:
    picture = _Picture()
    if content.get("imageHeight") and content.get("imageWidth"):
        picture.size = int(content["imageHeight"]), int(content["imageWidth"])
    for shape in content["shapes"]:
        points = np.array(shape["points"], float).reshape(-1, 2)
        kind = shape.get("shape_type") or "polygon"
        if kind == "polygon":
            picture.shapes.append((str(shape["label"]), _rings([points])))
        elif kind == "circle":
            (x, y), radius = points[0].tolist(), float(np.linalg.norm(points[1] - points[0]))
            picture.shapes.append((str(shape["label"]), _ellipse(x, y, radius, radius)))
        elif kind == "mask":
            patch = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
            picture.shapes.append((str(shape["label"]), _patch(patch, *np.rint(points[0]).astype(int))))
    name = PurePosixPath(str(content["imagePath"]).replace("\\", "/")).name
    return _Annotations(sorted({label for label, _ in picture.shapes}), {name: picture})


def _coco(content: dict[str, Any]) -> _Annotations:
    labels = {one["id"]: str(one["name"]) for one in sorted(content.get("categories") or [], key=lambda one: one["id"])}
    pictures = {one["id"]: _Picture(size=(int(one["height"]), int(one["width"]))) for one in content["images"]}
    for one in content["annotations"]:
        picture, drawn = pictures[one["image_id"]], one.get("segmentation")
        if isinstance(drawn, dict):
            draw = _run_lengths(_counts(drawn["counts"]), (int(drawn["size"][0]), int(drawn["size"][1])))
        elif drawn:
            draw = _rings([np.array(ring, float).reshape(-1, 2) for ring in drawn], apart=True)
        else:
            continue  # a box
        picture.shapes.append((labels[one["category_id"]], draw))
    return _Annotations([*labels.values()], {str(one["file_name"]): pictures[one["id"]] for one in content["images"]})


def _via(entries: Iterable[dict[str, Any]]) -> _Annotations:
    pictures: dict[str, _Picture] = {}
    for entry in entries:
        picture = pictures.setdefault(str(entry["filename"]), _Picture())
        regions = entry["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            shape = region["shape_attributes"]
            label = next((str(value) for value in (region.get("region_attributes") or {}).values() if value), "object")
            if shape["name"] == "polygon":
                points = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1).astype(float)
                picture.shapes.append((label, _rings([points])))
            elif shape["name"] in ("circle", "ellipse"):
                wide, high = (shape.get(name, shape.get("r")) for name in ("rx", "ry"))
                draw = _ellipse(shape["cx"], shape["cy"], wide, high, float(shape.get("theta") or 0))
                picture.shapes.append((label, draw))
    labels = sorted({label for one in pictures.values() for label, _ in one.shapes})
    return _Annotations(labels, pictures)


def _cvat(root: ElementTree.Element) -> _Annotations:
    pictures: dict[str, _Picture] = {}
    labels = [str(one.text) for one in root.iterfind("meta//labels/label/name")]
    for image in root.iterfind("image"):
        picture = pictures[image.attrib["name"]] = _Picture()
        picture.size = int(image.attrib["height"]), int(image.attrib["width"])
        for one in sorted(image, key=lambda one: int(one.get("z_order") or 0)):
            draw = _cvat_shape(one.tag, one.attrib)
            if draw is not None:
                picture.shapes.append((one.attrib["label"], draw))
    used = {label for one in pictures.values() for label, _ in one.shapes}
    return _Annotations([*labels, *sorted(used - set(labels))], pictures)


def _cvat_shape(kind: str, has: Mapping[str, str]) -> Draw | None:
    if kind == "polygon":
        return _rings([np.array([point.split(",") for point in has["points"].split(";")], float)])
    if kind == "ellipse":
        turned = np.deg2rad(float(has.get("rotation") or 0))
        x, y, wide, high = (float(has[name]) for name in ("cx", "cy", "rx", "ry"))
        return _ellipse(x, y, wide, high, turned)
    if kind == "mask":  # run lengths row by row, within a box
        width, height = int(has["width"]), int(has["height"])
        runs = np.array(has["rle"].split(","), int)
        drawn = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        return _patch(drawn, int(has["left"]), int(has["top"]))
    return None


def _imagej(regions: Sequence[imagej.Region]) -> _Annotations:
    """Of one picture without a name."""
    picture = _Picture(pages=[one.page for one in regions])
    picture.shapes = [(one.label, _rings(one.rings)) for one in regions]
    return _Annotations(sorted({one.label for one in regions}), {"": picture})


def _rings(rings: list[Array], apart: bool = False) -> Draw:
    """Closed lines of x, y; `apart`: each is a part, and none cuts a hole."""
    centred = [ring[:, ::-1] - 0.5 for ring in rings]

    def draw(shape: tuple[int, int]) -> Array:
        if not apart:
            return filled(centred, shape)
        out = np.zeros(shape, bool)
        for ring in centred:
            out |= filled([ring], shape)
        return out

    return draw


def _ellipse(x: float, y: float, wide: float, high: float, turned: float = 0.0) -> Draw:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    along, across = wide * np.cos(angles), high * np.sin(angles)
    ring = np.stack(
        [along * np.cos(turned) - across * np.sin(turned), along * np.sin(turned) + across * np.cos(turned)]
    )
    return _rings([ring.T + np.array([x, y])])


def _patch(drawn: Array, left: int, top: int) -> Draw:
    def draw(shape: tuple[int, int]) -> Array:
        out = np.zeros(shape, bool)
        rows, columns = np.nonzero(drawn)
        kept = (rows + top >= 0) & (rows + top < shape[0]) & (columns + left >= 0) & (columns + left < shape[1])
        out[rows[kept] + top, columns[kept] + left] = True
        return out

    return draw


def _run_lengths(counts: Sequence[int], size: tuple[int, int]) -> Draw:
    """COCO's runs of 0 and 1 in turn, column by column."""
    return lambda shape: np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size[1], size[0]).T


def _counts(said: str | list[int]) -> list[int]:
    """COCO's packed counts: groups of 5 bits, low ones first; from the third count on, less the one before the last."""
    if not isinstance(said, str):
        return [int(one) for one in said]
    counts: list[int] = []
    value = shift = 0
    for letter in said.encode("ascii"):
        group = letter - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
