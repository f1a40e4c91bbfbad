"""What distinguishes entropy_min, r_drop, cct and ss_net."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of

from refusals import refused
from ucseg.losses.consistency import symmetric_divergence
from ucseg.losses.segmentation import class_probabilities, normalised_probabilities
from ucseg.method_parts.perturbation import PERTURBATIONS
from ucseg.methods.cct import CCT
from ucseg.methods.entropy_min import EntropyMin
from ucseg.methods.r_drop import RDrop
from ucseg.methods.ss_net import SSNet

CLASSES = pytest.mark.parametrize("classes", [2, 3])


@CLASSES
def test_entropy_min_makes_unlabelled_predictions_sure(classes: int) -> None:
    method = make_method("entropy_min", make_problem(2, classes), {"entropy_weight": 1.0})
    assert isinstance(method, EntropyMin)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)["entropy"]
    torch.manual_seed(7)
    with torch.no_grad():
        z, _ = copy.deepcopy(method.network)(torch.cat([batch.labelled, batch.unlabelled["image"]]))
    p = normalised_probabilities(z[len(batch.labelled) :], classes == 2)
    assert found == pytest.approx(float(-(p * p.log()).sum(dim=1).mean()) / math.log(classes), rel=1e-4)


@CLASSES
def test_r_drop_compares_two_dropout_masks_on_all_images(classes: int) -> None:
    method = make_method("r_drop", make_problem(2, classes))
    assert isinstance(method, RDrop)
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)["agreement"]
    torch.manual_seed(7)
    image = torch.cat([batch.labelled, batch.unlabelled["image"]])
    with torch.no_grad():
        z_1, z_2 = copy.deepcopy(method.network)(torch.cat([image, image]))[0].chunk(2)
    assert found == pytest.approx(float(symmetric_divergence(z_1, z_2, classes == 2)), rel=1e-4)
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert terms_of(method, batch)["agreement"] == pytest.approx(0.0, abs=1e-6), "only dropout differs"


@pytest.mark.parametrize("name", ["r_drop", "ua_mt"])
def test_what_dropout_is_a_part_of_has_it_whatever_the_plan_says(name: str) -> None:
    method = make_method(name, replace(make_problem(2), dropout=False), {})
    assert any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in method.modules())


def test_r_drop_refuses_a_network_without_dropout() -> None:
    with refused("network-without-dropout", naming=["'vnet'", "network=unet"]):
        make_method("r_drop", make_problem(2), {"network": "vnet"})


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_cct_draws_each_auxiliary_decoder_to_the_main_one(name: str) -> None:
    method = make_method("cct", make_problem(2), {"perturbations": (name,)})
    assert isinstance(method, CCT)
    batch = make_batch(method, method.problem)
    n = len(batch.labelled)
    output = step(method, batch)
    gradients = torch.autograd.grad(
        output.terms[f"consistency_{name}"], list(method.network.decoder.parameters()), allow_unused=True
    )
    assert not any(g is not None and bool((g != 0).any()) for g in gradients), "the target is detached"
    found = terms_of(method, batch)
    torch.manual_seed(7)
    again = copy.deepcopy(method)
    with torch.no_grad():
        z, features = again.network(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        generator = LATE.generator(name)
        said = again.auxiliary[name]([PERTURBATIONS[name](level[n:], generator) for level in features])
    p, q = class_probabilities(said, False), class_probabilities(z[n:], False)
    assert found[f"consistency_{name}"] == pytest.approx(float((p - q).square().mean()), rel=1e-3)


def test_ss_net_remembers_rightly_predicted_labelled_foreground_alone() -> None:
    method = make_method("ss_net", make_problem(2, 3, width=16), {"voxels": 4})
    assert isinstance(method, SSNet)
    label = torch.zeros(1, 4, 4, dtype=torch.long)
    label[0, 0, :3] = 1
    z = torch.zeros(1, 3, 4, 4)
    z[:, 0] = 1.0  # background everywhere ...
    z[0, 1, 0, 0] = 5.0  # ... but for one voxel that is rightly class 1, and one that is wrongly class 2
    z[0, 2, 3, 3] = 9.0
    features = torch.randn(1, 16, 4, 4)
    method.remember(z, features, label)
    assert method.memory.written.tolist() == [1, 0]  # of classes 1 and 2
    with torch.no_grad():
        expected = F.normalize(method.project(features[:, :, 0, 0]), dim=1)[0]
    torch.testing.assert_close(method.memory.values[0, 0], expected)


def test_ss_net_draws_foreground_voxels_to_their_own_class_in_the_memory() -> None:
    method = make_method("ss_net", make_problem(2, 3, width=16))
    assert isinstance(method, SSNet)
    features, label = torch.randn(2, 16, 6, 5), torch.randint(0, 3, (2, 6, 5))
    assert float(method.separation(features, label, LATE).detach()) == 0.0, "the memory is empty"
    entries = F.normalize(torch.randn(3, 2, 32), dim=2)
    method.memory.push(entries, torch.tensor([[True, True], [True, False], [True, False]]))
    with torch.no_grad():
        found = float(method.separation(features, label, LATE))
        total = 0.0
        for b in range(2):
            for i in range(6):
                for j in range(5):
                    c = int(label[b, i, j])
                    if c == 0:
                        continue
                    q = F.normalize(method.match(method.project(features[b, :, i, j])), dim=0)
                    own = entries[: 3 if c == 1 else 1, c - 1]
                    total += sum(1 - float(q @ m) for m in own) / len(own)
    assert found == pytest.approx(total / int((label > 0).sum()), rel=1e-4)


def test_ss_net_predicts_with_the_statistics_of_unaltered_images() -> None:
    """The passes of altered images leave no trace in the running statistics of batch norms."""
    statistics = []
    for smooth in (None, 0.0):
        method = make_method("ss_net", make_problem(2), {"smooth_weight": smooth})
        batch = make_batch(method, method.problem)
        assert ("smooth" in terms_of(method, batch, LATE)) == (smooth is None)
        step(method, batch)
        statistics.append([b for name, b in method.named_buffers() if "running" in name])
    assert len(statistics[0]) > 0
    for one, other in zip(*statistics, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("part", ["smooth", "class"])
def test_ss_net_parts_can_be_switched_off(part: str) -> None:
    method = make_method("ss_net", make_problem(2), {f"{part}_weight": 0.0})
    assert set(terms_of(method, make_batch(method, method.problem))) == {"supervised", "smooth", "class"} - {part}


def test_ss_net_leaves_no_gradient_behind_by_its_search_for_the_direction() -> None:
    method = make_method("ss_net", make_problem(2))
    step(method, make_batch(method, method.problem))
    assert all(p.grad is None for p in method.parameters())
