"""Which scans of a folder are like the images of training? Of several sequences those, as channels in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ucseg.errors import UserError
from ucseg.folder.channel_axis import CHANNELS, in_last_axis
from ucseg.folder.patterns import Pattern
from ucseg.folder.sequences import sequences_in
from ucseg.scans.address import Address, without_ending
from ucseg.scans.reading import read_header
from ucseg.scans.said import NOTHING, Said


@dataclass(frozen=True)
class Wanted:
    """Which scans of a folder a model takes.

    Attributes:
        channels: of its images. That many files CASE_0000, CASE_0001, ... of one channel are one scan.
        images: pattern that the user gave; "" for none.
        trained: pattern of the images of training; "" where all were.
        dims: axes of its images; None: any number.
        said: how scans are read.
    """

    channels: int = 1
    images: str = ""
    trained: str = ""
    dims: int | None = None
    said: Said = NOTHING

    def in_full(self, file: Address) -> Address:
        """A file as a scan: its last axis holds the channels if it did in training, or if it is no scan without."""
        if self.channels == 1:
            return file
        file = file.as_said(self.said)
        address = in_last_axis(file, self.channels, self.dims)
        if address is None or (self.images or self.trained).endswith(CHANNELS):
            return address or file
        try:
            read_header(file)
        except UserError:
            return address
        return file

    def pattern(self, folder: Path) -> Pattern:
        """That of the user; else that of training, if it says what kind of image a file is."""
        if self.images:
            return Pattern(folder, self.images.removesuffix(CHANNELS), "--images")
        trained = self.trained.removesuffix(CHANNELS)
        name = PurePosixPath(trained).name
        trained = f"**/{name}" if _says_a_kind(name) else trained  # a folder of training may be called otherwise
        return Pattern(folder, trained if _says_a_kind(trained) else None, "--images", loosely=True)

    def require_order(self, scans: Iterable[Address]) -> None:
        """Raise a UserError if the channels of scans are those of training in another order."""
        words = _channels(self.trained)
        wrong = [scan for scan in scans if _is_other_order([word.lower() for word in scan.words], words)]
        if wrong:
            raise UserError(
                "channels-order",
                f"{wrong[0]}: its channels are in another order than in training ({', '.join(words)}); write them so"
                f"{f', also of {len(wrong) - 1} more scans' if len(wrong) > 1 else ''}.",
            )


ANY = Wanted()
"""All scans, of one channel."""


def require_one_kind(runs: Sequence[Path], patterns: Sequence[str]) -> None:
    """Raise a UserError if runs have the same channels in different orders."""
    first = _channels(patterns[0])
    for run, pattern in zip(runs, patterns, strict=True):
        if _is_other_order(_channels(pattern), first):
            raise UserError(
                "runs-channels",
                f"{run}: its channels ({', '.join(_channels(pattern))}) are in another order than those of {runs[0]} "
                f"({', '.join(first)}); predict with them one by one.",
            )


def _says_a_kind(pattern: str) -> bool:
    """Whether a pattern has more than a patient's name, an ending, or the word for images or a split."""
    path = PurePosixPath(pattern)
    end = without_ending(path.name).rpartition("*")[2]
    sequences = sequences_in(path.name) | sequences_in(path.parent.name)
    return "{" in pattern or bool(sequences) or any(map(str.isalpha, end))


def _channels(pattern: str) -> list[str]:
    return [word.lower() for word in Pattern(Path(), pattern.removesuffix(CHANNELS), "").words]


def _is_other_order(words: Sequence[str], others: Sequence[str]) -> bool:
    return words != others and sorted(words) == sorted(others)
