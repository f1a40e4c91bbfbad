"""What is known of the data sets, in words: for `ucseg datasets NAME` and for docs/reference/datasets.md.

This makes the page: python -m ucseg.catalogue.page > docs/reference/datasets.md
"""

from __future__ import annotations

from ucseg.catalogue import DATASETS
from ucseg.catalogue.layout import PublicSet

_INTRODUCTION = """\
# Data sets by name

<!-- Made by `python -m ucseg.catalogue.page > docs/reference/datasets.md`; a test holds the two together. -->

`ucseg import NAME FOLDER --out DATASET` reads a public data set as its makers or papers share it. Names of folders may
differ above those that a layout names; what matters are the ends of the paths. No scan is copied. A folder of another
layout is refused, with what was expected, what was found, and which names fit.

`--split NAME` takes a split that papers report on. The labelled cases are then the first of the published list of
training cases, which must lie in the folder; the masks of the others are hidden (hidden.csv), nothing is drawn, and
where the papers have no validation cases there are none: the last weights are what is compared. Without `--split` the
data set's own parts are kept, and validation and test cases are drawn where it has none, as by `ucseg init`.

`ucseg download NAME --out FOLDER` fetches the sets that have a public address under an open licence (below: download).
It shows the licence and goes on only when that is accepted (`--accept-licence`), resumes what was interrupted, verifies
every file and unpacks it; a member of an archive that would lie outside the folder stops it. Checksums are those that
MONAI (Decathlon, md5) and torch-em (HC18 and ISIC 2018, sha256) publish; where none was found (ISIC 2016 and 2017) the
sha256 of the first download is kept in checksums.txt and held against later ones. **None of these addresses could be
tried when this was written**: the code was tested against a server on the same machine only.

`ucseg run NAME FOLDER --out RUN` makes a whole run, from the folder to numbers on the test cases. The recipe of that
name says split, method, steps, plan and seed; a file of your own, written like those in `src/ucseg/recipes`, may take
its place.
Each says whether its settings are published.

Under `found` stands where licence, citation, numbers and splits were read: in stored copies of public text, in November
2026, never on the live pages. *Second-hand* is what others than the makers say. A licence that stands only second-hand
says so; it is called not known where nobody was found who had read the makers' own words. The terms that come with the
data decide. No address was tried.

The numbers of cases are the published ones; an incomplete copy is read, and noted.
"""


def facts_of(public: PublicSet) -> dict[str, list[str]]:
    """What there is to say of a data set, a list of lines for each key."""
    counts = ", ".join(f"{count} {split}".strip() for split, count in public.counts.items())
    facts = {
        "classes": [public.classes or "as the data say"],
        "modality": [public.modality or "as the data say"],
        "cases": [counts] if counts else [],
        "layouts": [layout.words for layout in public.layouts],
        "splits": [f"{name}: {split.words}" for name, split in public.splits.items()],
        "licence": [public.licence or "not known"],
        "cite": [public.citation],
        "address": list(public.addresses),
        "found": list(public.found),
        "download": [file.url for file in public.downloads],
        "notes": [public.notes] if public.notes else [],
    }
    return {key: values for key, values in facts.items() if values}


def page() -> str:
    """docs/reference/datasets.md."""
    blocks = [_INTRODUCTION]
    for name, public in DATASETS.items():
        lines = [f"## {name}", f"{public.title}.", ""]
        for key, values in facts_of(public).items():
            if len(values) == 1:
                lines.append(f"- {key}: {values[0]}")
            else:
                lines += [f"- {key}:", *(f"  - {value}" for value in values)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    print(page(), end="")
