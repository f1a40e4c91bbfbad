"""Which scans show the same subject? Scans of one person or exam must not be split apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ucseg.errors import UserError, some
from ucseg.folder.roles import own_split

_NAMED_RULES = (
    ("'sub-...' (BIDS) in name or path", re.compile(r"(?:^|[/_-])(sub-[A-Za-z0-9]+)")),
    ("'patient...' and its number in name or path", re.compile(r"(?:^|[/_-])(patient[_-]?\d+)", re.IGNORECASE)),
    ("the name before the visit (BraTS)", re.compile(r"(?:^|/)(BraTS-[A-Za-z]+-\d{5})-\d{3}(?!\d)")),
    (
        "the name before its slice, frame or visit",
        re.compile(r"(?:^|/)([^/]+?)[_-](?:slice|frame|visit|session|ses|timepoint)[_-]?\d+", re.IGNORECASE),
    ),
)
_NUMBER = r"[ _.-][A-Za-z]{0,5}\d+"  # of a slice or visit: case12_034, TCGA_CS_4941_12, vol3-z7
_SIDE = "(?P<side>left|right|od|os|l|r)"
_WITH_SIDE = (
    rf"(?P<subject>.+?)(?:[ _.-]?{_SIDE})?",  # p01_left, P03-R, 12_OD, Image_07L
    rf"(?:{_SIDE}[ _.-])?(?P<subject>.+?)",  # left_p01
)
_LEADING_DIGITS = re.compile(r"(\d+)_")
_OWN = "each file counts as one subject; if several show the same person, give --subject a pattern of their names"


@dataclass(frozen=True)
class Subjects:
    """Case -> subject, the rule in words, and what the user should look at."""

    of: dict[str, str]
    rule: str
    notes: list[str] = field(default_factory=list)


def find_subjects(
    names: Mapping[str, tuple[str, ...]], regex: str | None = None, stated: Mapping[str, str] | None = None
) -> Subjects:
    """Find the subject of each case.

    Args:
        names: case -> (name of its image without the ending, its path below the data root, other names if any).
        regex: searched in the names, then in the path; group 1, or the whole match when it has no group.
            None: BIDS `sub-`, `patientNNN`, `X_slice_N`, `X_visit_N`, then leading digits that several files share
            (`010_HC`, `010_2HC`), whichever fits first; otherwise every case is its own subject.
        stated: case -> subject by the file itself (DICOM); goes before the rules if all cases state it.

    Raises:
        UserError: the regex is broken, or some names do not match it.
    """
    if regex is not None:
        return _by_regex(names, regex)
    notes: list[str] = []
    if stated and len(stated) == len(names):
        if len(set(stated.values())) > 1 or len(names) == 1:
            return Subjects(dict(stated), "by the patient's id in DICOM, of which only a digest is kept")
        # Anonymised sets often give everybody one id.
        notes = ["all DICOM files state the same patient id, so subjects are found by names instead."]
    for words, pattern in _NAMED_RULES:
        matches = {case: pattern.search(name) or pattern.search(path) for case, (name, path, *_) in names.items()}
        found = {case: match.group(1) for case, match in matches.items() if match}
        first: dict[str, str] = {}  # Patient_1 and patient_1 are one
        fitting = {case: first.setdefault(subject.casefold(), subject) for case, subject in found.items()}
        if 2 * len(fitting) >= len(names):
            return Subjects({case: fitting.get(case, case) for case in names}, f"by {words}", notes)
        shared = Counter(fitting.values())
        if alike := [case for case, subject in fitting.items() if shared[subject] > 1]:
            notes.append(f"{len(alike)} names share a subject {words} ({some(alike)}); say it for all with --subject.")
    digits = {case: _LEADING_DIGITS.match(name) for case, (name, *_) in names.items()}
    of = {case: match.group(1) if match else case for case, match in digits.items()}
    sizes = Counter(of.values())
    if len(sizes) == len(names):
        proposals = _proposals([name for name, *_ in names.values()])
        return Subjects({case: case for case in names}, _OWN, [*notes, *proposals])
    # One year before all names ("2018_0001") is not one subject.
    if len(sizes) >= 5 and max(sizes.values()) <= max(2, len(names) // 4) and _keep_splits(of, names):
        rule = "by the leading digits of the name, which several files share; if that is wrong, give --subject"
        return Subjects(of, rule, notes)
    note = f"names begin with {len(sizes)} numbers that files share; if these are subjects, give --subject '^(\\d+)_'."
    return Subjects({case: case for case in names}, _OWN, [*notes, note])


def _keep_splits(of: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether no subject lies in two splits that the folders name (train/1_A, test/1_A)."""
    found = {(subject, own_split(Path(names[case][1]))) for case, subject in of.items()}
    return len(found) == len({subject for subject, _ in found})


def _proposals(names: list[str]) -> list[str]:
    """A pattern to choose, if names look like slices or visits of scans, or left and right of subjects.

    Only proposed: groups of such names can also be organs or kinds of a disease.
    """
    scans = _numbered(names)
    for behind in [_NUMBER] if scans else ["", _NUMBER]:
        for with_side in _WITH_SIDE:
            pattern = f"(?i)^{with_side}{behind}$"
            if both := _of_both_sides(names, pattern):
                looks = f"{'numbered slices of ' if scans else ''}left and right of {len(both)} subjects ({some(both)})"
                return [_proposal(looks, pattern.replace("?P<side>", "?:").replace("?P<subject>", ""))]
    looks = f"numbered slices or visits of {len(scans)} scans ({some(scans)})"
    return [_proposal(looks, f"^(.+){_NUMBER}$")] if scans else []


def _proposal(looks: str, pattern: str) -> str:
    advice = f"if they are, give --subject '{pattern}', else a subject may be in two splits"
    return f"the names look like {looks}; {advice}."


def _numbered(names: list[str]) -> list[str]:
    """The scans of which names look like slices or visits; empty if they do not."""
    numbers = defaultdict(list)
    for name in names:
        if (match := re.match(f"^(.+){_NUMBER}$", name)) is None:
            return []
        numbers[match.group(1)].append(int(re.findall(r"\d+", name)[-1]))
    running = {scan: of for scan, of in numbers.items() if len(of) > 1 and max(of) - min(of) < 2 * len(of)}
    enough = 2 if all(re.search(r"\d", scan) for scan in numbers) else 5
    few = len(numbers) < enough or 2 * sum(map(len, running.values())) < len(names)
    return [] if few else list(numbers)


def _of_both_sides(names: list[str], pattern: str) -> list[str]:
    """The subjects with left and right, if at least half of the names are theirs; empty if not, or for one alone."""
    sides = defaultdict(list)
    for match in filter(None, (re.match(pattern, name) for name in names)):
        if match["side"]:
            sides[match["subject"]].append(match["side"].lower() in ("left", "os", "l"))
    both = [subject for subject, left in sides.items() if len(set(left)) == 2]
    return both if len(both) > 1 and 2 * sum(len(sides[subject]) for subject in both) >= len(names) else []


def _by_regex(names: Mapping[str, tuple[str, ...]], regex: str) -> Subjects:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(
            "subject-pattern", f"--subject '{regex}' is not a regular expression ({error}); correct it."
        ) from None
    of: dict[str, str] = {}
    missed = []
    for case, (name, path, *others) in names.items():
        match = next(filter(None, map(pattern.search, (name, *others, path))), None)
        subject = match.group(1 if pattern.groups else 0) if match else None
        if subject:
            of[case] = subject
        else:
            missed.append(path)
    if missed:
        raise UserError(
            "subject-not-found",
            f"--subject '{regex}' finds no subject in {some(missed)}; give a pattern that fits every file.",
        )
    return Subjects(of, f"by --subject '{regex}'")
