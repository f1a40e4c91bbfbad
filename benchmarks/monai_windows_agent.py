"""MONAI's sliding windows with the networks of a run of ours; started by predict.py peers.

    python benchmarks/monai_windows_agent.py RUN SCANS OUT [--mirror]

NIfTI volumes whose voxels have the plan's spacing. Windows have the size of the training patch, overlap by half and are
blended by MONAI's Gaussian; as many at once as our own prediction takes. Masks are written, and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.inferers import sliding_window_inference

from ucseg.inference.predictor import Predictor
from ucseg.training.allocator import kept_memory


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("scans", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mirror", action="store_true", help="the mean over the mirrors of our prediction")
    words = parser.parse_args()
    predictor = Predictor.from_run(words.run, device="cpu", precision="fp32", mirror=words.mirror)
    plan, method = predictor.plan, predictor.method
    words.out.mkdir(parents=True, exist_ok=True)

    def networks(windows: torch.Tensor) -> torch.Tensor:
        total = 0
        for axes in predictor.mirrors:
            turned = [2 + axis for axis in axes]
            total = total + method.predict(windows.flip(turned)).probabilities.flip(turned)
        return total / len(predictor.mirrors)

    with kept_memory(), predictor.at_work():
        for file in sorted(words.scans.iterdir()):
            image = nib.load(file)
            voxels = np.asarray(image.dataobj, np.float32)
            voxels = (voxels - voxels.mean()) / voxels.std()
            windows = max(1, predictor.batch // len(predictor.mirrors))
            found = sliding_window_inference(
                torch.from_numpy(voxels)[None, None], plan.patch, windows, networks, overlap=0.5, mode="gaussian"
            )
            mask = found[0].argmax(dim=0).numpy().astype(np.uint8)
            nib.save(nib.Nifti1Image(mask, image.affine), words.out / file.name)


if __name__ == "__main__":
    main()
