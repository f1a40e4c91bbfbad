"""Every method on a device that is not the host, without having one: torch's meta device, which holds no values.

Whatever pulls a value to the host there fails: `.item()`, a tensor in an `if`, a boolean index. `FarDevice` adds what a
GPU would refuse or wait for: tensors of both devices in one operation, and a copy for which Python stands still.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from small_cases import ALL_AT_ONCE, LATE, make_batch, make_method, make_problem, thin_problem
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ucseg.inference import predictor as predictor_module
from ucseg.inference.predictor import Predictor
from ucseg.method_parts import components
from ucseg.methods import METHODS
from ucseg.methods.base import Method
from ucseg.methods.bcp import BCP
from ucseg.planning.plan import Plan
from ucseg.training.average import WeightAverage
from ucseg.training.settings import TrainConfig
from ucseg.training.update import Updater
from ucseg.types import Array, Batch, Problem, Progress

META = torch.device("meta")
EVERY_METHOD = pytest.mark.parametrize("name", list(METHODS))


class FarDevice(TorchDispatchMode):
    """Fails where an operation meets tensors of the host and of the device, or copies one and waits."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [one for part in (*args, *kwargs.values()) for one in _tensors(part)]
        devices = {one.device.type for one in tensors if one.ndim}
        out = func(*args, **kwargs)
        if name in ("_to_copy", "copy_"):
            target, source = (out, args[0]) if name == "_to_copy" else args[:2]
            waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            assert not (waits and source.device != target.device), f"{func} waits for the device"
        else:
            assert len(devices) < 2, f"{func} has tensors of {devices}"
        return out


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _tensors(one)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FarDevice:
    """Autocast knows no meta device, and networks turn it off in places."""
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if device_type == "meta" else real(device_type, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", autocast)
    return FarDevice()


def moved(batch: Batch) -> Batch:
    views = {name: image.to(META) for name, image in batch.unlabelled.items()}
    return replace(batch, labelled=batch.labelled.to(META), label=batch.label.to(META), unlabelled=views)


def shallow_problem(name: str, dims: int) -> Problem:
    """As few levels as a method can have: what meta does in Python takes long, and each level does the same."""
    return replace(thin_problem(dims), strides=((2,) * dims,) * (2 if name == "uc_seg" else 1))


def on_meta(name: str, problem: Problem) -> tuple[Method, Batch]:
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    batch = make_batch(method, problem, 2, 2)
    return method.to(META), moved(batch)


@EVERY_METHOD
def test_labels_that_are_annotated_in_parts_pull_nothing_to_the_host(name: str, far: FarDevice) -> None:
    method, batch = on_meta(name, shallow_problem(name, 2))
    batch = replace(batch, annotated=torch.ones(batch.label.shape, device=META))
    with far:
        assert all(value.device == META for value in method.step(batch, LATE).whole().terms.values())


@EVERY_METHOD
@pytest.mark.parametrize("dims", [2, 3])
def test_a_step_and_a_prediction_pull_nothing_to_the_host(name: str, dims: int, far: FarDevice) -> None:
    method, batch = on_meta(name, shallow_problem(name, dims))
    with far:
        for step in (99, 50) if name == "ad_mt" else (99,):  # its views take turns
            progress = Progress(step, 100)
            output = method.step(batch, progress).whole()
            if dims == 2:  # the way back is the same in 3D
                output.loss.backward()
            method.after_update(progress)
        assert all(value.device == META for value in (*output.terms.values(), *output.metrics.values()))
        with torch.no_grad():
            assert method.eval().predict(batch.labelled).probabilities.device == META


class FarFabric:
    """What the loop asks of fabric, for one process in float32."""

    device = META

    def setup(self, module: Any, optimizer: Any) -> Any:
        return module, optimizer

    def no_backward_sync(self, _module: Any, enabled: bool) -> Any:
        return contextlib.nullcontext(enabled)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, module: Any, _optimizer: Any, max_norm: float, error_if_nonfinite: bool) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite)


def test_an_update_asks_for_figures_once_and_those_are_of_the_step_before(
    far: FarDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def look(updater: Updater) -> None:
        asked.append(updater._watched.step if updater._watched else None)
        updater._watched = None

    monkeypatch.setattr(Updater, "check_finite", look)
    problem = replace(shallow_problem("uc_seg", 2), patch=(64, 64))
    method = make_method("uc_seg", problem, ALL_AT_ONCE["uc_seg"])
    updater = Updater(method, cast(Any, FarFabric()), TrainConfig(steps=100))
    average = WeightAverage(method, 0.9)
    batch = make_batch(method, problem, 2, 2)
    assert updater.small_first
    with far:
        for step in (10, 99):
            terms, metrics = updater.update([batch], Progress(step, 100))
            average.update(step)
    assert asked == [None, 11], "the first step has none before it"
    assert {value.device for value in (*terms.values(), *metrics.values())} == {META}


def test_what_ucseg_and_bcp_filter_on_the_host_waits_until_the_device_has_work(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def filtered(label: Array, _classes: Any) -> Array:
        order.append("filter")
        return label

    monkeypatch.setattr(components, "largest_components", filtered)
    problem = thin_problem(2, one_component=(1,))
    method = make_method("uc_seg", problem, ALL_AT_ONCE["uc_seg"])
    output = method.step(make_batch(method, problem), LATE)
    assert not order, "the labelled images go backward first"
    assert output.rest is not None
    output.rest()
    assert order == ["filter"] * 2

    order.clear()
    bcp = cast(BCP, make_method("bcp", problem))
    bcp.student.register_forward_hook(lambda *_: order.append("student"))
    bcp.step(make_batch(bcp, problem), LATE)
    assert order == ["student", "filter", "filter"]


def test_a_batch_of_windows_is_asked_for_values_once_however_often_it_is_mirrored(
    far: FarDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(predictor_module, "check_probabilities", lambda _method, seen: looked.append(len(seen)))
    method, batch = on_meta("uc_seg", make_problem(2))
    plan = Plan.model_validate(
        {
            **{"dims": 2, "unit": "px", "spacing": (1.0, 1.0), "patch": (32, 32), "token": (8, 8), "channels": 1},
            **{"labelled_batch": 2, "unlabelled_batch": 2, "normalisation": "unit"},
            "augmentation": {"flip": 0.5},
            "classes": {0: "background", 1: "organ", 2: "other"},
        }
    )
    predictor = Predictor(method, plan, META, precision="fp32")
    with far, torch.no_grad():
        assert predictor.mirrored(batch.labelled).probabilities.device == META
    assert looked == [2], "passes of four images each: two mirrors of two"
