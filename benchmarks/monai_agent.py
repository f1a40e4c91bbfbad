"""MONAI's Dice, HD95 and surface Dice of two folders of masks, as its documentation shows; run by data_peers.py.

    MONAI/bin/python monai_agent.py PREDICTIONS REFERENCES OUT.json

One case after the other, in one process: MONAI's metrics of one case have no workers. The spacing is the file's, and
the tolerance of surface Dice is 2 mm, as by default in `ucseg evaluate`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDiceMetric
from monai.networks.utils import one_hot

CLASSES = 3
TOLERANCE = 2.0


def main() -> None:
    """See the module's docstring."""
    predictions, references, out = map(Path, sys.argv[1:])
    metrics = {
        "dice": DiceMetric(include_background=False),
        "hd95": HausdorffDistanceMetric(include_background=False, percentile=95),
        "surface_dice": SurfaceDiceMetric([TOLERANCE] * (CLASSES - 1), include_background=False),
    }
    for file in sorted(predictions.glob("*.nii.gz")):
        pair = [nibabel.load(folder / file.name) for folder in (predictions, references)]
        spacing = [float(edge) for edge in pair[1].header.get_zooms()[:3]]
        masks = [
            one_hot(torch.from_numpy(np.asarray(image.dataobj).astype(np.int16))[None, None], CLASSES) for image in pair
        ]
        metrics["dice"](*masks)
        for name in ("hd95", "surface_dice"):
            metrics[name](*masks, spacing=spacing)
    means = {name: float(metric.aggregate(reduction="mean").mean()) for name, metric in metrics.items()}
    out.write_text(json.dumps(means))


if __name__ == "__main__":
    main()
