"""The two streams: what a batch holds, that it is a function of seed, step and piece, that no request leaks."""

import multiprocessing
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch

from refusals import refused
from ucseg.batches.prepare import PreparedCase
from ucseg.batches.stream import Stream, loader, require_pieces
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.plan import Plan

PLAIN = AugmentationConfig()
LIVELY = AugmentationConfig(flip=0.5, rotate90=0.5, affine=0.5, distortion=0.5, dropout=0.5, contrast=0.5, noise=0.5)

IMAGE = {"image": "plan"}
PAIR = {"student": "plan", "teacher": "plan"}


def make_plan(patch=(16, 16), labelled=2, unlabelled=3, augmentation=LIVELY, slice_axis=None, channels=1):
    rank = len(patch) if slice_axis is None else 3
    return Plan(
        dims=len(patch),
        slice_axis=slice_axis,
        unit="mm",
        spacing=(1.0,) * rank,
        patch=patch,
        token=(8,) * len(patch),
        labelled_batch=labelled,
        unlabelled_batch=unlabelled,
        channels=channels,
        classes={0: "background", 1: "a", 2: "b"},
        normalisation="zscore",
        augmentation=augmentation,
    )


def make_case(folder, name, image, label=None):
    np.save(folder / f"{name}.npy", image)
    if label is not None:
        np.save(folder / f"{name}_label.npy", label)
    path = None if label is None else folder / f"{name}_label.npy"
    return PreparedCase(name, name, folder / f"{name}.npy", path, image.shape[1:])


@pytest.fixture
def cases(tmp_path):
    """Seven labelled and five unlabelled images of several sizes, some smaller than the patch."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(12):
        shape = (20 + index, 30 - 2 * index)
        image = rng.standard_normal((1, *shape)).astype(np.float16)
        label = rng.integers(0, 3, shape).astype(np.uint8) if index < 7 else None
        made.append(make_case(tmp_path, f"case{index}", image, label))
    return made[:7], made[7:]


def same(a, b):
    return (
        torch.equal(a.labelled, b.labelled)
        and torch.equal(a.label, b.label)
        and a.unlabelled.keys() == b.unlabelled.keys()
        and all(torch.equal(a.unlabelled[view], b.unlabelled[view]) for view in a.unlabelled)
        and (a.labelled_cases, a.unlabelled_cases) == (b.labelled_cases, b.unlabelled_cases)
    )


def test_shapes_dtypes_and_names(cases):
    batch = Stream(*cases, make_plan(), 0, PAIR).batch(0)
    assert batch.labelled.shape == (2, 1, 16, 16) and batch.labelled.dtype == torch.float32
    assert batch.label.shape == (2, 16, 16) and batch.label.dtype == torch.int64
    assert {view: tuple(image.shape) for view, image in batch.unlabelled.items()} == {
        "student": (3, 1, 16, 16),
        "teacher": (3, 1, 16, 16),
    }
    assert len(batch.labelled_cases) == 2 and len(batch.unlabelled_cases) == 3
    assert set(batch.unlabelled_cases) <= {case.case for case in cases[1]}


def test_a_batch_is_a_function_of_seed_step_and_piece(cases):
    plan = make_plan(labelled=4, unlabelled=2)
    stream = Stream(*cases, plan, 3, IMAGE, pieces=2)
    for step in range(5):
        stream.batch(step)
    assert same(stream.batch(7, 1), Stream(*cases, plan, 3, IMAGE, pieces=2).batch(7, 1))
    for other in (
        stream.batch(8, 1),
        stream.batch(7, 0),
        Stream(*cases, plan, 4, IMAGE, pieces=2).batch(7, 1),
    ):
        assert not torch.equal(stream.batch(7, 1).labelled, other.labelled)


def test_the_labelled_half_does_not_depend_on_the_unlabelled_one(cases):
    labelled, unlabelled = cases
    plain = Stream(labelled, unlabelled, make_plan(), 0, ())
    others = [
        Stream(labelled, unlabelled, make_plan(), 0, IMAGE),
        Stream(labelled, unlabelled[:2], make_plan(unlabelled=5), 0, PAIR),
        Stream(labelled, [], make_plan(), 0, IMAGE),
    ]
    for step in (0, 1, 9):
        expected = plain.batch(step)
        assert expected.unlabelled == {} and expected.unlabelled_cases == []
        for other in others:
            batch = other.batch(step)
            assert torch.equal(batch.labelled, expected.labelled) and torch.equal(batch.label, expected.label)
            assert batch.labelled_cases == expected.labelled_cases


@pytest.mark.parametrize("pieces", [1, 2])
def test_every_case_comes_once_an_epoch(cases, pieces):
    stream = Stream(*cases, make_plan(labelled=4, unlabelled=2), 0, IMAGE, pieces=pieces)
    batches = [stream.batch(step, piece) for step in range(35) for piece in range(pieces)]
    for names, pool in (
        ([name for batch in batches for name in batch.labelled_cases], cases[0]),
        ([name for batch in batches for name in batch.unlabelled_cases], cases[1]),
    ):
        epochs = [tuple(names[i : i + len(pool)]) for i in range(0, len(names), len(pool))]
        assert all(set(epoch) == {case.case for case in pool} for epoch in epochs)
        assert len(set(epochs)) > len(epochs) / 2  # not the same order over and over


def test_pieces_are_the_whole_batch(cases):
    one = Stream(*cases, make_plan(labelled=4, unlabelled=6), 0, IMAGE).batch(3)
    two = Stream(*cases, make_plan(labelled=4, unlabelled=6), 0, IMAGE, pieces=2)
    halves = [two.batch(3, piece) for piece in range(2)]
    assert torch.equal(one.labelled, torch.cat([half.labelled for half in halves]))
    assert torch.equal(one.unlabelled["image"], torch.cat([half.unlabelled["image"] for half in halves]))


def test_views_share_geometry_and_not_intensities(cases):
    settings = AugmentationConfig(flip=0.5, rotate90=0.5, affine=1.0, distortion=1.0, contrast=1.0)
    batch = Stream(*cases, make_plan(augmentation=settings), 0, PAIR).batch(2)
    student, teacher = batch.unlabelled["student"], batch.unlabelled["teacher"]
    for a, b in zip(student, teacher, strict=True):
        assert not torch.allclose(a, b, atol=1e-2)
        # gain and offset are all that differ: the voxels correlate exactly when they are the same ones
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] == pytest.approx(1, abs=1e-4)


def test_a_weak_view_is_the_image_itself_and_a_strong_one_is_changed_more_than_the_plans(cases):
    views = {"weak": "weak", "plan": "plan", "strong": "strong"}
    settings = AugmentationConfig(flip=0.5, rotate90=0.5, contrast=0.2, gain=0.05, offset=0.05)
    stream = Stream(*cases, make_plan(augmentation=settings, unlabelled=8), 0, views)
    untouched = Stream(
        *cases, make_plan(augmentation=settings.model_copy(update={"contrast": 0.0}), unlabelled=8), 0, IMAGE
    )
    change = {"plan": 0.0, "strong": 0.0}
    for step in range(4):
        looks = stream.batch(step).unlabelled
        assert torch.equal(looks["weak"], untouched.batch(step).unlabelled["image"])
        for name in change:
            change[name] += float((looks[name] - looks["weak"]).abs().mean())
    assert change["strong"] > 3 * change["plan"] > 0


def test_without_unlabelled_cases_views_come_from_the_labelled_images(cases):
    batch = Stream(cases[0], [], make_plan(), 0, IMAGE).batch(0)
    assert set(batch.unlabelled_cases) <= {case.case for case in cases[0]}
    assert batch.unlabelled["image"].shape == (3, 1, 16, 16)


def test_without_labelled_cases_training_cannot_start(cases):
    with refused("no-labelled-case"):
        Stream([], cases[1], make_plan(), 0, ())


def test_crops_of_image_and_label_are_the_same_box(tmp_path):
    shape = (20, 18, 33)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    case = make_case(tmp_path, "volume", image, (image[0] % 3).astype(np.uint8))
    stream = Stream([case], [], make_plan((16, 16, 16), labelled=4, augmentation=PLAIN), 0, ())
    corners = set()
    for step in range(20):
        batch = stream.batch(step)
        assert torch.equal(batch.labelled[:, 0].long() % 3, batch.label)
        for patch in batch.labelled[:, 0]:
            corner = np.unravel_index(int(patch[0, 0, 0]), shape)
            box = tuple(slice(start, start + 16) for start in corner)
            np.testing.assert_array_equal(patch, image[(0, *box)])
            corners.add(tuple(int(c) for c in corner))
    for axis, size in enumerate(shape):  # every place from the first to the last is reached
        assert {corner[axis] for corner in corners} >= {0, size - 16}


def test_foreground_crops_hold_foreground_of_every_class_alike(tmp_path):
    label = np.zeros((80, 80, 20), np.uint8)
    label[2:12, 2:12, 2:12] = 1  # a thousand voxels
    label[79, 79, 19] = 2  # one, in the very corner
    case = make_case(tmp_path, "volume", label[None].astype(np.float32), label)

    def found(foreground):
        settings = AugmentationConfig(foreground=foreground)
        stream = Stream([case], [], make_plan((16, 16, 16), labelled=1, augmentation=settings), 0, ())
        counts = Counter()
        for step in range(60):
            counts.update(set(stream.batch(step).label.unique().tolist()) - {0})
        return counts

    centred = found(1.0)
    assert centred[1] + centred[2] >= 60 and 15 <= centred[2] <= 45
    assert sum(found(0.0).values()) < 30


@pytest.mark.parametrize(("size", "forced"), [(2, 1), (3, 1), (4, 1), (6, 2)])
def test_the_last_third_of_a_labelled_half_shows_foreground(tmp_path, size, forced):
    label = np.zeros((90, 90), np.uint8)
    label[45, 45] = 1
    case = make_case(tmp_path, "lesion", label[None].astype(np.float32), label)
    plan = make_plan((16, 16), labelled=size, augmentation=AugmentationConfig(foreground=1 / 3))
    shown = torch.stack([Stream([case], [], plan, 0, ()).batch(step).label.flatten(1).amax(1) for step in range(20)])
    assert shown[:, size - forced :].all() and not shown[:, : size - forced].all()


def test_forced_foreground_comes_from_the_cases_that_have_it_each_class_alike(tmp_path):
    cases = []
    for name, value in (("empty", 0), ("often_a", 1), ("often_b", 1), ("often_c", 1), ("rare", 2)):
        label = np.zeros((16, 16), np.uint8)
        label[8, 8] = value
        cases.append(make_case(tmp_path, name, label[None].astype(np.float32), label))
    plan = make_plan((16, 16), labelled=4, augmentation=AugmentationConfig(foreground=1 / 3))
    stream = Stream(cases, [], plan, 0, ())
    seen = Counter(int(stream.batch(step).label[3].max()) for step in range(100))
    assert set(seen) == {1, 2} and 35 <= seen[2] <= 65


def test_foreground_crops_of_an_empty_label_are_random_ones(tmp_path):
    image = np.random.default_rng(0).standard_normal((1, 40, 40)).astype(np.float32)
    case = make_case(tmp_path, "empty", image, np.zeros((40, 40), np.uint8))
    plan = make_plan(augmentation=AugmentationConfig(foreground=1.0))
    assert Stream([case], [], plan, 0, ()).batch(0).label.sum() == 0


def test_small_cases_are_padded_about_their_centre(tmp_path):
    image = np.full((2, 11, 30), 5, np.float16)
    case = make_case(tmp_path, "small", image, np.full((11, 30), 2, np.uint8))
    stream = Stream([case], [case], make_plan(augmentation=PLAIN, channels=2), 0, IMAGE)
    batch = stream.batch(0)
    rows = torch.zeros(16, dtype=torch.bool)
    rows[2:13] = True
    for patches in (batch.labelled, batch.unlabelled["image"]):
        assert (patches[:, :, rows] == 5).all() and (patches[:, :, ~rows] == 0).all()
    assert (batch.label[:, rows] == 2).all() and (batch.label[:, ~rows] == 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_a_volume(tmp_path, axis):
    shape = [20, 24, 28]
    shape[axis] = 9
    place = np.broadcast_to(np.arange(9.0).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
    label = np.zeros(shape, np.uint8)
    label[tuple(6 if a == axis else slice(8, 12) for a in range(3))] = 1
    case = make_case(tmp_path, "volume", place[None].astype(np.float16), label)

    def slices(foreground):
        settings = AugmentationConfig(foreground=foreground)
        stream = Stream([case], [case], make_plan(labelled=4, augmentation=settings, slice_axis=axis), 0, IMAGE)
        batches = [stream.batch(step) for step in range(20)]
        for batch in batches:
            assert batch.labelled.shape == (4, 1, 16, 16) and batch.label.shape == (4, 16, 16)
            assert batch.unlabelled["image"].shape == (3, 1, 16, 16)
            patches = torch.cat([batch.labelled, batch.unlabelled["image"]]).flatten(1)
            assert torch.equal(patches.amin(1), patches.amax(1))
        assert {int(v) for batch in batches for v in batch.unlabelled["image"].unique()} == set(range(9))
        assert any((batch.label == 1).any() for batch in batches)
        return {int(v) for batch in batches for v in batch.labelled.unique()}

    assert slices(0.0) == set(range(9))
    assert slices(1.0) == {6}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(cases, workers):
    stream = Stream(*cases, make_plan(), 0, PAIR)
    expected = [stream.batch(step) for step in range(2, 9)]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    here = list(loader(stream, 2, 9, 0))
    elsewhere = list(loader(stream, 2, 9, workers))
    assert len(expected) == len(here) == len(elsewhere)
    assert all(same(a, b) and same(a, c) for a, b, c in zip(expected, here, elsewhere, strict=True))
    assert torch.equal(torch.get_rng_state(), state)  # a network's own draws must not shift
    cut = Stream(*cases, make_plan(labelled=4, unlabelled=4), 0, PAIR, pieces=4)
    some = list(loader(cut, 4, 6, workers, pieces=range(1, 4, 2)))
    assert all(same(a, cut.batch(*b)) for a, b in zip(some, [(4, 1), (4, 3), (5, 1), (5, 3)], strict=True))


def test_a_batch_that_cannot_be_cut_evenly_is_refused(cases):
    with refused("batch-pieces", naming=["plan.unlabelled_batch is 3", "2 equal pieces"]):
        Stream(*cases, make_plan(), 0, IMAGE, pieces=2)
    with refused("batch-pieces", naming="(--set plan.unlabelled_batch=4)"):  # the half that is uneven
        require_pieces(make_plan(), IMAGE, 2)
    Stream(*cases, make_plan(), 0, {}, pieces=2)  # without the half that is not wanted it can


def test_a_worker_leaves_stopping_to_the_main_process(cases):
    # A scheduler ends a job by a signal to all its processes; a dead worker would turn that into a traceback.
    stream = Stream(cases[0], cases[1], make_plan(), 7, IMAGE)
    batches = loader(stream, 0, 6, 1)
    assert same(next(batches), stream.batch(0))
    for worker in multiprocessing.active_children():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
    assert all(same(batch, stream.batch(step)) for step, batch in enumerate(batches, start=1))


def test_a_finished_run_has_no_batches_left(cases):
    assert list(loader(Stream(*cases, make_plan(), 0, ()), 9, 9, 0)) == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("harm", ["missing", "truncated", "empty"])
def test_a_prepared_file_that_cannot_be_read_is_named_in_one_line(tmp_path, workers, harm):
    image = np.zeros((1, 40, 40), np.float32)
    case = make_case(tmp_path, "broken", image, np.zeros((40, 40), np.uint8))
    if harm == "missing":
        case.image.unlink()
    else:
        case.image.write_bytes(case.image.read_bytes()[: 1000 if harm == "truncated" else 0])
    with refused("prepared-file-damaged", naming=case.image) as caught:
        list(loader(Stream([case], [], make_plan(), 0, ()), 0, 2, workers))
    assert "\n" not in str(caught.value)
