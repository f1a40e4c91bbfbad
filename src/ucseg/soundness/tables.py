"""What is wrong beside the scans? Too few cases, files left out, masks among the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CASES_FILE, LEFT_OUT_FILE, Dataset, files_left_out
from ucseg.dataset.splits import may_join_training
from ucseg.errors import cause, some
from ucseg.folder.likely_masks import in_words, likely_masks
from ucseg.planning.origin import cases_changed, differences_from
from ucseg.planning.plan import read_plan
from ucseg.soundness.finding import Finding, name_in_root

PLAN_FILE = "plan.yaml"


def findings_of_tables_and_folders(dataset: Dataset) -> list[Finding]:
    plan = _plan(dataset)
    return [*plan, *_amounts(dataset), *_companion_files(dataset), *_likely_masks(dataset), *_left_out(dataset)]


def _plan(dataset: Dataset) -> Iterable[Finding]:
    """A plan.yaml that was made when the dataset was another one."""
    file = dataset.folder / PLAN_FILE
    if not file.is_file():
        return
    plan, fix = read_plan(file), f"make it again: ucseg plan {dataset.folder}"
    if outdated := differences_from(plan, dataset):
        yield Finding("plan-outdated", PLAN_FILE, f"it is not of this dataset: {', '.join(outdated)}", fix, "error")
    elif changed := cases_changed(plan, dataset):
        yield Finding("plan-of-other-cases", PLAN_FILE, changed, fix)


def _amounts(dataset: Dataset) -> Iterable[Finding]:
    labelled = len(dataset.labelled)
    plan_file = dataset.folder / PLAN_FILE
    batch = read_plan(plan_file).labelled_batch if plan_file.is_file() else 0
    if labelled == 0:
        fix = "give some training cases their masks"
        yield Finding("no-labelled-case", CASES_FILE, "no training case has a mask", fix, "error")
    elif labelled < batch:
        what = f"a batch takes {batch} labelled training cases, and there are {labelled}: they repeat within a batch"
        fix = f"label more, or plan with --set labelled_batch={labelled}"
        yield Finding("few-labelled-cases", CASES_FILE, what, fix)
    if not dataset.validation:
        fix = "give some cases the split 'validation', so that the best weights can be chosen"
        yield Finding("no-validation-case", CASES_FILE, "there is no validation case", fix)
    for split, cases in (("validation", dataset.validation), ("test", dataset.test)):
        bare = sum(case.mask is None for case in cases)
        if bare:
            what = f"{bare} of {len(cases)} {split} cases have no mask and cannot be measured"
            fix = _fix_of_bare(cases, bare)
            yield Finding(f"{split}-mask-missing", CASES_FILE, what, fix)


def _fix_of_bare(cases: list[Case], bare: int) -> str:
    """What to do with the cases of a split that have no mask, without bringing a subject into two splits."""
    free = may_join_training(cases)
    if len(free) == bare:
        return "give them masks, or the split 'train' to use them as unlabelled"
    if not free:
        return "give them masks, or leave them out (other cases of their subjects are measured)"
    named = some([case.case for case in free])
    return f"give them masks, or leave them out; only these may get the split 'train': {named}"


def _companion_files(dataset: Dataset) -> Iterable[Finding]:
    folders: dict[Path, int] = defaultdict(int)
    for path in dataset.root.rglob("._*"):
        folders[path.parent] += 1
    for folder, count in folders.items():
        name = name_in_root(folder / "._*", dataset)
        yield Finding("companion-files", name, f"{count} companion files of macOS, not scans", "delete them")


def _likely_masks(dataset: Dataset) -> Iterable[Finding]:
    found = likely_masks(dataset.cases)
    if found:
        named = some([f"{name_in_root(one.file, dataset)} beside {one.image.name}" for one in found])
        what = f"{len(found)} unlabelled images look like masks, by their names and their few values ({named})"
        fix = f"if they are masks, run ucseg init again and {in_words(found)}"
        yield Finding("likely-masks", name_in_root(found[0].file, dataset), what, fix)


def _left_out(dataset: Dataset) -> Iterable[Finding]:
    """What `ucseg init` could not use; files with the same cause are one finding."""
    files: dict[str, list[str]] = defaultdict(list)
    reasons: dict[str, str] = {}
    for path, reason in files_left_out(dataset).items():
        files[cause(reason)].append(name_in_root(path, dataset))
        reasons.setdefault(cause(reason), reason)
    for about, (first, *others) in files.items():
        reason = reasons[about]
        what, _, fix = reason.rstrip(".").partition("; ")
        listed = f" with {len(others)} more for the same reason ({some(others)})" if others else ""
        what = f"{what} (left out by ucseg init{listed})"
        fix = f"{fix or 'fix it'}, and run ucseg init again; if it may stay out, delete its line in {LEFT_OUT_FILE}"
        yield Finding("left-out", first, what, fix)
