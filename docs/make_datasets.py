"""Makes docs/reference/datasets.md from the catalogue, so that nothing is said of a data set twice:

python docs/make_datasets.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from ucseg.catalogue import DATASETS

PAGE = Path(__file__).parent / "reference" / "datasets.md"
INTRODUCTION = """\
# Data sets by name

<!-- Made by `python docs/make_datasets.py`; a test holds the two together. -->

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


def page() -> str:
    """The page as it should be."""
    blocks = [INTRODUCTION]
    for name, public in DATASETS.items():
        lines = [f"## {name}", f"{public.title}.", ""]
        for key, values in public.facts().items():
            if len(values) == 1:
                lines.append(f"- {key}: {values[0]}")
            else:
                lines += [f"- {key}:", *(f"    - {value}" for value in values)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE}\n")
