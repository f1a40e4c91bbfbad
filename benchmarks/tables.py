"""Write docs/results.md from the files in benchmarks/results: python benchmarks/tables.py"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from numpy import nanmean

from choice_tables import choices
from compare import STUDIES
from label_tables import labels
from partly_labelled_table import partly_labelled
from time_to_dice import TIMED, short_name, time_to_dice
from ucseg.comparison.grid import BASELINE, cells, file_name, parse_variants
from ucseg.errors import some
from ucseg.evaluation.statistics import paired_difference
from uncertainty_tables import uncertainty

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
# Key of a row, head of its column, unit, digits.
COSTS = (
    ("steps", "steps", 1, 0),
    ("seconds", "min", 60, 2),
    ("work", "counted min", 60, 2),
    ("peak_bytes", "GiB", 2**30, 2),
    ("parameters", "million parameters", 1e6, 2),
)
STEP = ("seconds", "over_floor", "over_floor_of_our_layers", "over_own_floor", "peak_gib", "peak_over_authors")
EARLIER_DEFAULTS = """\
## Comparisons of earlier defaults

Equal steps, and the paper's augmentation for all methods. How today's defaults compare with those of then, on
validation cases, stands [above](#how-the-defaults-were-chosen).
"""
CAVEATS = """\
## What does not follow from it

- The runs are short, and made on small CPUs. They compare methods. None of them is the best that a method can do.
- With all masks, so few steps have not converged either. So the ceiling is a low one.
- Two or three seeds are few. A difference that is *within noise* may still be real.
- Some runs of one comparison are of different commits. Its section names them.
- Other work ran beside many runs. So minutes are no measure of what a method costs.
- The data are public sets. Your scans may differ: [compare on them](how-to/compare.md).

## How to read the sections

`python benchmarks/tables.py` makes this page from the files in `benchmarks/results`.
Each file holds the command, the commit, the machine and every run.
All models of a comparison have the same labelled cases, steps (or CPU seconds), labelled images and augmentation.
No training and no choice sees a test case.

- **Dice:** mean of the class means over test cases, its 95 % interval in brackets, the standard deviation over seeds.
- **best:** Dice of the best-on-validation weights. All else is of the last weights.
- **Gap closed:** (method - baseline) / (ceiling - baseline).
  The baseline is the best of the supervised rows at these labels, the ceiling the best of them with all labels.
- **min, GiB:** minutes and peak memory of a training process.
- **counted min:** minutes of a run of equal time: on a CPU those that its cores worked, on a GPU those that passed.
- **Verdict:** *better* or *worse* than the reference, or *within noise*.
  A difference needs Wilcoxon's test over subjects with Holm's correction, and an interval without 0.
  It also has to be above the spread over seeds.

[Compare methods](how-to/compare.md#what-is-reported) holds the rules.
A commit with `-dirty` had changes that were not committed.
Some commits were never published. They only show which runs are of the same code.
"""
EARLIER = """\
## Earlier studies

Dice is the mean over foreground classes.
The first figure is the mean over training seeds, the second their standard deviation.
"Mean of both" is the mean of the two supervised networks' probabilities.
Their script, `benchmarks/study.py`, is no longer here. It is in the commit that stands behind each command.
"""
# Of comparisons whose rows do not say how many steps were made.
OLDER = (
    "Made before `supervised` lost UC-Seg's calibration loss, and before prediction was mirrored. Dice is the mean "
    "over the patients' own means here, all intervals are percentiles, and verdicts did not look at the interval."
)
REFERENCE = "uc_seg"
CEILING = "ceiling"
NAMES = {
    "supervised": "supervised U-Net",
    CEILING: "ceiling: supervised U-Net with all masks",
    "supervised:method.networks=[unet,unet_strided]": "mean of U-Net and strided U-Net, supervised",
    "uc_seg:method.preset=published": "uc_seg with the paper's settings of the method",
}
"""Rows of the first table."""
FIRST_RUNS = (
    "**These are the first runs: some rows have one seed, and methods and sets are still to come.** "
    "Runs on a slower machine had more seconds, for about as many steps: the notes of the studies name them."
)
PYMIC_SUPERVISED = ("mean_teacher", "ua_mt")
"""What is plain supervised training in PyMIC 0.6.2: see findings/pymic_mean_teacher.sh."""
SUPERVISED = ("supervised", "supervised/unet", "supervised/vnet")


def equal_time(comparisons: dict[str, dict[str, Any]]) -> str:
    """The first section: who has the highest Dice in the same time, and what the others are worth beside UC-Seg."""
    columns: dict[str, dict[str, Any]] = {}  # title -> variant -> row
    verdicts: dict[tuple[str, str], str] = {}
    for name, result in comparisons.items():
        last = [row for row in result["rows"] if row["weights"] == "last" and "/" not in row["variant"]]
        tops = [row for row in last if (row["labelled"], row["variant"]) == ("all", BASELINE)]
        for shown in dict.fromkeys(row["labelled"] for row in last if row["labelled"] != "all"):
            title = f"{short_name(name)}, {shown}"
            columns[title] = {row["variant"]: row for row in last if row["labelled"] == shown}
            if tops:
                columns[title][CEILING] = tops[0]
            verdicts |= {
                (title, one["variant"]): one["verdict"]
                for one in result["comparisons"]
                if (one["labelled"], one["weights"]) == (shown, "last")
            }

    def dice(row: dict[str, Any]) -> float:
        return float(row["metrics"]["dice"]["mean"])

    def best(column: dict[str, Any]) -> str:
        return max((one for one in column if one != CEILING), key=lambda one: dice(column[one]))

    first = [title for title, column in columns.items() if best(column) == REFERENCE]
    seconds = {round(result["settings"]["train"]["hours"] * 3600) for result in comparisons.values()}
    seeds = min(len(row["seeds"]) for column in columns.values() for row in column.values())
    variants = list(dict.fromkeys(one for column in columns.values() for one in column))
    variants.sort(key=lambda one: (one == CEILING, ":" in one))
    lines = [
        f"**With {' or '.join(map(str, sorted(seconds)))} CPU seconds for every run, training alone, "
        f"UC-Seg has the highest mean Dice of the rows below in {len(first)} of {len(columns)} columns"
        f"{': ' + '; '.join(first) if first else ''}.**",
        *([FIRST_RUNS] if seeds < 2 else []),
        "",
        f"| test Dice ± seeds (seeds) | {' | '.join(columns)} |",
        f"| --- |{' --- |' * len(columns)}",
    ]
    for variant in variants:
        cells = []
        for title, column in columns.items():
            row = column.get(variant)
            if row is None:
                cells.append("")
                continue
            value = row["metrics"]["dice"]
            text = f"{value['mean']:.3f}" + ("" if value["spread"] is None else f" ± {value['spread']:.3f}")
            text = f"**{text}**" if variant == best(column) else text
            verdict = verdicts.get((title, variant), "")
            cells.append(f"{text} ({len(row['seeds'])})" + (f", {verdict}" if verdict in ("better", "worse") else ""))
        lines.append(f"| {NAMES.get(variant) or name_of(variant)} | {' | '.join(cells)} |")
    words = (
        "Bold: the highest mean of a column, without the ceiling. *better* and *worse* are beside `uc_seg`, by the "
        "rules [below](#how-to-read-the-sections). Without a word the difference is within noise. One seed has no "
        "spread."
    )
    return "\n".join([*lines, "", words, ""])


def answer(comparisons: dict[str, dict[str, Any]]) -> str:
    """One sentence and one table: the methods as published, over all comparisons in which UC-Seg is the reference."""
    dice: dict[str, dict[str, dict[str, Any]]] = {}  # title of a column -> method -> mean and spread
    above = clearly = 0
    for name, result in comparisons.items():
        if result["reference"] != REFERENCE:
            continue
        last = [row for row in result["rows"] if row["weights"] == "last" and ":" not in row["variant"]]
        ceiling = best_supervised([row for row in last if row["labelled"] == "all"])
        for labelled in dict.fromkeys(row["labelled"] for row in last if row["labelled"] != "all"):
            rows = [row for row in last if row["labelled"] == labelled]
            baseline = best_supervised(rows)
            column = dice.setdefault(f"{name}, {labelled}", {"best supervised": baseline["metrics"]["dice"]})
            column |= {row["variant"]: row["metrics"]["dice"] for row in rows if row["variant"] not in SUPERVISED}
            column["ceiling: supervised with all masks"] = ceiling["metrics"]["dice"]
            above += column[REFERENCE]["mean"] > baseline["metrics"]["dice"]["mean"]
            clearly += any(
                one["verdict"] == "worse"
                for one in result["comparisons"]
                if (one["labelled"], one["variant"], one["weights"]) == (labelled, baseline["variant"], "last")
            )
    methods = list(dict.fromkeys(method for column in dice.values() for method in column))
    methods.sort(key=lambda method: method.startswith("ceiling"))
    lines = [
        f"**UC-Seg has a higher Dice than the best supervised network in {above} of {len(dice)} comparisons, "
        f"in {clearly} of them by more than noise, but no method leads everywhere.**",
        "",
        f"| test Dice ± seeds | {' | '.join(dice)} |",
        f"| --- |{' --- |' * len(dice)}",
    ]
    for method in methods:
        cells = []
        for column in dice.values():
            highest = max(value["mean"] for one, value in column.items() if not one.startswith("ceiling"))
            value = column.get(method)
            text = "" if value is None else f"{value['mean']:.3f} ± {value['spread']:.3f}"
            cells.append(f"**{text}**" if value is not None and value["mean"] == highest else text)
        lines.append(f"| {name_of(method)} | {' | '.join(cells)} |")
    leaders = {max(list(column)[:-1], key=lambda one: column[one]["mean"]) for column in dice.values()}
    assert len(leaders) > 1, "one method leads everywhere: say so"
    return "\n".join([*lines, "", "Bold: the highest mean of a column, without the ceiling.", ""])


def best_supervised(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the best of the supervised networks and their mean."""
    return max(
        (row for row in rows if row["variant"] in SUPERVISED), key=lambda row: float(row["metrics"]["dice"]["mean"])
    )


def name_of(method: str) -> str:
    """A method with a link to its page; other rows have no page."""
    return f"[{method}](methods/{method}.md)" if (PAGE.parent / "methods" / f"{method}.md").exists() else method


def figure(value: dict[str, Any], digits: int) -> str:
    """Mean and spread of a row's entry."""
    spread = "" if value["sd"] is None else f" ± {value['sd']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{spread}"


def table(result: dict[str, Any]) -> str:
    """One study as a section."""
    definition = result["definition"]
    seeds = sorted({cell["seed"] for cell in result["cells"]})
    settings = ", ".join((*definition["plan"], *definition["train"])) or "as planned"
    lines = [
        f"### {result['study']}",
        "",
        f"{definition['steps']} steps, seeds {', '.join(map(str, seeds))}; commit `{result['commit'][:10]}`; "
        f"settings {settings}. {result.get('note', '')}".rstrip(),
        "",
        "| labelled | model | seeds | Dice, last | Dice, best on validation | HD95, last | gap closed, last |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    best = {(row["labelled"], row["model"]): row for row in result["summary"] if row["weights"] == "best"}
    for row in result["summary"]:
        if row["weights"] == "last":
            other = best[row["labelled"], row["model"]]
            gap = f"{row['gap_closed']:.0%}" if "gap_closed" in row else ""
            cells = [
                row["labelled"],
                row["model"],
                str(len(row["dice"]["seeds"])),
                figure(row["dice"], 3),
                figure(other["dice"], 3),
            ]
            cells += [figure(row["hd95"], 1), gap]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"    {result['command']}  # at {result['commit'][:7]}", ""]
    return "\n".join(lines)


def unfinished(result: dict[str, Any]) -> str:
    """Which runs a comparison lacks."""
    settings = result["settings"]
    grid = cells(parse_variants(settings["variants"])[0], settings["labelled"], settings["seeds"])
    lacking = [cell.name for cell in grid if cell.name not in result["training"]]
    return f" {len(lacking)} of {len(grid)} runs were not made: {some(lacking)}." if lacking else ""


def of_code(result: dict[str, Any]) -> str:
    """Commits of a comparison's runs where there are several; those of one variant may differ."""
    code = {version.split("(")[-1][:8]: len(names) for version, names in result["code"].items()}
    if len(code) < 2:
        return ""
    listed = ", ".join(f"{commit} ({count})" for commit, count in sorted(code.items(), key=lambda one: -one[1]))
    return (
        f" The runs are of {len(code)} commits, which may be a part of the differences: {listed}; "
        "`code` in summary.json says which is of which."
    )


def comparison(name: str, result: dict[str, Any]) -> str:
    """One comparison of methods (summary.json of `ucseg compare`) as a section, last weights."""
    verdicts = {
        (one["test"], one["labelled"], one["variant"]): one["verdict"]
        for one in result["comparisons"]
        if one["weights"] == "last"
    }
    rows = {(row["test"], row["labelled"], row["variant"], row["weights"]): row for row in result["rows"]}
    costs = [cost for cost in COSTS if any(row.get(cost[0]) is not None for row in result["rows"])]  # older: fewer
    lines = [
        f"## Comparison: {name}",
        "",
        *(f"- {key}: {text}" for key, text in result["facts"].items() if key != "Dataset"),
        "",
        f"Verdicts are against `{result['reference']}`.{unfinished(result)}{of_code(result)}"
        + ("" if costs[0][0] == "steps" else f" {OLDER}"),
        "",
        "| test | labelled | method | seeds | Dice, last [95 %] ± seeds | best | gap closed "
        f"| {' | '.join(head for _, head, _, _ in costs)} | verdict |",
        f"| --- | --- | --- | --- | --- | --- | --- | {'--- | ' * len(costs)}--- |",
    ]
    for (test, labelled, variant, weights), row in rows.items():
        if weights == "last":
            dice, best = row["metrics"]["dice"], rows.get((test, labelled, variant, "best"))
            spread = "" if dice["spread"] is None else f" ± {dice['spread']:.3f}"
            cells = [test, labelled, f"`{variant}`", str(len(row["seeds"]))]
            cells += [f"{dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]{spread}"]
            cells += [f"{best['metrics']['dice']['mean']:.3f}" if best else ""]
            cells += ["" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}"]
            cells += ["" if row[key] is None else f"{row[key] / unit:.{digits}f}" for key, _, unit, digits in costs]
            lines.append(f"| {' | '.join([*cells, verdicts.get((test, labelled, variant), '')])} |")
    command = f"OMP_NUM_THREADS=1 python benchmarks/compare.py {name} --data SCANS --work WORK"
    whole, part = STUDIES[name].compare.split(), result["command"].split()
    for option in ("--methods", "--variants", "--labelled", "--seeds"):  # what was asked for, if less than the study
        asked = part[part.index(option) + 1] if option in part else "none"
        command += "" if asked == whole[whole.index(option) + 1] else f" {option} {asked}"
    return "\n".join([*lines, "", f"    {command}", ""])


def outside_check(check: dict[str, Any], ours: list[dict[str, Any]]) -> str:
    """PyMIC's figures (pymic.json) beside ours; `ours` are that comparison's rows, the mean over its seeds."""
    lines = [
        f"## Outside check: {check['outside_check']} {check['pymic']}",
        "",
        "Another package's methods on the same cases, with as many steps.",
        "`benchmarks/against_pymic.py` says what is the same and what differs.",
        "Dice on the test cases: PyMIC of one seed, here the mean over the seeds of the comparison.",
        "",
        "PyMIC's UA-MT learns nothing from unlabelled images: its teacher's weights are all zero after the first step.",
        "So its row is a second supervised run, and says nothing about UA-MT (`findings/pymic_mean_teacher.sh`).",
        "Its mean teacher has such a teacher too, and learns equal probabilities from it.",
        "Its CPS and URPC have no teacher.",
        "",
        "| method | PyMIC, last | PyMIC, best on validation | here, last | here, best on validation |",
        "| --- | --- | --- | --- | --- |",
    ]
    for cell in check["cells"]:
        theirs = [f"{cell['test'][weights]['dice']:.3f}" for weights in ("last", "best")]
        # PyMIC's supervised network is a U-Net.
        name = {"supervised": "supervised/unet"}.get(cell["method"], cell["method"])
        means = {(row["variant"], row["weights"]): row["metrics"]["dice"]["mean"] for row in ours}
        own = [f"{mean:.3f}" if (mean := means.get((name, weights))) else "" for weights in ("last", "best")]
        mark = ", supervised in PyMIC" if name in PYMIC_SUPERVISED else ""
        lines.append(f"| {' | '.join([f'`{name}`{mark}', *theirs, *own])} |")
    return "\n".join([*lines, "", f"    {check['command']}", ""])


def beside_nnunet(runs: list[dict[str, Any]], comparisons: dict[str, dict[str, Any]]) -> str:
    """nnU-Net's figures (nnunet/*.json) beside UC-Seg's last weights at the same labelled amount; "" without runs."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        groups.setdefault((run["nnunet"], run["labelled"], run["wanted_cpu_seconds"]), []).append(run)
    if not groups:
        return ""
    lines = [
        "## Outside check: nnU-Net",
        "",
        "nnU-Net sees the labelled cases alone. Cases, test cases and evaluation are those of the comparison.",
        "`benchmarks/against_nnunet.py` says what is the same and what differs.",
        "",
        "- **nnU-Net seconds:** CPU seconds of its training. **Seconds here:** those of the comparison's runs,",
        "  of its cores where they were counted.",
        "- **Difference:** Dice of UC-Seg minus Dice of nnU-Net, with its 95 % interval over subjects.",
        "  A subject counts with the mean over its cases and seeds.",
        "- **p:** of Wilcoxon's signed-rank test over the same differences.",
        "",
        "| data | labelled | nnU-Net seconds | seeds | steps | nnU-Net Dice ± seeds | HD95 "
        "| UC-Seg Dice ± seeds | HD95 | seconds here | difference | p |",
        f"|{' --- |' * 12}",
    ]
    commands = {}
    for (name, labelled, seconds), found in groups.items():
        dice = [run["test"]["dice"] for run in found]
        spread = f" ± {stdev(dice):.3f}" if len(dice) > 1 else ""
        cells = [name, labelled, f"{seconds:g}", str(len(found)), f"{mean([run['steps'] for run in found]):.0f}"]
        cells += [f"{mean(dice):.3f}{spread}", f"{mean([run['test']['hd95'] for run in found]):.2f}"]
        cells += against_ours(found, comparisons[name], labelled) if name in comparisons else [""] * 5
        lines.append(f"| {' | '.join(cells)} |")
        commands[f"    {found[-1]['command']}"] = None
    return "\n".join([*lines, "", *commands, ""])


def against_ours(runs: list[dict[str, Any]], comparison: dict[str, Any], labelled: str) -> list[str]:
    """UC-Seg's Dice, HD95 and seconds, the difference of Dice to nnU-Net's, and its p; empty without UC-Seg."""
    wanted = (labelled, REFERENCE, "last")
    rows = [row for row in comparison["rows"] if (row["labelled"], row["variant"], row["weights"]) == wanted]
    if not rows:
        return [""] * 5
    metrics, spread = rows[0]["metrics"], rows[0]["metrics"]["dice"]["spread"]
    cells = [f"{metrics['dice']['mean']:.3f}" + ("" if spread is None else f" ± {spread:.3f}")]
    seconds = rows[0].get("work") or rows[0]["seconds"]  # what its cores worked, where that was counted
    cells += [f"{metrics['hd95']['mean']:.2f}", "" if seconds is None else f"{seconds:.0f}"]
    ours: dict[str, list[float]] = {}
    subjects: dict[str, str] = {}
    for seed in rows[0]["seeds"]:
        file = RESULTS / "compare" / runs[0]["nnunet"] / "cells" / f"{REFERENCE}-{file_name(labelled)}-seed{seed}.json"
        for _, weights, case, subject, _, _, dice, *_ in json.loads(file.read_text())["tests"]["test"]["rows"]:
            if weights == "last":
                subjects[case] = subject
                ours.setdefault(subject, []).append(math.nan if dice is None else dice)
    theirs: dict[str, list[float]] = {}
    for run in runs:
        if run["test"]["cases"].keys() != subjects.keys():
            raise ValueError(f"{run['command']}: its test cases are not those of the comparison")
        for case, values in run["test"]["cases"].items():
            theirs.setdefault(subjects[case], []).append(values["dice"])
    difference = paired_difference(*([nanmean(side[name]) for name in ours] for side in (ours, theirs)))
    interval = f"[{difference.low:+.3f}, {difference.high:+.3f}]"
    return [*cells, f"{difference.mean:+.3f} {interval}", f"{difference.p:.2g}"]


# Files of UC-Seg's step at the published sizes, and what is added to the name of the processor.
PROCESSORS = {"": "", "_slow_bf16": ", slow in bf16", "_no_bf16": " without bf16", "_avx2": " without bf16"}


def steps() -> str:
    """What UC-Seg's step costs (step_published_sizes*.json)."""
    results = []
    for which, added in PROCESSORS.items():
        sizes = json.loads((RESULTS / f"step_published_sizes{which}.json").read_text())["sizes"]
        results += [one | {"cpu": one["cpu"] + added} for one in sizes.values()]
    lines = [
        "## A training step of UC-Seg",
        "",
        "A step with mixing, against forward and backward of the two bare subnets. Medians of one run.",
        "",
        "- **Floor:** float32, contiguous, without mixed images, with the layers of torch.",
        "- **Same, our layers:** the same with the layers of this package, some of which are quicker.",
        "- **Own floor:** the precision, layout, layers and allocator of the step, with the mixed images.",
        "- **Over published:** memory over the peak of the published code.",
        "",
        "Rows of AVX512 alone and of AVX2 are of older code, which held all of a step at once.",
        "[Speed](explanation/speed.md) says more.",
        "",
        "| size | on | precision | seconds | over floor | same, our layers | over own floor | GiB | over published |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for row in (row for row in result["rows"] if row["model"] == "UC-Seg"):
            cells = [row["size"], result["cpu"], row["precision"], *(f"{row[key]:.2f}" for key in STEP)]
            lines.append(f"| {' | '.join(cells)} |")
    commands = [f"    {result['command']}  # at {result['commit'][:7]}, {result['cpu']}" for result in results]
    return "\n".join([*lines, "", *commands, ""])


def over_supervised(found: dict[str, Any]) -> str:
    """What a step of each method costs over a supervised one (step_over_supervised.json)."""
    rows = found["rows"]
    lines = [
        "## A training step over a supervised one",
        "",
        "CPU seconds of forward and backward, and in brackets those over a supervised step of the same labelled",
        "images. Means over 20 steps that are spread over a run, so that schedules count. Images have their whole",
        "size. Data and optimiser do not count.",
        f"Medians over {found['rounds']} rounds, in which all took turns on one core of a busy machine.",
        f"`earlier` is the code of commit `{found['earlier'][:10]}`. It and `preset=published` have no encoder.",
        "",
        f"| method | {' | '.join(rows)} |",
        f"| --- |{' --- |' * len(rows)}",
    ]
    for name in next(iter(rows.values())):
        cells = (f"{of[name]['cpu_seconds']:.3f} ({of[name]['over_supervised']:.2f})" for of in rows.values())
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def growth(sizes: dict[str, dict[str, Any]]) -> str:
    """What UC-Seg's step costs over patch sizes and classes (step_growth.json)."""
    lines = [
        "## A training step of UC-Seg over patch sizes and classes",
        "",
        "bf16, with mixing. Nanoseconds count each voxel of the labelled, unlabelled and mixed images.",
        "Medians of one run.",
        "",
        "| size | seconds | ns a voxel | GiB |",
        "| --- | --- | --- | --- |",
    ]
    for result in sizes.values():
        for row in result["rows"]:
            a_voxel = 1e9 * row["seconds"] / row["voxels"]
            lines.append(f"| {row['size']} | {row['seconds']:.2f} | {a_voxel:.0f} | {row['peak_gib']:.2f} |")
    first = next(iter(sizes.values()))
    return "\n".join([*lines, "", f"    {first['command'].split(' --only')[0]}  # at {first['commit'][:7]}", ""])


def preparing(kinds: dict[str, dict[str, Any]]) -> str:
    """What check and prepare cost (scale.json)."""
    lines = [
        "## Checking and preparing cases",
        "",
        "Generated cases on two virtual cores that did little else, start and imports included.",
        "",
        "- **Cores busy:** processor seconds over seconds times cores.",
        "- **Wanted:** the same with the time in which a thread waited for a core that others had.",
        "- **Plain:** one loop in one thread that only reads image and mask, and saves the arrays.",
        "",
        "`benchmarks/scale.py` holds the sizes of the scans. They are a few drawings repeated.",
        "So `check` finds far more nearly equal images, and looks at more of them closely, than among real images.",
        "",
        "| scans | cases | verb | seconds | over plain | MiB | cores busy | wanted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [row for name, kind in kinds.items() if name != "start" for row in kind["rows"]]
    for row in sorted(rows, key=lambda row: (row["scans"], row["count"])):
        for verb in ("check", "prepare"):
            found = row[verb]
            cells = [row["scans"], str(row["count"]), verb, f"{found['seconds']:.1f}"]
            cells += [f"{found['seconds'] / row['plain']['seconds']:.1f}", f"{found['peak_mib']:.0f}"]
            cells += [f"{found['cores_busy']:.2f}", f"{found['cores_wanted']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "    OMP_NUM_THREADS=1 python benchmarks/scale.py --work WORK", ""])


def page() -> str:
    """The whole page."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    files = sorted(RESULTS.glob("compare/*/summary.json"))
    comparisons = {path.parent.name: json.loads(path.read_text()) for path in files}
    ours = [row for row in comparisons["hippocampus"]["rows"] if row["labelled"] == "5%"]
    timed = {
        name: result
        for name, result in comparisons.items()
        if name.endswith(TIMED) and any(row["variant"] == REFERENCE for row in result["rows"])
    }
    earlier = {name: result for name, result in comparisons.items() if not name.endswith(TIMED)}
    sections = {}
    for path, (name, result) in zip(files, comparisons.items(), strict=True):
        note = path.with_name("note.md")
        sections[name] = comparison(name, result) + ("\n" + note.read_text() if note.exists() else "")
    parts = ["# Results\n", *([equal_time(timed)] if timed else []), time_to_dice(), CAVEATS]
    parts += [choices(), labels(), uncertainty(), *(sections[name] for name in timed)]
    parts += [EARLIER_DEFAULTS, answer(earlier), *(sections[name] for name in earlier)]
    parts += [outside_check(result, ours) for result in results if "outside_check" in result]
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("nnunet/*.json"))]
    parts += [section] if (section := beside_nnunet(runs, comparisons)) else []
    parts += [section] if (section := partly_labelled()) else []
    parts += [EARLIER, *(table(result) for result in results if "study" in result)]
    parts.append(over_supervised(json.loads((RESULTS / "step_over_supervised.json").read_text())))
    parts.append(steps())
    parts.append(growth(json.loads((RESULTS / "step_growth.json").read_text())["sizes"]))
    parts.append(preparing(json.loads((RESULTS / "scale.json").read_text())["kinds"]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
