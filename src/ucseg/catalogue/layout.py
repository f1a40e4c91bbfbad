"""What is known of a public data set: its files, classes, splits and terms.

A layout is a few patterns of paths, which may begin at any folder below the one that the user names:

    {case}      the case's name (a file or folder name, or a part of one)
    {subject}   the subject, if a folder or a part of the name gives it
    {other}     any other word in braces comes before the case's name, so that names differ: TestDataset/{set}/...
    *, **       any text without "/"; any text
    #image      an array of an HDF5 file (see scans/address.py); #channels the fourth axis of a NIfTI file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Part:
    """Some of a data set's cases.

    Attributes:
        split: "train", "validation", "test", or "" if the data set has none; then cases are drawn.
        images: pattern.
        masks: pattern with the same words in braces. None: no masks.
        names: files that list the cases in the published order, one name a line; `FILE.json#KEY` is a list in a JSON
            file. Several are read one after the other. Empty: every file that matches.
        where: word in braces -> regular expression that it must match; any text without "/" by default.
        optional: the data set is complete without it.
        several: several mask files of one case are the parts of one mask; otherwise they are an error.
        last_of: the last number of each subject, if the numbers of cases go on from subject to subject.
    """

    split: str
    images: str
    masks: str | None = None
    names: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    several: bool = False
    last_of: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way in which a data set is distributed.

    Attributes:
        parts: together all cases.
        convention: instead of parts, a convention of names: "nnunet" (read as by `ucseg init`) or "bids".
        markers: patterns of files that must be there, for a convention.
        mask_threshold: as `ucseg init` takes it, if masks are known to be grey levels (lossy JPEG).
        counts: split -> cases, if they differ from the data set's.
    """

    words: str
    parts: tuple[Part, ...] = ()
    convention: Literal["", "nnunet", "bids"] = ""
    markers: tuple[str, ...] = ()
    mask_threshold: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A split that papers report numbers on; `words` says who uses it.

    Attributes:
        labelled: so many subjects keep their masks, the first of the published list; the others' are hidden. None: all.
        of: how many subjects the list names.
        layout: in place of the data set's own, such as one of several folds.
    """

    words: str
    labelled: int | None = None
    of: int | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Download:
    """A public address and "md5:..." or "sha256:..."; if none is published, that of the first download counts."""

    url: str
    checksum: str = ""

    @property
    def file(self) -> str:
        return self.url.split("?", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]


@dataclass(frozen=True)
class PublicSet:
    """A data set of the literature.

    Attributes:
        classes: as `--classes` takes them; "" where the folder itself says (dataset.json) or the masks.
        modality: as `--modality` takes it; "" as `init` guesses.
        layouts: tried in this order.
        licence: its terms; "" where none was found.
        addresses: the makers' pages, and their files that need no registration.
        found: where licence, citation, numbers and splits were read; "second-hand" where others than the makers say so.
        splits: by the name that `--split` takes.
        counts: split -> cases as published, to notice an incomplete copy.
        downloads: public addresses under an open licence.
    """

    title: str
    layouts: tuple[Layout, ...]
    citation: str
    classes: str = ""
    modality: str = ""
    licence: str = ""
    splits: Mapping[str, Split] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    fill_outlines: bool | None = None
    downloads: tuple[Download, ...] = ()
    notes: str = ""
    addresses: tuple[str, ...] = ()
    found: tuple[str, ...] = ()

    def facts(self) -> dict[str, list[str]]:
        """What there is to say of a data set, a list of lines for each key."""
        counts = ", ".join(f"{count} {split}".strip() for split, count in self.counts.items())
        facts = {
            "classes": [self.classes or "as the data say"],
            "modality": [self.modality or "as the data say"],
            "cases": [counts] if counts else [],
            "layouts": [layout.words for layout in self.layouts],
            "splits": [f"{name}: {split.words}" for name, split in self.splits.items()],
            "licence": [self.licence or "not known"],
            "cite": [self.citation],
            "address": list(self.addresses),
            "found": list(self.found),
            "download": [file.url for file in self.downloads],
            "notes": [self.notes] if self.notes else [],
        }
        return {key: values for key, values in facts.items() if values}


def pairs(
    words: str, images: str, masks: str, split: str = "", mask_threshold: float | None = None, **where: str
) -> Layout:
    return Layout(words, (Part(split, images, masks, where=where),), mask_threshold=mask_threshold)


def first(counts: Mapping[int, str], of: int) -> dict[str, Split]:
    """Splits that label the first so many subjects of the list: {4: "5 %"} of 80 -> "4-of-80"."""
    return {f"{count}-of-{of}": Split(words, labelled=count, of=of) for count, words in counts.items()}
