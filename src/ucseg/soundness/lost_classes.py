"""Which masks lose a class on the network's grid, because it is too small there?"""

from __future__ import annotations

from collections.abc import Iterable

from ucseg.dataset.manifest import Dataset
from ucseg.errors import UserError
from ucseg.planning.ceiling import NetworkGrid, ceilings
from ucseg.planning.choosing import grid_without_overrides
from ucseg.planning.fingerprint import take_fingerprint
from ucseg.planning.plan import read_plan
from ucseg.soundness.finding import Finding, name_in_root


def lost_classes(dataset: Dataset) -> Iterable[Finding]:
    """Of the labelled training masks, by mask and class; on the grid of plan.yaml, or of a new plan."""
    try:
        seen = take_fingerprint(dataset)
    except UserError:
        return  # what is wrong with the scans is reported of each
    file = dataset.folder / "plan.yaml"
    grid = NetworkGrid.of(read_plan(file)) if file.is_file() else grid_without_overrides(dataset, seen)
    if len(grid.spacing) != dataset.config.dims:
        return  # the plan of another dataset, which training refuses
    masks = {case.case: case.mask for case in dataset.labelled}
    for case, value in ceilings(dataset, seen, grid).lost():
        mask = masks[case]
        assert mask is not None
        what = f"class '{dataset.config.classes[value]}' is lost on the network's grid: it is too small there"
        fix = "make a finer plan (spacing and size in 'ucseg plan DATASET --explain'), or it is trained as background"
        yield Finding("class-lost", name_in_root(mask, dataset), what, fix)
