"""The contract of methods/base.py, held by every method in METHODS x {2D, 3D}. A new method is tested by its name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load, save
from small_cases import (
    ALL_AT_ONCE,
    LATE,
    make_batch,
    make_method,
    make_problem,
    make_sgd,
    problem_of,
    step,
    terms_of,
    thin_problem,
    update,
)
from torch import Tensor

from refusals import refused
from ucseg.methods import METHODS
from ucseg.methods.base import Method
from ucseg.networks.encoder_unet import EncoderUNet
from ucseg.types import Batch, Problem, Progress

BOTH_RANKS = pytest.mark.parametrize("dims", [2, 3])
WAITS = "see small_cases.ALL_AT_ONCE"
EVERY_METHOD = pytest.mark.parametrize("name", list(METHODS))
# In 3D, where a step is slow, binary and multi-class are tested where the difference can matter.
EVERY_PROBLEM = pytest.mark.parametrize(("dims", "classes"), [(2, 2), (2, 4), (3, 2), (3, 3)])


def unsupervised(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("supervised")]


@dataclass
class Looked:
    """A method's second step, and the gradient of each of its terms in each trainable parameter."""

    method: Method
    loss: Tensor
    terms: dict[str, Tensor]
    gradients: dict[str, dict[str, Tensor | None]]

    def norm(self, term: str, inside: str = "") -> float:
        """L2 norm of a term's gradient in the parameters whose name contains `inside`."""
        found = [g for name, g in self.gradients[term].items() if g is not None and inside in name]
        return float(torch.stack([g.norm() for g in found]).norm()) if found else 0.0


@pytest.fixture(scope="module", params=[(name, dims) for name in METHODS for dims in (2, 3)], ids=str)
def looked(request: pytest.FixtureRequest) -> Iterator[Looked]:
    """After one update: what starts at zero (the fusion's last layer) has left it, and memories have entries."""
    name, dims = request.param
    problem = problem_of(name, dims, classes=3 if dims == 2 else 2)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    count = 2 if dims == 2 else 1
    update(method, make_sgd(method), make_batch(method, problem, count, count, seed=1), Progress(98, 100))
    output = step(method, make_batch(method, problem, count, count, seed=2), LATE)
    trainable = {key: p for key, p in method.named_parameters() if p.requires_grad}
    gradients = {}
    for term, value in output.terms.items():
        found = torch.autograd.grad(value, list(trainable.values()), retain_graph=True, allow_unused=True)
        gradients[term] = dict(zip(trainable, found, strict=True))
    yield Looked(method, output.loss, output.terms, gradients)


def test_the_terms_are_finite_scalars_and_their_sum_is_the_loss(looked: Looked) -> None:
    assert all(value.shape == () and torch.isfinite(value) for value in looked.terms.values())
    total = sum(float(value.detach()) for value in looked.terms.values())
    assert float(looked.loss.detach()) == pytest.approx(total, rel=1e-6)


def test_each_unsupervised_term_trains_the_student_at_full_weight(looked: Looked) -> None:
    terms = unsupervised(list(looked.terms))
    assert bool(terms) == bool(looked.method.views)
    for term in terms:
        assert looked.norm(term) > 1e-8, f"{term} trains nothing; {WAITS}"


def test_every_trainable_parameter_is_reached_by_a_finite_gradient(looked: Looked) -> None:
    for key, parameter in looked.method.named_parameters():
        found = [of_term[key] for of_term in looked.gradients.values() if key in of_term]
        gradients = [g for g in found if g is not None]
        assert all(bool(torch.isfinite(g).all()) for g in gradients), key
        reached = any(float(g.norm()) > 1e-8 for g in gradients)
        assert reached == parameter.requires_grad, key


def test_no_two_tensors_of_the_state_share_storage(looked: Looked) -> None:
    """A teacher that shares storage with its student is its student; and safetensors could not save it."""
    tensors = {**dict(looked.method.named_parameters()), **dict(looked.method.named_buffers())}
    places = [tensor.untyped_storage().data_ptr() for tensor in tensors.values()]
    assert len(set(places)) == len(places)
    assert set(looked.method.state_dict()) == set(tensors), "the state dict is complete"


@EVERY_METHOD
@BOTH_RANKS
def test_images_labels_and_every_requested_view_change_the_loss(name: str, dims: int) -> None:
    problem = problem_of(name, dims)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    count = 2 if dims == 2 else 1
    batch = make_batch(method, problem, count, count)
    assert set(batch.unlabelled) == set(method.views)

    def total(changed: Batch, progress: Progress = LATE) -> float:
        return sum(terms_of(method, changed, progress).values())

    base = total(batch)
    assert total(batch) == base, "equal inputs, equal steps"
    before = Progress(LATE.step - 1, LATE.total)
    for view, image in batch.unlabelled.items():
        changed = dataclasses.replace(batch, unlabelled={**batch.unlabelled, view: image.flip(2)})
        # A method may use its views in turn.
        assert total(changed) != base or total(changed, before) != total(batch, before), (
            f"{view} changes nothing; {WAITS}"
        )
    if dims == 2:
        assert total(dataclasses.replace(batch, labelled=batch.labelled.flip(2))) != base
        assert total(dataclasses.replace(batch, label=batch.label.flip(1))) != base


def test_a_batch_has_no_place_for_labels_of_unlabelled_images() -> None:
    fields = {field.name for field in dataclasses.fields(Batch)}
    assert fields == {"labelled", "label", "unlabelled", "labelled_cases", "unlabelled_cases", "annotated"}


@EVERY_METHOD
@BOTH_RANKS
def test_the_same_seed_gives_the_same_weights_and_a_resumed_run_equals_an_uninterrupted_one(
    name: str, dims: int
) -> None:
    problem = problem_of(name, dims, classes=2)
    count = 2 if dims == 2 else 1
    batches = [make_batch(METHODS[name], problem, count, count, seed=seed) for seed in range(2)]

    whole, twin = (make_method(name, problem, ALL_AT_ONCE.get(name)) for _ in range(2))
    weights = twin.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in whole.state_dict().items())
    optimizer = make_sgd(whole)
    update(whole, optimizer, batches[0], Progress(50, 100))
    saved, moments = save(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    update(whole, optimizer, batches[1], Progress(51, 100))

    again = make_method(name, problem, ALL_AT_ONCE.get(name), seed=99)
    again.load_state_dict(load(saved))
    optimizer = make_sgd(again)
    optimizer.load_state_dict(moments)
    update(again, optimizer, batches[1], Progress(51, 100))

    expected, found, start = whole.state_dict(), again.state_dict(), load(saved)
    assert list(expected) == list(found)
    assert all(torch.equal(expected[key], found[key]) for key in expected), "bit for bit"
    assert any(not torch.equal(start[key], found[key]) for key in expected)


@EVERY_METHOD
@EVERY_PROBLEM
def test_predictions_of_any_size_are_distributions_with_uncertainty_and_do_not_change(
    name: str, dims: int, classes: int
) -> None:
    problem = problem_of(name, dims, classes, channels=3 if dims == 2 else 1)
    method = make_method(name, problem).eval()
    before = copy.deepcopy(method.state_dict())
    for shape in ((32, 48), (37, 21), (5, 3)) if dims == 2 else ((17, 10, 21), (5, 7, 4)):
        image = torch.randn(1, problem.channels, *shape, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            first, second = method.predict(image), method.predict(image)
        assert first.probabilities.shape == (1, classes, *shape)
        assert first.uncertainty.shape == (1, 1, *shape)
        assert first.probabilities.dtype == first.uncertainty.dtype == torch.float32
        for probabilities in (first.probabilities, *first.members.values()):
            assert probabilities.shape == first.probabilities.shape
            assert (probabilities >= 0).all()
            torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1, *shape))
        assert (first.uncertainty > 0).all() and (first.uncertainty <= 1).all()
        assert torch.equal(first.probabilities, second.probabilities)
        assert torch.equal(first.uncertainty, second.uncertainty)
    after = method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items()), "predict changes nothing"


@EVERY_METHOD
def test_an_image_is_predicted_alike_alone_and_in_a_batch(name: str) -> None:
    problem = problem_of(name, 2)
    method = make_method(name, problem).eval()
    images = make_batch(method, problem, 3, 1).labelled
    with torch.no_grad():
        together, alone = method.predict(images), method.predict(images[1:2])
    torch.testing.assert_close(together.probabilities[1:2], alone.probabilities, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.uncertainty[1:2], alone.uncertainty, rtol=1e-4, atol=1e-5)


def finite_with_gradients(method: Method, batch: Batch) -> None:
    """Two steps, so that what the first one remembers is used; the second one's gradients are finite."""
    step(method, batch)
    output = step(method, batch)
    output.loss.backward()
    assert all(bool(torch.isfinite(value)) for value in output.terms.values()), output.terms
    assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters() if p.grad is not None)
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in method.parameters())


@EVERY_METHOD
@pytest.mark.parametrize(
    ("dims", "labelled", "unlabelled", "shape"),
    [
        (2, 1, 1, (32, 32)),
        (2, 1, 3, (37, 21)),
        (2, 3, 1, (21, 50)),
        (3, 1, 2, (19, 10, 21)),
    ],
)
def test_odd_sizes_and_unequal_halves_work(
    name: str, dims: int, labelled: int, unlabelled: int, shape: tuple[int, ...]
) -> None:
    problem = problem_of(name, dims, classes=2)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    finite_with_gradients(method, make_batch(method, problem, labelled, unlabelled, shape=shape))


def only(value: int, batch: Batch) -> Batch:
    return dataclasses.replace(batch, label=torch.full_like(batch.label, value))


@EVERY_METHOD
def test_networks_follow_the_plan_s_levels_where_axes_differ(name: str) -> None:
    """Thick slices: three levels, and the first step down leaves the third axis alone."""
    problem = dataclasses.replace(thin_problem(3, 2), patch=(8, 8, 4), token=(4, 4, 4), strides=((2, 2, 1), (2, 2, 2)))
    method = make_method(name, problem)
    output = step(method, make_batch(method, problem, 1, 1))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    with torch.no_grad():
        assert method.eval().predict(torch.randn(1, 1, 13, 18, 7)).probabilities.shape == (1, 2, 13, 18, 7)


@EVERY_METHOD
@pytest.mark.parametrize(("dims", "classes"), [(2, 2), (2, 4), (3, 3)])
def test_labels_without_foreground_or_with_one_class_alone_work(name: str, dims: int, classes: int) -> None:
    problem: Problem = problem_of(name, dims, classes, one_component=(1,))
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    batch = make_batch(method, problem, 1, 1)
    finite_with_gradients(method, only(0, batch))
    if dims == 2:
        finite_with_gradients(method, only(classes - 1, batch))


@EVERY_METHOD
@BOTH_RANKS
def test_constant_images_work(name: str, dims: int) -> None:
    """An empty corner of a scan: every norm sees zero variance."""
    problem = problem_of(name, dims)
    method = make_method(name, problem)
    batch = make_batch(method, problem, 1, 1)
    blank = {view: torch.zeros_like(image) for view, image in batch.unlabelled.items()}
    output = step(method, dataclasses.replace(batch, labelled=torch.zeros_like(batch.labelled), unlabelled=blank))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters() if p.grad is not None)


@EVERY_METHOD
@BOTH_RANKS
def test_bf16_autocast_gives_finite_losses_close_to_those_of_fp32(
    name: str, dims: int, need_bf16: Callable[[int], None]
) -> None:
    need_bf16(dims)
    problem = problem_of(name, dims)
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    batch = make_batch(method, problem, 1, 1)
    with torch.no_grad():
        step(method, batch)
    full = terms_of(method, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = terms_of(method, batch)
        output = step(method, batch)
        prediction = method.eval().predict(batch.labelled)
    output.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters() if p.grad is not None)
    assert prediction.probabilities.dtype == torch.float32
    torch.testing.assert_close(prediction.probabilities.sum(dim=1), torch.ones(1, *problem.patch))
    for term, value in full.items():
        assert half[term] == pytest.approx(value, rel=0.1, abs=0.05), term


def test_a_view_of_unknown_strength_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS["fixmatch"], "views", {"weak": "weakly", "strong": "strong"})
    with refused("view-strength", naming=["FixMatch", "'weak'", "'weakly'", "'plan'"]):
        make_method("fixmatch", thin_problem(2))


@EVERY_METHOD
def test_a_plan_with_an_encoder_gives_every_method_one_that_it_trains_and_predicts_with(name: str) -> None:
    problem = dataclasses.replace(make_problem(2, channels=3), encoder="effnet_lite0:random")
    method = make_method(name, problem, ALL_AT_ONCE.get(name))
    encoders = [one for one in method.modules() if isinstance(one, EncoderUNet)]
    before = copy.deepcopy(encoders[0].backbone.state_dict())
    update(method, make_sgd(method), make_batch(method, problem), LATE)
    assert any(not torch.equal(value, before[key]) for key, value in encoders[0].backbone.state_dict().items())
    with torch.no_grad():
        probabilities = method.eval().predict(torch.randn(1, 3, *problem.patch)).probabilities
    assert probabilities.shape == (1, 3, *problem.patch) and torch.isfinite(probabilities).all()
