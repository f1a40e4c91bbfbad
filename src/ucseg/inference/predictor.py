"""Predicts scans with a method and torch, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ucseg.inference.calibration import kept_for
from ucseg.inference.maps import Layout, Maps, mirrored_mean
from ucseg.inference.scan_predictor import ScanPredictor, require_precision
from ucseg.inference.step_memory import require_window
from ucseg.methods.base import Method
from ucseg.methods.contract import check_prediction, check_probabilities
from ucseg.networks.cpu import CHANNELS_LAST
from ucseg.planning.plan import Plan
from ucseg.training.checkpoint import load_method, silent_networks, weights_digest
from ucseg.training.device import choose_device, choose_precision, convolutions_to
from ucseg.training.run_folder import RunFolder
from ucseg.types import Array, Prediction


class Predictor(ScanPredictor):
    """Predicts scans with a method; the same object serves validation during training and `ucseg predict`.

    Args:
        method: it is moved to `device`; it is in evaluation mode while predicting and comes back as it was.
        plan: the plan that it was trained with.
        device: "auto" (a GPU if there is one), or any torch device.
        precision: "auto" (the quicker one on the device, as in training), "bf16" (autocast) or "fp32".
        windows: as of the class above.
    """

    def __init__(
        self,
        method: Method,
        plan: Plan,
        device: torch.device | str = "auto",
        *,
        precision: str = "auto",
        **windows: Any,
    ) -> None:
        super().__init__(plan, **windows)
        self.device = choose_device(device) if isinstance(device, str) else device
        self.method = method.to(self.device)
        require_precision(precision)
        self.precision = choose_precision(precision, self.device)
        self._method_name = type(method).__name__

    @classmethod
    def from_run(
        cls, run: Path | str, checkpoint: str = "last", device: torch.device | str = "auto", **settings: Any
    ) -> Predictor:
        """The predictor of a finished (or running) training.

        Args:
            run: the folder that `ucseg train` wrote.
            checkpoint: "last", "best" (on validation cases) or "ema".
            settings: as of the class.

        Raises:
            UserError: the folder is not a run or has no such checkpoint.
        """
        method, plan, _ = load_method(Path(run), checkpoint)
        found = cls(method, plan, device, silent=silent_networks(Path(run), checkpoint), **settings)
        found.calibration = kept_for(Path(run), found.weights, len(found.mirrors) > 1)
        convolutions_to(method, CHANNELS_LAST[plan.dims])
        found._method_name = RunFolder(Path(run)).method[0]
        return found

    @property
    def place(self) -> str:
        return self.device.type

    @property
    def weights(self) -> str:
        return weights_digest(self.method)

    def require_window(self) -> None:
        require_window(self.method, self.plan, self.device)

    @property
    def method_name(self) -> str:
        return self._method_name

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Evaluation mode, and back to each module's own mode (a teacher may be in another one than its student)."""
        modes = {module: module.training for module in self.method.modules()}
        self.method.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def answer(self, image: Array) -> tuple[Array, Layout]:
        values, layout = self._mean(torch.from_numpy(image).to(self.device))
        return values.cpu().contiguous().numpy(), layout

    def mirrored(self, image: Tensor) -> Prediction:
        """The mean over all mirrors of a batch; vacuity and members are averaged as probabilities are."""
        values, layout = self._mean(image)
        return Prediction(**vars(layout.split(values)))

    def _mean(self, image: Tensor) -> tuple[Tensor, Layout]:
        unchecked: list[Prediction] = []
        layouts: list[Layout] = []

        def once(images: Tensor) -> list[Tensor]:
            found = self._predict(images)
            layouts[:] = [Layout(found.probabilities.shape[1], tuple(found.members), len(self.mirrors) > 1)]
            if self.device.type == "cpu":
                check_probabilities(self.method, [found])
            else:  # a GPU is asked at the end, once
                unchecked.append(found)
            return _parts(found)

        values = mirrored_mean(
            torch,
            once,
            image,
            self.mirrors,
            empty=partial(image.new_empty, dtype=torch.float32),
            voxels=self.voxels_at_once,
            classes=self.method.problem.classes,
        )
        if unchecked:
            check_probabilities(self.method, unchecked)
        return values, layouts[0]

    def _predict(self, image: Tensor) -> Prediction:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            prediction = self.method.predict(image.contiguous(memory_format=CHANNELS_LAST[self.plan.dims]))
        check_prediction(self.method, image, prediction)
        return prediction


def stacked(prediction: Prediction) -> Tensor:
    """All maps of a prediction as the channels of one tensor, as `Layout` says: B x K x S float32."""
    parts = [*_parts(prediction), *([] if prediction.spread is None else [prediction.spread])]
    return torch.cat([part.float() for part in parts], dim=1)


def _parts(prediction: Prediction) -> list[Tensor]:
    maps = [prediction.probabilities, prediction.uncertainty, *prediction.members.values()]
    return [one.detach() for one in maps]


def tensors_of(maps: Maps) -> Prediction:
    """The same maps as tensors on the CPU; nothing is copied."""
    members = {name: torch.from_numpy(member) for name, member in maps.members.items()}
    spread = None if maps.spread is None else torch.from_numpy(maps.spread)
    return Prediction(torch.from_numpy(maps.probabilities), torch.from_numpy(maps.uncertainty), members, spread)
