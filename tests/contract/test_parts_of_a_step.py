"""A step that a method gives in parts: each goes backward before the next begins, and together they are the step."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from small_cases import ALL_AT_ONCE, make_batch, make_method, thin_problem
from torch import Tensor, nn

from refusals import refused
from ucseg.methods.base import Method
from ucseg.methods.uc_seg import UCSeg
from ucseg.training.device import make_fabric
from ucseg.training.settings import TrainConfig
from ucseg.training.update import Updater
from ucseg.types import Batch, Prediction, Progress, StepOutput

AT = Progress(50, 100)
BOTH_RANKS = pytest.mark.parametrize("dims", [2, 3])


class InParts(Method):
    """Three parts, of which the first and the last have a term of the same name."""

    def __init__(self) -> None:
        super().__init__(UCSeg.Config(), thin_problem(2))
        torch.manual_seed(0)
        self.layer = nn.Conv2d(self.problem.channels, 1, 1)
        self.gradients: list[Tensor | None] = []

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        def value(image: Tensor) -> Tensor:
            gradient = self.layer.weight.grad
            self.gradients.append(None if gradient is None else gradient.clone())
            return self.layer(image).square().mean()

        def third() -> StepOutput:
            return StepOutput({"labelled": value(batch.labelled + 1)}, {"seen": torch.tensor(3.0)})

        def second() -> StepOutput:
            return StepOutput({"unlabelled": value(batch.unlabelled["image"])}, rest=third)

        return StepOutput({"labelled": value(batch.labelled)}, {"first": torch.tensor(1.0)}, rest=second)

    def predict(self, image: Tensor) -> Prediction:
        raise NotImplementedError


def update(method: Method, *batches: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    config = TrainConfig(lr=0.1, precision="fp32")
    return Updater(method, make_fabric(torch.device("cpu"), "fp32"), config).update(batches, AT)


def at_once(method: Method) -> Method:
    """The same method, all of whose step goes backward at once."""
    in_parts: Callable[[Batch, Progress], StepOutput] = method.step
    method.step = lambda batch, progress: in_parts(batch, progress).whole()  # type: ignore[method-assign]
    return method


def test_parts_add_up_to_the_step() -> None:
    batch = make_batch(InParts, thin_problem(2))
    parts, whole = InParts(), at_once(InParts())
    terms, metrics = update(parts, batch)
    others, _ = update(whole, batch)
    assert list(terms) == ["labelled", "unlabelled"]
    assert {"seen", "first", "gradient norm"} == set(metrics)
    for name, value in terms.items():
        torch.testing.assert_close(value, others[name])
    torch.testing.assert_close(parts.layer.weight, whole.layer.weight)  # type: ignore[attr-defined]
    assert len(parts.gradients) == 3
    first, second, third = parts.gradients
    assert first is None
    assert second is not None and third is not None and not torch.equal(second, third)


def test_parts_of_an_accumulated_update_add_up_to_it() -> None:
    batches = [make_batch(InParts, thin_problem(2), seed=seed) for seed in (0, 1)]
    parts, whole = InParts(), at_once(InParts())
    terms, _ = update(parts, *batches)
    others, _ = update(whole, *batches)
    assert terms == {name: pytest.approx(value) for name, value in others.items()}
    torch.testing.assert_close(parts.layer.weight, whole.layer.weight)  # type: ignore[attr-defined]


def test_a_part_that_breaks_the_contract_is_named() -> None:
    method = InParts()
    method.step = lambda *_: StepOutput(  # type: ignore[method-assign]
        {"one": method.layer.weight.sum()}, rest=lambda: StepOutput({"two": torch.zeros(3)})
    )
    with refused("step-scalars", naming=["InParts", "term 'two'", "of shape 3"]):
        update(method, make_batch(InParts, thin_problem(2)))


@BOTH_RANKS
def test_uc_seg_in_parts_is_uc_seg_at_once(dims: int) -> None:
    """All that differs is the order of float32 sums."""
    batch = make_batch(UCSeg, thin_problem(dims))
    parts, whole = (make_method("uc_seg", thin_problem(dims), ALL_AT_ONCE["uc_seg"]) for _ in range(2))
    start = {name: value.clone() for name, value in parts.state_dict().items()}
    terms, metrics = update(parts, batch)
    others, other_metrics = update(at_once(whole), batch)
    assert terms.keys() == others.keys() and metrics.keys() == other_metrics.keys()
    for name, value in terms.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-6)
    expected = whole.state_dict()
    for name, value in parts.state_dict().items():
        apart, moved = (value - expected[name]).float().norm(), (value - start[name]).float().norm()
        assert apart <= 1e-2 * moved + 1e-6, name


def test_maps_of_the_plain_images_are_gone_before_the_mixed_ones_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held together they would take more memory."""

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    held: list[weakref.ref[Held]] = []
    still: list[int] = []
    mix = UCSeg.mix

    def pack(tensor: Tensor) -> Held:
        one = Held(tensor)
        held.append(weakref.ref(one))
        return one

    def watched(*arguments: object) -> tuple[Tensor, Tensor]:
        still.append(sum(one() is not None for one in held))
        return mix(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(UCSeg, "mix", watched)
    method = make_method("uc_seg", thin_problem(2), ALL_AT_ONCE["uc_seg"])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
        update(method, make_batch(UCSeg, thin_problem(2)))
    assert still == [0]
    assert held
