"""What is known of the data sets, in words, for `ucseg datasets NAME` and docs/reference/datasets.md.

This makes the page: python -m ucseg.catalogue.page > docs/reference/datasets.md
"""

from __future__ import annotations

from ucseg.catalogue import DATASETS
from ucseg.catalogue.layout import PublicSet

_INTRODUCTION = """\
# Data sets by name

<!-- Made by `python -m ucseg.catalogue.page > docs/reference/datasets.md`; a test holds the two together. -->

`ucseg import NAME FOLDER --out DATASET` reads a public data set as its makers or papers share it. No scan is copied.
Only the ends of the paths must be as the layout says: folders above them may have other names. A folder of another
layout is refused. The message says what was expected, what was found, and which names fit.

`--split NAME` takes a split that papers report on. Its labelled cases are the first of the published list of training
cases, and must lie in the folder. The masks of the others are hidden (hidden.csv). Nothing is drawn. If the papers have
no validation cases, there are none, and the last weights are compared. Without `--split` the data set keeps its own
parts. If it has no validation or test cases, they are drawn as by `ucseg init`.

`ucseg download NAME --out FOLDER` fetches the sets that have a public address under an open licence (below: download).
It shows the licence, and continues only if you accept it (`--accept-licence`). It resumes an interrupted download,
verifies every file and unpacks it. If a member of an archive would lie outside the folder, it stops. MONAI (Decathlon,
md5) and torch-em (HC18 and ISIC 2018, sha256) publish checksums. For ISIC 2016 and 2017 none was found, so the sha256
of the first download is kept in checksums.txt and compared with later ones. **No address could be tried when this was
written**: the code was tested with a server on the same machine only.

`ucseg run NAME FOLDER --out RUN` makes a whole run, from the folder to numbers on the test cases. The recipe of that
name says split, method, steps, plan and seed, and whether its settings are published. You can give a file of yours
instead, written like those in `src/ucseg/recipes`.

`found` says where licence, citation, numbers and splits were read. These were stored copies of public text, in November
2026, never the live pages. *Second-hand* means that others say it, not the makers. A licence is called not known if no
one was found who had read the makers' words. The terms that come with the data decide.

The numbers of cases are the published ones. An incomplete copy is read, with a note.
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
    blocks = [_INTRODUCTION]
    for name, public in DATASETS.items():
        lines = [f"## {name}", f"{public.title}.", ""]
        for key, values in facts_of(public).items():
            if len(values) == 1:
                lines.append(f"- {key}: {values[0]}")
            else:
                lines += [f"- {key}:", *(f"    - {value}" for value in values)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    print(page(), end="")
