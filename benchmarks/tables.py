"""Write docs/results.md from the files in benchmarks/results: python benchmarks/tables.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compare import STUDIES
from ucseg.comparison.grid import cells, parse_variants

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
COSTS = (("seconds", 60), ("peak_bytes", 2**30))
STEP = ("seconds", "over_floor", "over_floor_of_our_layers", "over_own_floor", "peak_gib", "peak_over_authors")
HEAD = """\
# Results

Written by `python benchmarks/tables.py` from the files in `benchmarks/results`, each of which holds the command, the
commit, the machine and every cell. Same labelled cases, same steps, same labelled images and augmentation for every
model; test cases are seen by no training and no choice. "Mean of both" is the mean of the two supervised networks'
probabilities. Dice is the mean over foreground classes; the first figure is the mean over training seeds, the second
their standard deviation. "Gap closed" is (UC-Seg - supervised) / (ceiling - supervised), where supervised is the best
of the three supervised models with the same labels and the ceiling the best of the three with all labels, after the
same steps. These are short runs on a small CPU: they compare methods, and are not the best that any of them can do;
with all labels so few steps have not converged either, so the ceiling is a low one. A commit may be one of a working
copy that was never published, `-dirty` one with changes that were not committed: what is told by it is which runs are
of the same code.
"""
RULES = """\
## How to read the comparisons

Dice is the mean over the test subjects, in brackets its 95 % bootstrap interval over them, behind it the standard
deviation over seeds; "best" is Dice of the best-on-validation weights. A method is *better* or *worse* than the
reference where Wilcoxon's test over subjects says so after Holm's correction and the difference is above the spread
over seeds, otherwise *within noise*; with one seed the test decides alone. "Gap closed": (method - baseline) /
(ceiling - baseline), both the best of the supervised rows, at these labels and with all. Minutes and GiB (peak) are of
a training process. [compare.md](how-to/compare.md) holds the rules.
"""


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
        f"## {result['study']}",
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
    lines += ["", f"    {result['command']}", ""]
    return "\n".join(lines)


def unfinished(result: dict[str, Any]) -> str:
    """Which runs a comparison lacks."""
    settings = result["settings"]
    grid = cells(parse_variants(settings["variants"])[0], settings["labelled"], settings["seeds"])
    lacking = [cell.name for cell in grid if cell.name not in result["training"]]
    return f" {len(lacking)} of {len(grid)} runs were not made: {', '.join(lacking)}." if lacking else ""


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
    lines = [
        f"## Comparison: {name}",
        "",
        *(f"- {key}: {text}" for key, text in result["facts"].items() if key != "Dataset"),
        "",
        f"Verdicts are against `{result['reference']}`.{unfinished(result)}{of_code(result)}",
        "",
        "| test | labelled | method | seeds | Dice, last [95 %] ± seeds | best | gap closed | min | GiB | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (test, labelled, variant, weights), row in rows.items():
        if weights == "last":
            dice, best = row["metrics"]["dice"], rows.get((test, labelled, variant, "best"))
            spread = "" if dice["spread"] is None else f" ± {dice['spread']:.3f}"
            cells = [test, labelled, f"`{variant}`", str(len(row["seeds"]))]
            cells += [f"{dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]{spread}"]
            cells += [f"{best['metrics']['dice']['mean']:.3f}" if best else ""]
            cells += ["" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}"]
            cells += ["" if row[key] is None else f"{row[key] / unit:.2f}" for key, unit in COSTS]
            lines.append(f"| {' | '.join([*cells, verdicts.get((test, labelled, variant), '')])} |")
    command = f"OMP_NUM_THREADS=1 python benchmarks/compare.py {name} --data SCANS --work WORK"
    whole, part = STUDIES[name].compare.split(), result["command"].split()
    for option in ("--methods", "--labelled"):  # what was asked for, if it was less than the study
        asked = part[part.index(option) + 1]
        command += "" if asked == whole[whole.index(option) + 1] else f" {option} {asked}"
    return "\n".join([*lines, "", f"    {command}", ""])


def outside_check(check: dict[str, Any], ours: list[dict[str, Any]]) -> str:
    """PyMIC's figures (pymic.json) beside ours; `ours` are that comparison's rows, the mean over its seeds."""
    lines = [
        f"## Outside check: {check['outside_check']} {check['pymic']}",
        "",
        "Another package's methods on the same cases with as many steps; what is the same and what is its own stands",
        "at the head of benchmarks/against_pymic.py. Dice on the test cases: PyMIC of one seed, here the mean over the",
        "seeds above.",
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
        lines.append(f"| {' | '.join([f'`{name}`', *theirs, *own])} |")
    return "\n".join([*lines, "", f"    {check['command']}", ""])


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
        "With mixing, against forward and backward of the two bare subnets; medians of one run. Floor: float32,",
        "contiguous, the images without mixed ones, with torch's layers or with this package's, some of which are",
        "quicker; own floor: same precision, layout, layers and allocator, the mixed images too. Memory over the peak",
        "of the published code; rows of AVX512 by itself and of AVX2 are of older code, which held all of a step at",
        "once. docs/explanation/speed.md says more.",
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


def growth(sizes: dict[str, dict[str, Any]]) -> str:
    """What UC-Seg's step costs over patch sizes and classes (step_growth.json)."""
    lines = [
        "## A training step of UC-Seg over patch sizes and classes",
        "",
        "bf16, with mixing; nanoseconds a voxel of the labelled, unlabelled and mixed images. Medians of one run.",
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
        "Generated cases on two virtual cores that did little else, start and imports included. Cores busy: processor",
        "seconds over seconds times cores; wanted: with the time in which a thread waited for a core that others had.",
        "Plain: one loop in one thread that only reads image and mask and saves the arrays. benchmarks/scale.py holds",
        "the sizes of the scans. They are a few drawings repeated, so that `check` finds far more near-duplicates, and",
        "looks at more of them closely, than among real images.",
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
    compared = [
        comparison(path.parent.name, json.loads(path.read_text()))
        + ("\n" + note.read_text() if (note := path.with_name("note.md")).exists() else "")
        for path in sorted(RESULTS.glob("compare/*/summary.json"))
    ]
    ours = json.loads((RESULTS / "compare" / "hippocampus" / "summary.json").read_text())["rows"]
    parts = [HEAD, *(table(result) for result in results if "study" in result), RULES, *compared]
    parts += [
        outside_check(result, [row for row in ours if row["labelled"] == "5%"])
        for result in results
        if "outside_check" in result
    ]
    parts.append(steps())
    parts.append(growth(json.loads((RESULTS / "step_growth.json").read_text())["sizes"]))
    parts.append(preparing(json.loads((RESULTS / "scale.json").read_text())["kinds"]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
