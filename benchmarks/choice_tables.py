"""The section of docs/results.md on the defaults: what was tried on validation cases (results/choices)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from choices import SETS

RESULTS = Path(__file__).parent / "results" / "choices"
WORDS = """\
## How the defaults were chosen

On validation cases. The figure is Dice with mirrored prediction, mean ± standard deviation over the seeds, and the
number of seeds. `@N` is the number of steps; the files of the cells have the CPU seconds. `before` is UC-Seg with the
defaults of earlier versions: the paper's, with a schedule for short runs. `new` is UC-Seg with today's settings, but
for small images at first (`small_first`), a thin fusion, narrow tokens in 3D and unlabelled images in every second
step. `new-X` is `new`
with one other setting; `+KEY=VALUE` is another one. `X-today` is a method with today's defaults but for the encoder,
and UC-Seg with two networks of one width. `uc_seg-thin` is UC-Seg with a thin second network, `unet_thin`.
Variants without `effnet` or `encoder` in their name have no pretrained encoder. `plan.dropout=false` is without the
dropout of the U-Nets. `batch` and `instance` are the norms of the other methods, whose learning rate is 0.03 too.
One seed shows little: a difference of a point may be luck.

**The thin network.** In the first minutes a supervised U-Net learns more than two networks of UC-Seg: it makes three
times as many steps or more. A second network of half the channels takes a quarter of the work. UC-Seg then has .027
more on kvasir (two seeds, 413 and 447 CPU seconds beside 381 to 410) and .008 more on hippocampus (one seed, 400
seconds beside 330). It has .016 less on isic and .002 less on hc18 (two seeds each, 394 to 430 seconds beside 376 to
427). So it has .793 on kvasir, where supervised runs on the same busy machine have .785 in 309 seconds and .793 in
597. On a quieter one, a supervised run has .803 in 434 seconds (`compare/kvasir_time_plain`), so kvasir is not won
yet. On hippocampus it is .003 below a supervised run of 350 seconds, on isic and hc18 above those of 380 to 420. The
wide pair, `method.subnets=[unet,unet_strided]`, is about .02 and .01 below them on kvasir and hippocampus. Therefore
the thin network is the default. With its networks exchanged, a whole `unet` and a thin `unet_strided`, kvasir gets
less. All these figures are of networks without a pretrained encoder.

**The encoder of plain images.** Here `effnet_lite0` stands for the first network; today a plan for plain images has it
as its `encoder`. One seed each. Supervised, with AdamW: kvasir .815 in 260 CPU seconds (U-Net .785 in
309), isic .899 in 241 (.867 ± .026 in 384 to 418), hc18 .958 in 249 (.948 in 382 and 407). UC-Seg, with AdamW: kvasir
.812 in 351, isic .917 in 341, hc18 .955 in 329 (without: .793, .879, .952 in 394 to 447). So it gains on all three,
most on photographs, and is the default there. On kvasir and hc18 UC-Seg is .003 and .002 below the supervised run.
- AdamW at 0.001 beside SGD at 0.03: UC-Seg +.010 on kvasir, +.012 on isic, -.001 on hc18. So it is the default with an
  encoder.
- Images of half the size first, here 48 pixels: -.020 on kvasir (AdamW, supervised). So small images have at least 96
  pixels there.
- Batch norms of the encoder that keep the statistics of ImageNet: -.024 on kvasir (SGD, supervised).
- Pseudo-labels without dropout, and batch norms that do not follow mixed images (`still_norms`): hc18 +.001, kvasir
  -.001. Without the consistency of the two networks: +.001 and .000. Without IFE: kvasir +.001. A thin `unet_strided`
  as second network: kvasir -.015. None is taken. On kvasir the networks do not yet fit the labelled images in this
  time: their Dice there is .86 at the end, so images without labels can add little.

**Volumes.** In 3D half of the channels is two fifths of the work on a CPU (`step_over_supervised.json`). A U-Net that
sees the volume at half the size, `unet_coarse`, needs a sixth. The attention between the maps of uncertainty, with the
paper's tokens of 1,024, took a third of a U-Net's pass. One seed each, hippocampus: thin network .850 (1,000 steps in
400 CPU seconds), coarse network .855 (1,300 in 436), and with tokens of 96 .858 (1,600 in 398); supervised .853 (2,400
in 350). So both are the defaults in 3D. On photographs a coarse network has the encoder too and costs more than a thin
one. There kvasir has .801 (thin: .812), so plans in 2D keep the thin one.

**Unlabelled images in every fourth step**, not every second: kvasir .807 beside .812, isic .897 beside .917, one seed
each in about the same time. So every second step stays.

**Unlabelled images from .7 of the steps**, not .4: kvasir gains a point with each of two seeds, isic loses .008 ±
.005 over three. So .4 stays.

**Dropout.** A supervised U-Net without it makes as many steps in less time, and has .007 more on kvasir, .002 more on
hc18 and as much on hippocampus. UC-Seg has .011 less on kvasir (two seeds) and .004 more on hc18. So the default
stays with it.

**Pseudo-labels** of networks without their dropout, or of a running mean of the weights too: kvasir .782 and .781,
not above .789 and .797 (one seed each).

Also tried on kvasir, one seed each, and not kept: steps of mixed images without their labelled ones (`in_turn`), a
higher learning rate for UC-Seg, AdamW, ImageNet's encoder as one subnet beside a whole U-Net, with SGD. Small images
until .85 of the steps gain on kvasir and lose on hippocampus, both by less than runs differ.
"""


def choices() -> str:
    """The section; a row for each variant that was tried, a column for each data set."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in SETS:
        for file in sorted((RESULTS / name).glob("*.json")):
            variant = file.stem.rsplit("-", 1)[0]
            cells = found.setdefault(variant, {})
            cells.setdefault(name, []).append(json.loads(file.read_text())["mirrored"]["dice"])
    sets = [name for name in SETS if any(name in cells for cells in found.values())]
    lines = [WORDS, f"| variant | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    order = sorted(found, key=lambda one: (not one.startswith(("before", "new@")), one))
    lines += [f"| `{one}` | {' | '.join(_text(found[one].get(name, [])) for name in sets)} |" for one in order]
    return "\n".join([*lines, ""])


def _text(dice: list[float]) -> str:
    if not dice:
        return ""
    spread = f" ± {stdev(dice):.3f}" if len(dice) > 1 else ""
    return f"{mean(dice):.3f}{spread} ({len(dice)})"
