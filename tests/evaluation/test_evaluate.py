"""`ucseg evaluate` from files to files: what is in the numbers, what is not, and that it says so."""

from __future__ import annotations

import csv
import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.cli.evaluate import evaluate
from ucseg.cli.main import main
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.evaluation import evaluate as evaluate_module
from ucseg.evaluation.evaluate import Settings, evaluate_folder
from ucseg.evaluation.metrics import case_metrics
from ucseg.scans.address import Address
from ucseg.types import Array

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def save(array: Array, path: Path, affine: Array = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".jpg"):
        Image.fromarray(array).save(path)
    else:
        nib.save(nib.Nifti1Image(array, affine), path)


def ball(centre: int, label: int = 1) -> Array:
    mask = np.zeros((12, 10, 8), dtype=np.uint8)
    mask[centre - 2 : centre + 3, 3:7, 2:6] = label
    return mask


def test_distances_that_are_penalties_are_reported(
    folders: tuple[Path, Path], tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    result = evaluate(*folders, out=tmp_path / "out")
    assert "2 of 10" in dict(said)["distances-are-penalties"] and "33.47 mm" in dict(said)["distances-are-penalties"]
    assert repr(result) == f"<Evaluation: 5 cases, mean Dice {result.mean():.3f}, 0 failed, 0 missing>"
    said.clear()
    evaluate(folders[1], folders[1], out=tmp_path / "same")
    assert "distances-are-penalties" not in dict(said)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Five cases: good, off by one, one class missed, one class invented, and one class that nobody has."""
    both = ball(3) + ball(9, label=2)
    predicted = {"a": both, "b": ball(4) + ball(9, label=2), "c": ball(3), "d": both, "e": ball(3)}
    true = {"a": both, "b": both, "c": both, "d": ball(3), "e": ball(4)}
    for case in "abcde":
        save(predicted[case], tmp_path / "p" / f"{case}.nii.gz")
        save(true[case], tmp_path / "r" / f"{case}_seg.nii.gz")
    return tmp_path / "p", tmp_path / "r"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_the_files_hold_every_case_and_what_the_means_are_made_of(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = evaluate(*folders, out=tmp_path / "out", classes="1=organ,2=lesion")
    rows = table(tmp_path / "out")
    assert [(row["case"], row["name"], row["status"]) for row in rows if row["status"] != "ok"] == [
        ("c", "lesion", "missed"),
        ("d", "lesion", "false positive"),
        ("e", "lesion", "both empty"),
    ]
    diagonal = float(np.linalg.norm([12, 20, 24]))
    assert float(rows[5]["hd95"]) == pytest.approx(diagonal, rel=1e-4)
    assert {row["unit"] for row in rows} == {"mm"}
    lesion = [float(row["dice"]) for row in rows if row["name"] == "lesion" and row["dice"]]
    organ = [float(row["dice"]) for row in rows if row["name"] == "organ"]
    assert sorted(lesion) == [0, 0, 1, 1]
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    by_class = {one["name"]: one for one in content["by_class"]}
    assert by_class["lesion"]["metrics"]["dice"]["mean"] == pytest.approx(0.5)
    assert [by_class["lesion"][key] for key in ("evaluated", "missed", "false_positives", "both_empty")] == [5, 1, 1, 1]
    assert by_class["lesion"]["metrics"]["dice"]["cases"] == 4
    overall = content["all"]["metrics"]["dice"]
    assert overall["mean"] == pytest.approx((0.5 + np.mean(organ)) / 2, rel=1e-5)
    assert overall["low"] < overall["mean"] < overall["high"]
    assert (content["unit"], content["cases"], content["settings"]["tolerance"]) == ("mm", 5, 2.0)
    assert result.mean("dice") == overall["mean"]
    assert result.case_means("dice")["c"] == pytest.approx(0.5)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cases.csv", "metrics.json"]


def test_the_command_it_notes_repeats_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluate(*folders, out=tmp_path / "an out", classes="1=organ,2=big lesion", tolerance=1.5, seed=3)
    first = (tmp_path / "an out" / "metrics.json").read_text()
    program, *words = shlex.split(json.loads(first)["command"])
    (tmp_path / "an out" / "metrics.json").unlink()
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert (program, exit_.value.code) == ("ucseg", 0)
    assert (tmp_path / "an out" / "metrics.json").read_text() == first


def test_threads_change_nothing(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    one = evaluate_folder(*folders, workers=1, report=lambda done, total: seen.append((done, total)))
    four = evaluate_folder(*folders, workers=4)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert repr(one.cases) == repr(four.cases)
    assert repr(one.overall) == repr(four.overall)


def test_classes_that_nobody_named_are_those_that_occur_anywhere(folders: tuple[Path, Path]) -> None:
    result = evaluate_folder(*folders)
    assert result.classes == {1: "class 1", 2: "class 2"}
    statuses = {case.case: [row["status"] for row in case.rows] for case in result.cases}
    assert statuses["e"] == ["ok", "both empty"]


def test_a_broken_case_is_named_and_the_others_go_on(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, references = folders
    moved = AFFINE.copy()
    moved[0, 3] = 5.0
    save(ball(3), predictions / "a.nii.gz", moved)
    save(ball(3)[:, :, :5], predictions / "b.nii.gz")
    save(np.where(ball(3) > 0, 0.5, 0.0).astype(np.float32), predictions / "c.nii.gz")
    whole = (references / "d_seg.nii.gz").read_bytes()
    (references / "d_seg.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", str(predictions), str(references), "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    a, b, c, d, counts = (line.removeprefix("ucseg: ") for line in capsys.readouterr().err.splitlines()[-5:])
    for line, values in (
        (a, ["a.nii.gz", "a_seg.nii.gz", "5 mm away"]),
        (b, ["b.nii.gz", "b_seg.nii.gz", "12 x 10 x 5", "12 x 10 x 8"]),
        (c, ["c.nii.gz", "fractions"]),
        (d, ["d_seg.nii.gz"]),
        (counts, ["4 of 5 cases"]),
    ):
        assert all(value in line for value in values), line
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sorted(content["failed"]) == ["a", "b", "c", "d"]
    assert content["cases"] == 1
    rows = table(tmp_path / "out")
    assert [row["status"] for row in rows if row["case"] != "e"] == ["failed"] * 4
    assert all(row["note"] for row in rows if row["status"] == "failed")


def test_memory_that_runs_out_costs_one_case(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a runtime says so with an error of no kind of Python's."""
    compared, lacking = evaluate_module._compare, type("Fail", (Exception,), {"__module__": "onnxruntime.capi"})

    def compare(pair: Any, *further: Any) -> Any:
        if pair.reference.case == "b":
            raise lacking("Failed to allocate memory for requested buffer of size 9")
        return compared(pair, *further)

    monkeypatch.setattr(evaluate_module, "_compare", compare)
    result = evaluate_folder(*folders)
    assert list(result.failed) == ["b"] and len(result.cases) == 4
    assert "b_seg.nii.gz" in result.failed["b"] and "memory" in result.failed["b"]


def test_when_no_case_can_be_compared_nothing_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    for file in predictions.iterdir():
        save(ball(3)[1:], file)
    with refused("no-case-evaluated", *["grids-differ"] * 5, naming=[f"{case}.nii.gz" for case in "abcde"]):
        evaluate(predictions, references, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_reads_masks_its_own_way_and_misses_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[tuple[str, str]]
) -> None:
    """Lossy grey masks twice the image's size; one test case without prediction; one training mask hidden."""
    rng = np.random.default_rng(0)
    cases, truth = [], {}
    for name, split in (("a", "test"), ("b", "test"), ("c", "train"), ("d", "test")):
        mask = np.zeros((16, 20), dtype=np.uint8)
        mask[4:12, 5 : 14 + len(cases)] = 1
        truth[name] = mask
        grey = np.kron(mask, np.ones((2, 2))) * 215 + rng.integers(0, 30, size=(32, 40))
        save(grey.astype(np.uint8), tmp_path / "data" / f"{name}_segmentation.png")
        save(rng.integers(0, 255, size=(16, 20, 3), dtype=np.uint8), tmp_path / "data" / f"{name}.png")
        hidden = name == "c"
        cases.append(
            Case(
                name,
                f"subject {name}",
                tmp_path / "data" / f"{name}.png",
                None if hidden else tmp_path / "data" / f"{name}_segmentation.png",
                split,
            )
        )
        if name != "b":
            save(np.roll(mask, 1, axis=0), tmp_path / "p" / f"{name}.png")
    config = DatasetConfig(
        name="toy", root=str(tmp_path / "data"), dims=2, modality="rgb", channels=3, mask_threshold=127.0,
        classes={0: "background", 1: "spot"},
    )  # fmt: skip
    save_dataset(Dataset(tmp_path / "d", config, cases), {"c": Address.of(tmp_path / "data" / "c_segmentation.png")})
    result = evaluate(tmp_path / "p", tmp_path / "d", out=tmp_path / "out")
    assert (result.unit, result.missing, [case.case for case in result.cases]) == ("px", ["b"], ["a", "d"])
    for case in result.cases:
        expected = case_metrics(np.roll(truth[case.case], 1, axis=0), truth[case.case], {1: "spot"}, (1.0, 1.0))
        assert case.rows == expected
    assert [(row["case"], row["status"]) for row in table(tmp_path / "out")] == [
        ("a", "ok"),
        ("d", "ok"),
        ("b", "no prediction"),
    ]
    assert "1 (b)" in dict(said)["missing-predictions"]
    assert "distances in px" in capsys.readouterr().out
    training = evaluate(tmp_path / "p", tmp_path / "d", out=tmp_path / "training", split="train")
    assert [case.case for case in training.cases] == ["c"]
    with refused("option-of-dataset", naming="--classes"):
        evaluate(tmp_path / "p", tmp_path / "d", out=tmp_path / "other", classes="1=spot")


def test_masks_without_any_class_are_reported(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    for folder in ("p", "r"):
        save(0 * ball(3, 1), tmp_path / folder / "a.nii.gz")
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    assert "nothing to measure" in dict(said)["nothing-measured"]
    said.clear()
    save(ball(3, 1), tmp_path / "p" / "a.nii.gz")
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out", overwrite=True)
    assert "nothing-measured" not in dict(said)


def test_masks_that_share_no_number_are_reported(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    for case, predicted, true in (("a", 1, 2), ("b", 1, 4)):
        save(ball(3, predicted), tmp_path / "p" / f"{case}.nii.gz")
        save(ball(3, true), tmp_path / "r" / f"{case}.nii.gz")
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    assert "class 2, 4, the" in dict(said)["labels-apart"]
    assert "class 1, so" in dict(said)["labels-apart"]
    said.clear()
    save(ball(6, 1), tmp_path / "r" / "b.nii.gz")  # one number is in both now, wherever it lies
    save(ball(3, 3), tmp_path / "p" / "b.nii.gz")
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out", overwrite=True)
    assert "labels-apart" not in dict(said)


def test_masks_from_a_paint_program_are_black_and_white_and_photographs_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((16, 20), dtype=np.uint8)
    mask[4:12, 5:14] = 255
    save(mask, tmp_path / "r" / "a.png")
    save(mask // 255, tmp_path / "p" / "a.png")
    assert evaluate_folder(tmp_path / "p", tmp_path / "r").mean("dice") == 1.0
    save(np.arange(320, dtype=np.uint16).reshape(16, 20).astype(np.uint8), tmp_path / "r" / "a.png")
    with refused("no-case-evaluated", "picture-not-mask", naming=["a.png", "'ucseg init'"]):
        evaluate_folder(tmp_path / "p", tmp_path / "r")


def test_lossy_references_are_cut_at_a_threshold(tmp_path: Path) -> None:
    mask = np.zeros((32, 40), dtype=np.uint8)
    mask[8:24, 10:28] = 255
    save(mask // 255, tmp_path / "p" / "a.png")
    noise = np.random.default_rng(0).integers(0, 60, mask.shape)  # as that of JPEG, with a known right answer
    save(np.abs(mask.astype(int) - noise).astype(np.uint8), tmp_path / "r" / "a.png")
    with refused("no-case-evaluated", "picture-not-mask", naming="--mask-threshold 127"):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out", mask_threshold=127).mean("dice") == 1.0
    with refused("references-below-threshold", naming=["r", "255"]):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "other", mask_threshold=255)
    assert not (tmp_path / "other").exists()
    with refused("threshold-number"):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "other", mask_threshold=float("nan"))


def test_scans_with_and_without_spacing_share_no_mean_distance(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for folder in folders:
        save(ball(3)[:, :, 3], folder / "flat.png")
    result = evaluate_folder(predictions, references, Settings(classes={1: "organ", 2: "lesion"}))
    assert result.unit == "mixed"
    assert np.isnan(result.mean("hd95"))
    assert result.mean("dice") > 0.5


def test_undefined_figures_are_null_and_not_a_word_that_json_does_not_know(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, reference = folders[0] / "e.nii.gz", folders[1] / "e_seg.nii.gz"
    evaluate(prediction, reference, out=tmp_path / "out", classes="organ,lesion")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    content = json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=refuse)
    organ, lesion = content["by_class"]
    assert lesion["metrics"]["dice"] == {"mean": None, "low": None, "high": None, "cases": 0}
    assert organ["metrics"]["dice"]["mean"] == content["all"]["metrics"]["dice"]["mean"] > 0.5
    assert organ["metrics"]["dice"]["low"] is None  # one subject has no interval
    assert "undefined" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "code", "named"),
    [
        ({"classes": "1=organ,lesion"}, None, "1=organ,lesion"),
        ({"classes": "1=a,1=b"}, None, "'1'"),
        ({"classes": "0=background"}, "classes-background", "0=background"),
        ({"classes": "0=cup,128=disc,255=background"}, "classes-background", "ucseg init --classes 0=cup"),
        ({"classes": "1=organ,3=cyst"}, "cases-failed", "a.nii.gz: holds values"),
        ({"tolerance": -1.0}, "tolerance", "-1.0"),
        ({"tolerance": float("nan")}, "tolerance", "nan"),
        ({"tolerance": float("inf")}, "tolerance", "inf"),
        ({"subject": "("}, None, "'('"),
    ],
)
def test_wrong_options_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, option: dict[str, object], code: str | None, named: str
) -> None:
    with pytest.raises(UserError) as error:
        evaluate(*folders, out=tmp_path / "out", **option)  # type: ignore[arg-type]
    assert named in str(error.value)
    assert code in (None, *error.value.codes)


def test_a_table_that_is_there_already_and_not_its_own_is_never_overwritten(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for out in folders:
        with refused("evaluation-out-taken", naming=[out, "--out"]):
            evaluate(predictions, references, out=out)
    (predictions.parent / "run").mkdir()
    (predictions.parent / "run" / "config.json").touch()
    with refused("evaluation-out-taken", naming=[predictions.parent / "run", "--out"]):
        evaluate(predictions, references, out=predictions.parent / "run")


def test_an_evaluation_is_replaced_on_request_only(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(*folders, out=tmp_path / "out", classes="1=organ,2=lesion")
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    capsys.readouterr()
    with refused("evaluation-exists", naming=[tmp_path / "out", "--overwrite"]):
        evaluate(*folders, out=tmp_path / "out", classes="1=one,2=two")
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    assert "evaluating" not in capsys.readouterr().err  # no bar of work that never began
    evaluate(*folders, out=tmp_path / "out", classes="1=one,2=two", overwrite=True)
    assert table(tmp_path / "out")[0]["name"] == "one"


@pytest.mark.real
def test_real_masks_against_themselves_moved_by_a_voxel(shared_data: Path, tmp_path: Path) -> None:
    labels = shared_data / "hippocampus" / "labels"
    for file in sorted(labels.glob("hippocampus_00*.nii.gz")):
        image = nib.load(file)
        moved = np.roll(np.asarray(image.dataobj), 1, axis=1)
        nib.save(nib.Nifti1Image(moved.astype(np.uint8), image.affine, image.header), tmp_path / file.name)
    result = evaluate(tmp_path, labels, out=tmp_path / "out", classes="1=anterior,2=posterior")
    assert not result.failed
    assert len(result.cases) == len(list(tmp_path.glob("*.nii.gz"))) > 3
    for case in result.cases:
        for row in case.rows:
            # A shift by one voxel of 1 mm moves no surface by more than that.
            assert row["hd95"] == 1.0
            assert 0.1 < row["assd"] < 0.6
            assert row["surface_dice"] == 1.0
            assert 0.7 < row["dice"] < 0.95


@pytest.mark.real
def test_a_real_mask_beside_its_image_is_found(shared_data: Path, tmp_path: Path) -> None:
    """Dermoscopy: the mask is larger than its image, and `ucseg predict` leaves masks on the image's grid."""
    images = sorted((shared_data / "isic").rglob("*.jpg"))[:3]
    masks = {image: next((shared_data / "isic").rglob(f"{image.stem}_segmentation.png")) for image in images}
    cases = [Case(image.stem, image.stem, image, masks[image], "test") for image in images]
    config = DatasetConfig(
        name="isic", root=str(shared_data / "isic"), dims=2, modality="rgb", channels=3, mask_threshold=127.0,
        classes={0: "background", 1: "lesion"},
    )  # fmt: skip
    save_dataset(Dataset(tmp_path / "d", config, cases))
    for image in images:
        small = Image.open(masks[image]).resize(Image.open(image).size, Image.Resampling.NEAREST)
        save((np.asarray(small) > 127).astype(np.uint8), tmp_path / "p" / f"{image.stem}.png")
    result = evaluate(tmp_path / "p", tmp_path / "d", out=tmp_path / "out")
    assert (len(result.cases), result.unit) == (3, "px")
    assert result.mean("dice") > 0.99
    assert result.mean("hd95") <= 1.0


def test_classes_matched_by_number_are_noted(
    folders: tuple[Path, Path], tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    evaluate(*folders, out=tmp_path / "one")
    assert "classes-by-number" in dict(said)
    said.clear()
    evaluate(*folders, out=tmp_path / "two", classes="1=organ,2=lesion")
    assert "classes-by-number" not in dict(said)


def test_numbers_that_can_mean_nothing_else_need_no_note(
    folders: tuple[Path, Path], tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    """One class without a name on either side. Of several, also of those that predict named, references may differ."""
    save(ball(3), tmp_path / "one" / "e.nii.gz")
    evaluate(tmp_path / "one", folders[1], out=tmp_path / "single")
    assert "classes-by-number" not in dict(said)
    about = {"classes": {"0": "background", "1": "organ", "2": "lesion"}}
    (folders[0] / "prediction.json").write_text(json.dumps(about))
    assert evaluate(*folders, out=tmp_path / "named").classes == {1: "organ", 2: "lesion"}
    assert "classes-by-number" in dict(said)


def test_a_reference_that_lies_elsewhere_than_its_image_is_not_compared(tmp_path: Path) -> None:
    """A perfect prediction on the image's grid would get Dice 0."""
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = ball(3).shape[0] - 1
    for name, array, affine in (
        ("images/a", ball(3).astype(np.float32), AFFINE),
        ("masks/a", ball(3)[::-1].copy(), AFFINE @ flip),
        ("p/a", ball(3), AFFINE),
    ):
        save(array, tmp_path / f"{name}.nii.gz", affine)
    classes = {0: "background", 1: "organ"}
    config = DatasetConfig(name="d", root=".", dims=3, modality="mri", channels=1, classes=classes)
    case = Case("a", "a", tmp_path / "images/a.nii.gz", tmp_path / "masks/a.nii.gz", "test")
    save_dataset(Dataset(tmp_path, config, [case]))
    with refused("no-case-evaluated", "geometry-differs", naming="masks/a.nii.gz"):
        evaluate_folder(tmp_path / "p", tmp_path)


def test_predictions_whose_values_mean_other_classes_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Numbers that agree are no proof: the names of one side were corrected, or its classes were put in order."""
    save(ball(3).astype(np.float32), tmp_path / "i/a.nii.gz")
    cases = [Case("a", "a", tmp_path / "i/a.nii.gz", folders[1] / "a_seg.nii.gz", "test")]
    config = DatasetConfig(
        name="d", root=str(tmp_path), dims=3, modality="mri", channels=1,
        classes={0: "background", 1: "organ", 2: "lesion"},
    )  # fmt: skip
    save_dataset(Dataset(tmp_path / "dataset", config, cases))
    note = folders[0] / "prediction.json"
    note.write_text(json.dumps({"classes": {"0": "background", "1": "lesion", "2": "organ"}}))
    with refused("classes-of-other-model", naming=[folders[0], "class 1", "'lesion'", "'organ'", "dataset"]):
        evaluate_folder(folders[0], tmp_path / "dataset")
    note.write_text(json.dumps({"classes": {"0": "background", "1": "organ", "2": "lesion"}}))
    assert evaluate_folder(folders[0], tmp_path / "dataset").mean("dice") == 1


def test_predicted_class_numbers_are_matched_with_the_values_of_references_by_name(tmp_path: Path) -> None:
    truth = np.stack([np.eye(8, dtype=np.uint8), 2 * np.eye(8, dtype=np.uint8)[::-1]]).max(axis=0)
    for folder, array in (("predictions", truth), ("references", np.array([0, 128, 255], np.uint8)[truth])):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    names = {"0": "background", "1": "disc", "2": "cup"}
    (tmp_path / "predictions/prediction.json").write_text(json.dumps({"classes": names}))
    settings = Settings(classes={0: "background", 128: "disc", 255: "cup"})
    found = evaluate_folder(tmp_path / "predictions", tmp_path / "references", settings)
    assert [row["dice"] for row in found.cases[0].rows if row["label"]] == [1, 1]


def test_the_subjects_of_two_folders_are_said(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    for case in ("lea_slice_1", "lea_slice_2", "tom_slice_1"):
        save(ball(3), tmp_path / "p" / f"{case}.nii.gz")
        save(ball(3), tmp_path / "r" / f"{case}.nii.gz")
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    (text,) = [text for kind, text in said if kind == "subjects"]
    assert text.startswith("2 subjects")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["subjects"] == 2
    assert content["subject_rule"] in text


def test_references_like_the_masks_of_training_are_read_like_them(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    """Training masks held 2 and 3, which are classes 1 and 2, and 255, which is not annotated."""
    for case in "ab":
        predicted = ball(3) + ball(9, label=2)
        true = np.array([0, 2, 3], np.uint8)[predicted]
        true[0] = 255
        predicted[0, 0, 0] = 1  # wrong, where nothing is known
        save(predicted, tmp_path / "p" / f"{case}.nii.gz")
        save(true, tmp_path / "r" / f"{case}.nii.gz")
    about = {"classes": {0: "background", 1: "organ", 2: "lesion"}, "values": {2: 1, 3: 2}, "not_annotated": [255]}
    (tmp_path / "p/prediction.json").write_text(json.dumps(about))
    result = evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    assert result.classes == {1: "organ", 2: "lesion"} and result.mean("dice") == 1
    text = dict(said)["references-as-in-training"]
    assert all(part in text for part in ("2 is class 1", "3 is class 2", "255 is not annotated"))
    assert "classes-by-number" not in dict(said)
    single = evaluate(tmp_path / "p/a.nii.gz", tmp_path / "r/a.nii.gz", out=tmp_path / "single")
    assert single.classes == {1: "organ", 2: "lesion"} and single.mean("dice") == 1

    whole = np.array([0, 255], np.uint8)[np.minimum(ball(3), 1)]  # 255 is the one class of another source
    save(whole, tmp_path / "white" / "a.nii.gz")
    assert [
        row["status"] for row in evaluate(tmp_path / "p", tmp_path / "white", out=tmp_path / "w").cases[0].rows
    ] == [
        "ok",
        "false positive",
    ]

    for case in "ab":  # class indices: of another source
        save(ball(3) + ball(9, label=2), tmp_path / "r" / f"{case}.nii.gz")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "other").mean("dice") > 0.98
    save(ball(3, label=2) + ball(9, label=3), tmp_path / "named" / "a.nii.gz")
    found = evaluate(tmp_path / "p", tmp_path / "named", out=tmp_path / "by-name", classes="2=organ,3=lesion")
    assert found.mean("dice") > 0.98 and found.classes == {2: "organ", 3: "lesion"}


def test_the_file_knows_what_it_was_made_of(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions = folders[0]
    about = {"run": "/runs/one", "weights": "abc", "classes": {"0": "background", "1": "organ", "2": "lesion"}}
    (predictions / "prediction.json").write_text(json.dumps(about))
    first = evaluate(*folders, out=tmp_path / "first").provenance["made_of"]
    assert json.loads((tmp_path / "first" / "metrics.json").read_text())["made_of"] == first
    assert (first["run"], first["weights"]) == ("/runs/one", "abc")
    save(ball(5) + ball(10, label=2), predictions / "a.nii.gz")
    second = evaluate(*folders, out=tmp_path / "second").provenance["made_of"]
    assert second["references"] == first["references"]
    assert second["predictions"] != first["predictions"]


def test_numbers_that_the_predictions_explain_need_no_note(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    """The reference names its segments, and prediction.json those of the predictions."""
    save(ball(3), tmp_path / "p" / "a.nii.gz")
    segments = "Segment0_Name:=organ\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
    write_segments(tmp_path / "r" / "a.seg.nrrd", ball(3), segments)
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "first")
    assert "classes-by-number" in dict(said)
    said.clear()
    about = {"run": "r", "weights": "w", "classes": {"0": "background", "1": "organ"}}
    (tmp_path / "p" / "prediction.json").write_text(json.dumps(about))
    evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "second")
    assert "classes-by-number" not in dict(said)


def write_segments(path: Path, array: Array, segments: str) -> None:
    """A segmentation as 3D Slicer writes it, on the grid of `AFFINE`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = " ".join(map(str, array.shape))
    head = (
        f"NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        "space directions: (-1,0,0) (0,-2,0) (0,0,3)\nkinds: domain domain domain\nencoding: gzip\n"
        f"space origin: (0,0,0)\n{segments}\n"
    )
    path.write_bytes(head.encode() + gzip.compress(array.astype(np.uint8).tobytes(order="F")))


def test_a_scan_is_no_reference(tmp_path: Path) -> None:
    """Its values are no classes, however many there are."""
    save(ball(3), tmp_path / "p" / "a.nii.gz")
    save(np.random.default_rng(0).normal(90, 20, ball(3).shape).clip(0, 255).astype(np.uint8), tmp_path / "r/a.nii.gz")
    with refused("no-case-evaluated", "picture-not-mask", naming="a.nii.gz"):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
    parcels = np.add.outer(np.add.outer(np.arange(12) // 3 * 16, np.arange(10) // 3 * 4), np.arange(8) // 2) + 1
    save(parcels.astype(np.uint8), tmp_path / "p" / "a.nii.gz")
    save(parcels.astype(np.uint8), tmp_path / "r" / "a.nii.gz")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out").mean("dice") == 1  # 64 small structures


def test_drawn_references_need_a_dataset(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    save(picture, tmp_path / "r" / "a.png")
    save((picture > 128).astype(np.uint8), tmp_path / "p" / "a.png")
    shapes = [{"label": "cell", "points": [[3, 3], [20, 3], [20, 20]], "shape_type": "polygon"}]
    (tmp_path / "r" / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    with refused("no-case-evaluated", "picture-not-mask", naming=["a.json", f"ucseg init {tmp_path / 'r'}"]):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "out")
