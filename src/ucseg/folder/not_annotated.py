"""Values in masks that mean "not annotated": what remains of the masks without them."""

from __future__ import annotations

from collections.abc import Mapping

from ucseg.dataset.masks import NOTHING_ANNOTATED, values_not_kept
from ucseg.dataset.settings import means_not_annotated
from ucseg.errors import UserError
from ucseg.folder.classes import BACKGROUND
from ucseg.folder.survey import MaskFacts


def ignored_values(ignore: int | None, classes: Mapping[int, str] | None, masks: Mapping[str, MaskFacts]) -> set[int]:
    """The value of --ignore, if it is given; a UserError if it is a class by its name, or no mask holds it."""
    if ignore is None:
        return set()
    known = {0: BACKGROUND} | dict(classes or {})
    if ignore in known and not means_not_annotated(known[ignore]):
        said = f"--ignore {ignore}: this value is the class '{known[ignore]}'; give another one, or other --classes."
        raise UserError("ignore-is-class", said)
    if masks and all(facts.counts is not None and ignore not in facts.counts for facts in masks.values()):
        raise UserError("ignore-nowhere", f"--ignore {ignore}: no mask holds this value; leave it out, or correct it.")
    return {ignore}


def annotated_parts(
    masks: Mapping[str, MaskFacts], not_annotated: set[int], notes: list[str], rejected: dict[str, str]
) -> dict[str, MaskFacts]:
    """The masks without what is not annotated; `rejected` gets those of which nothing is left.

    Raises:
        UserError: a mask does not keep such values.
    """
    if not_annotated and (lossy := next((facts.mask for facts in masks.values() if facts.lossy), None)):
        raise values_not_kept(lossy)
    found = {case: facts.without(not_annotated) for case, facts in masks.items()}
    rejected |= {case: NOTHING_ANNOTATED for case, facts in found.items() if facts is None}
    known = {case: facts for case, facts in found.items() if facts is not None}
    some = [(sum((facts.counts or {}).values()), facts.unknown) for facts in known.values() if facts.unknown]
    if parts := [there / (there + unknown) for there, unknown in some]:
        notes.append(
            f"{len(parts)} of {len(known)} masks are annotated in parts ({100 * sum(parts) / len(parts):.2g} % of "
            "their voxels); the rest of them is trained as unlabelled."
        )
    return known
