"""Is this dataset sound? Each problem is reported with its file, what was found, and how to fix it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ucseg.dataset.case import Case
from ucseg.dataset.fitting import stretch, stretched_in_words
from ucseg.dataset.manifest import CASES_FILE, CONFIG_FILE, Dataset
from ucseg.dataset.masks import mask_offset, read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError, some
from ucseg.folder import as_shown
from ucseg.folder.classes import two_numberings
from ucseg.folder.survey import is_stack_to_measure, reason_of
from ucseg.machine.pool import for_each
from ucseg.planning.facts import ScanFacts, facts_in
from ucseg.planning.thumbnail import thumbnail_of
from ucseg.scans.address import Address
from ucseg.scans.colours import are_colours
from ucseg.scans.reading import oddities, read_header, read_scan, segment_names
from ucseg.scans.scan import Geometry, Scan
from ucseg.soundness.before_training import alike, findings_before_training
from ucseg.soundness.duplicates import digest
from ucseg.soundness.finding import Finding, name_in_root
from ucseg.soundness.lost_classes import lost_classes
from ucseg.soundness.tables import findings_of_tables_and_folders
from ucseg.types import NOT_ANNOTATED, Array

_SHEAR_TOLERANCE = 1e-3

Measure = Callable[[Scan, Array | None, bytes | None], ScanFacts]
"""The facts of a scan with its label and its thumbnail."""
See = Callable[[Case, Scan, Array | None], None]
"""Takes what was read of a case: the scan, and its label if it has one."""


class UnsoundDatasetError(UserError):
    """A dataset has errors; `findings` are all its errors and warnings."""

    def __init__(self, message: str, findings: list[Finding]) -> None:
        super().__init__("dataset-unsound", message)
        self.findings = findings


@dataclass
class _Examined:
    case: Case
    findings: list[Finding] = field(default_factory=list)
    image_digest: str | None = None
    label_digest: str | None = None
    stretch: str = ""
    """How the mask is stretched to its image."""
    thumbnail: bytes | None = None
    names: dict[int, str] | None = None
    """Of the segments of the mask, by its header."""
    odd: list[tuple[str, bool, frozenset[str]]] = field(default_factory=list)
    """Name of a file, whether it is the mask, and how it shows something else than it stores."""
    doubt: str = ""
    """Of the image's header, where it says two spacings."""
    facts: ScanFacts | str = "it cannot be read"


def check_dataset(dataset: Dataset, done: Callable[[], None] | None = None, see: See | None = None) -> list[Finding]:
    """Read every image and every visible mask once, in parallel, and report all that is wrong.

    No hidden mask is opened. `done` is called after each case, `see` with what was read of it, if all of it could be.

    Returns:
        findings, errors first, then by file.
    """
    seen: dict[str, _Examined] = {}

    def look(case: Case, slice_axis: int | None, known: ScanFacts | None) -> ScanFacts | str:
        one = _examine(
            case, dataset, see, lambda scan, label, thumbnail: known or facts_in(scan, label, thumbnail, slice_axis)
        )
        seen[case.case] = one
        return one.facts

    findings = findings_before_training(dataset, done, look)
    others = [case for case in dataset.cases if case.case not in seen]
    seen |= {one.case.case: one for one in for_each(lambda case: _examine(case, dataset, see), others, done)}
    examined = [seen[case.case] for case in dataset.cases]
    findings += [finding for one in examined for finding in one.findings]
    findings += _duplicates(examined, dataset)
    findings += _stretched(examined, dataset)
    findings += _contradictions(examined, dataset)
    findings += _numberings(examined)
    findings += [Finding(*found) for found in as_shown.in_words(odd for one in examined for odd in one.odd)]
    thumbnails = {one.case.case: one.thumbnail for one in examined}
    findings += alike(dataset, thumbnails, {one.case.case: one.image_digest for one in examined})
    findings += findings_of_tables_and_folders(dataset)
    findings += lost_classes(dataset)
    return sorted(findings, key=lambda finding: (finding.severity != "error", finding.file, finding.finding))


def shear(geometry: Geometry) -> float:
    """The greatest |cosine| between two axes of the voxel grid; 0 when they are at right angles."""
    axes = geometry.affine[:-1, :-1] / np.linalg.norm(geometry.affine[:-1, :-1], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(geometry.dims)).max())


def _examine(case: Case, dataset: Dataset, see: See | None, measure: Measure | None = None) -> _Examined:
    """What is found in a case, and its facts if they can be measured."""
    out = _Examined(case)
    name = name_in_root(case.image, dataset)
    scan: Scan | None = None
    shape: tuple[int, ...] | None = None
    geometry: Geometry | None = None
    try:
        scan = read_scan(case.image)
    except UserError as error:
        out.findings.append(_from_error(error, case.image, dataset))
    else:
        shape, geometry = scan.array.shape[1:], scan.geometry
        out.doubt = geometry.doubt
        out.image_digest = digest(scan.array)
        out.thumbnail = thumbnail_of(scan.array)
        out.findings += _of_image(name, scan, case, dataset.config)
        out.odd.append((name, False, oddities(case.image)))
    label = None if case.mask is None else _examine_mask(out, case.mask, shape, geometry, dataset)
    if scan is None or (case.mask is not None and label is None):
        return out
    if see is not None:
        see(case, scan, label)
    if measure is not None:
        out.facts = measure(scan, label, out.thumbnail)
        out.thumbnail = out.facts.thumbnail  # known facts have it too: one copy is enough in memory
    return out


def _examine_mask(
    out: _Examined, mask: Address, shape: tuple[int, ...] | None, geometry: Geometry | None, dataset: Dataset
) -> Array | None:
    """The label of an image of S = `shape`, or None where it cannot be read; adds to the findings of `out`."""
    name = name_in_root(mask, dataset)
    if mask == out.case.image:
        fix = f"name the right mask in {CASES_FILE}"
        out.findings.append(Finding("mask-is-image", name, "the image is also its own mask", fix, "error"))
        return None
    try:
        # Without a readable image there is no grid to compare with; the mask's own still shows whether it can be read.
        label = read_label(mask, shape or read_header(mask)[0], dataset.config, geometry, out.case.slices)
        off = None if shape is None or geometry is None else mask_offset(mask, shape, geometry)
    except UserError as error:
        out.findings.append(_from_error(error, mask, dataset))
        return None
    out.label_digest = digest(label)
    out.odd.append((name, True, oddities(mask, mask=True)))
    shows = bool(((label > 0) & (label != NOT_ANNOTATED)).any())
    out.names = segment_names(mask) if shows else None
    out.stretch = "" if shape is None or geometry is None else stretch(mask, shape, geometry)
    if not shows:
        fix = f"if there is something to see, draw it, or empty its field in {CASES_FILE}"
        out.findings.append(Finding("mask-empty", name, "the mask is empty: all that is annotated is background", fix))
    if off and not off.close:
        what = f"the mask lies up to {off.voxels:.3g} voxels beside its image, by the headers of both"
        fix = "give it the image's header if they agree voxel by voxel, else bring it to the image's grid"
        out.findings.append(Finding("geometry-differs", name, what, fix))
    elif off and off.only_by:
        what = f"image and mask state different geometries, and agree by {off.only_by}; so they are used"
        fix = "give both files one header"
        out.findings.append(Finding("geometry-otherwise", name, what, fix))
    return label


def _of_image(name: str, scan: Scan, case: Case, config: DatasetConfig) -> Iterable[Finding]:
    array, geometry = scan.array, scan.geometry
    if geometry.dims != config.dims and not is_stack_to_measure(case, geometry, config.dims):
        what, fix = f"the image is {geometry.dims}D, the dataset {config.dims}D", f"fix dims in {CONFIG_FILE}"
        yield Finding("image-rank", name, what, f"remove the case, or {fix}", "error")
    if len(array) != config.channels:
        what = f"the image has {len(array)} channels, the dataset {config.channels}"
        yield Finding("image-channels", name, what, "convert the image, or remove the case", "error")
    if array.dtype.kind == "f":
        broken = int(array.size - np.isfinite(array).sum())
        if broken:
            what = f"{broken} of {array.size} voxels are NaN or infinite"
            fix = "replace them, for example by the background's value, or remove the case"
            yield Finding("image-not-finite", name, what, fix, "error")
            array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0) if broken < array.size else array
    if config.modality == "rgb" and not are_colours(array):
        what = f"its colours are from {array.min():g} to {array.max():g}, in {array.dtype}"
        fix = "save it with whole numbers of 8 or 16 bits, or within 0..1"
        yield Finding("image-colours", name, what, fix, "error")
    if array.min() == array.max():
        what = f"the image is constant: every voxel is {array.flat[0]:g}"
        yield Finding("image-constant", name, what, "export it again, or remove the case", "error")
    slant = shear(geometry)
    if slant > _SHEAR_TOLERANCE:
        degrees = float(np.degrees(np.arcsin(min(1.0, slant))))
        what = f"the axes of the affine are not at right angles (off by {degrees:.2f} degrees)"
        fix = "resample the scan to a grid with right angles (gantry tilt), or export the header again"
        yield Finding("axes-slanted", name, what, fix)


def _duplicates(examined: list[_Examined], dataset: Dataset) -> Iterable[Finding]:
    groups: dict[str, list[_Examined]] = defaultdict(list)
    for one in examined:
        if one.image_digest is not None:
            groups[one.image_digest].append(one)
    for same in groups.values():
        if len(same) < 2:
            continue
        first, *others = same
        listed = ", ".join(f"{one.case.case} ({one.case.split})" for one in others)
        masks = {one.label_digest for one in same if one.label_digest is not None}
        contradiction = "; their masks differ" if len(masks) > 1 else ""
        text = f"{first.case.case} ({first.case.split}) has the same image as {listed}{contradiction}"
        name, fix = name_in_root(first.case.image, dataset), f"keep one of them in {CASES_FILE}"
        if len({one.case.split for one in same}) > 1:
            yield Finding("duplicate-leak", name, f"leak: {text}", fix, "error")
        else:
            yield Finding("duplicate", name, text, fix)


def _stretched(examined: list[_Examined], dataset: Dataset) -> Iterable[Finding]:
    """Masks of another size than their images: right in some public sets, a mistake in others (see fitting.py)."""
    masks = [(one.case.mask, one.stretch) for one in examined if one.case.mask is not None]
    stretched = {name_in_root(mask, dataset): sizes for mask, sizes in masks if sizes}
    if stretched:
        fix = f"check that they fit their images; if not, name the right masks in {CASES_FILE} or resize them"
        yield Finding("mask-size", next(iter(stretched)), stretched_in_words(stretched, len(masks)), fix)


def _contradictions(examined: list[_Examined], dataset: Dataset) -> Iterable[Finding]:
    """Headers that say two spacings: one finding for all that say the same."""
    doubts: dict[str, list[str]] = defaultdict(list)
    for one in examined:
        if one.doubt:
            doubts[one.doubt].append(name_in_root(one.case.image, dataset))
    for doubt, names in doubts.items():
        left = doubt.partition(" ")[0]
        what = f"{len(names)} headers contradict themselves: {doubt}, which is taken ({some(names)})"
        fix = f"if the first is right, set geometry: {left} in {CONFIG_FILE}; else the second, to settle it"
        yield Finding("header-contradicts-itself", names[0], what, fix)


def _numberings(examined: list[_Examined]) -> Iterable[Finding]:
    """Masks whose headers number the same segments in two ways, and masks beside them that name none."""
    masks = [(one.case.mask, one.names) for one in examined if one.case.mask is not None and one.names is not None]
    apart = two_numberings((mask, names) for mask, names in masks if names)
    nameless = [mask.name for mask, names in masks if not names]
    if apart and nameless:
        what = f"two numberings in one folder: {apart}; {len(nameless)} masks name no segments ({some(nameless)})"
        yield Finding("two-numberings", CASES_FILE, what, "save these with names, or remove their masks", "error")
    elif apart:
        what = f"two numberings in one folder: {apart}; the names count, not the numbers"
        yield Finding("two-numberings", CASES_FILE, what, "look at the masks; if the names are right, all is well")


def _from_error(error: UserError, path: Address, dataset: Dataset) -> Finding:
    """A reader's sentence "what is wrong; what to do." as a finding."""
    finding, _, fix = reason_of(error, path).rstrip(".").rpartition("; ")
    if not finding:
        finding, fix = fix, f"put the file there, or remove the case from {CASES_FILE}"
    return Finding(error.code, name_in_root(path, dataset), finding, fix, "error")
