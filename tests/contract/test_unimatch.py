"""UniMatch: three streams learn from the weak view, one of them by changed features."""

from __future__ import annotations

import copy

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of
from torch import nn

from ucseg.losses.segmentation import cross_entropy
from ucseg.method_parts.mixing import cutmix, sample_cutmix_boxes
from ucseg.methods.unimatch import UniMatch


def make(classes: int = 3, **settings: object) -> UniMatch:
    method = make_method("unimatch", make_problem(2, classes), {"threshold": 0.0, **settings})
    assert isinstance(method, UniMatch)
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


@pytest.mark.parametrize("classes", [2, 3])
def test_each_stream_has_the_weak_views_label_and_its_weight(classes: int) -> None:
    method = make(classes, cutmix=1.0)
    batch, binary = make_batch(method, method.problem), classes == 2
    found = terms_of(method, batch)
    again, shape = copy.deepcopy(method.network), (32, 32)
    with torch.no_grad():
        z, z_changed = copy.deepcopy(method).weak_stream(batch, LATE)
        label = z[2:].argmax(dim=1)
        boxes = [sample_cutmix_boxes(shape, 2, LATE.generator(f"cutmix strong_{k}"), 1.0) for k in (1, 2)]
        views = [cutmix(batch.unlabelled[f"strong_{k}"], boxes[k - 1]) for k in (1, 2)]
        z_s = again(torch.cat(views))[0].chunk(2)
    assert boxes[0] != boxes[1], "different boxes"
    for k in (0, 1):
        expected = 0.25 * float(cross_entropy(z_s[k], cutmix(label, boxes[k]), binary))
        assert found[f"strong_{k + 1}"] == pytest.approx(expected, rel=1e-4)
    assert found["feature"] == pytest.approx(0.5 * float(cross_entropy(z_changed, label, binary)), rel=1e-4)


def test_the_changed_features_are_the_weak_views_with_channels_dropped_at_every_level() -> None:
    method = make()
    batch = make_batch(method, method.problem)
    seen: list[list[torch.Tensor]] = []
    method.network.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    step(method, batch)
    for level in seen[0]:  # 2 labelled, 2 weak, 2 changed
        weak, changed = level[2:4].flatten(2), level[4:].flatten(2)
        dropped = (changed == 0).all(dim=2) & (weak != 0).any(dim=2)
        assert 0 < int(dropped.sum()) < dropped.numel()
        torch.testing.assert_close(changed[~dropped], 2 * weak[~dropped])


def test_without_dropout_of_channels_the_feature_stream_says_what_the_weak_view_says() -> None:
    method = make(dropout=0.0)
    with torch.no_grad():
        z, z_changed = method.weak_stream(make_batch(method, method.problem), LATE)
    torch.testing.assert_close(z[2:], z_changed)


def test_only_sure_voxels_count_in_any_stream() -> None:
    method = make(threshold=1.0)
    found = terms_of(method, make_batch(method, method.problem))
    assert found["strong_1"] == found["strong_2"] == found["feature"] == 0.0
    dice = make(loss="dice")
    assert all(0 < v < 1 for k, v in terms_of(dice, make_batch(dice, dice.problem)).items() if k != "supervised")
