"""What a prediction should look like, by the labelled masks: which classes are in one piece, which always there."""

from __future__ import annotations

from ucseg.planning.fingerprint import ONE_COMPONENT_MASKS, ONE_COMPONENT_SHARE, Fingerprint
from ucseg.planning.sizing import Choice


def components(seen: Fingerprint, sliced: bool) -> Choice[tuple[int, ...]]:
    single = seen.one_component(sliced)
    what = "slices and masks" if sliced else "masks"
    share = f"{ONE_COMPONENT_SHARE:.0%} of the labelled {what}"
    if single:
        return Choice(single, f"each is one piece in at least {share}, so smaller pieces are mistakes")
    return Choice((), f"no class is one piece in {share}, of at least {ONE_COMPONENT_MASKS} masks")


def always_present(seen: Fingerprint) -> Choice[tuple[int, ...]]:
    masks, shown = len(seen.whole), [seen.scans[name].classes or {} for name in seen.whole]
    always = tuple(value for value in range(1, seen.classes) if shown and all(value in one for one in shown))
    kind = "labelled masks" if masks == len(seen.labelled) else "masks that are annotated everywhere"
    if always:
        return Choice(always, f"all {masks} {kind} have them, so a prediction without them has probably failed")
    return Choice((), f"no class is in all {masks} {kind}, so an empty prediction may be right")
