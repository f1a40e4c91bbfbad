"""`ucseg init --overwrite` keeps what came back from experts, or says what it cannot keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ucseg
from refusals import refused
from small_scans import blob, label, picture, save, volume
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.scans.reading import read_scan
from ucseg.serving.labels import FINAL, Labels

Said = list[tuple[str, str]]


def again(data: Path, modality: str = "other", labelled: str | None = None) -> Dataset:
    scans = data.parent / "scans"
    return ucseg.init(scans, out=data, validation="0", test="0", overwrite=True, modality=modality, labelled=labelled)


def masks_of(dataset: Dataset) -> dict[str, Path]:
    return {case.case: case.mask.path for case in dataset.cases if case.mask is not None}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of six pictures, a and b have a mask in their folder; c and d one of `add-masks`, e one of `serve`."""
    for name in "abcdef":
        picture(tmp_path / "scans" / "images" / f"{name}.png")
    for name in "ab":
        save(tmp_path / "scans" / "masks" / f"{name}.png", blob(255))
    folder = tmp_path / "data"
    again(folder)
    for number, name in enumerate("cd"):
        save(tmp_path / "done" / f"{name}.png", blob(255, number))
    ucseg.add_masks(folder, tmp_path / "done")
    dataset = load_dataset(folder)
    case = next(case for case in dataset.cases if case.case == "e")
    labels = Labels(folder)
    labels.save(case, blob(), read_scan(case.image), dataset.config, {"tag": FINAL})
    labels.close()
    return folder


def test_masks_of_experts_stay(data: Path, said: Said) -> None:
    before = masks_of(load_dataset(data))
    assert set(before) == set("abcde")
    assert masks_of(again(data, modality="ultrasound")) == before
    written = load_dataset(data)
    assert masks_of(written) == before and written.config.modality == "ultrasound"
    assert "(c, d, e)" in dict(said)["masks-kept"]
    assert "masks-not-kept" not in dict(said) and not list(data.glob("cases.before*"))


def test_an_expert_s_mask_counts_more_than_that_of_the_folder(data: Path) -> None:
    save(data.parent / "new" / "a.png", blob(255, 3))
    ucseg.add_masks(data, data.parent / "new", overwrite=True)
    kept = again(data, labelled="1")
    assert masks_of(kept)["a"] == data.parent / "new" / "a.png"
    assert masks_of(kept).keys() >= set("acde"), "what came back is shown, whatever is hidden"


def test_what_is_lost_is_named_and_the_old_table_stays(data: Path, said: Said) -> None:
    table = (data / "cases.csv").read_bytes()
    (data.parent / "scans" / "images" / "c.png").unlink()
    (data.parent / "done" / "d.png").unlink()
    assert set(masks_of(again(data))) == set("abe")
    assert "(e)" in dict(said)["masks-kept"]
    lost, copy = dict(said)["masks-not-kept"], data / "cases.before.1.csv"
    assert "(c)" in lost and "(d)" in lost and str(copy) in lost
    assert copy.read_bytes() == table
    again(data)
    assert not (data / "cases.before.2.csv").exists()


def test_other_scans_of_the_same_names_do_not_get_them(data: Path, said: Said) -> None:
    for name in "abcdef":
        picture(data.parent / "others" / "images" / f"{name}.png", seed=1)
    for name in "ab":
        save(data.parent / "others" / "masks" / f"{name}.png", blob(255))
    kept = ucseg.init(data.parent / "others", out=data, validation="0", test="0", overwrite=True, modality="other")
    assert set(masks_of(kept)) == set("ab") and "(c, d, e)" in dict(said)["masks-not-kept"]
    assert (data / "cases.before.1.csv").is_file()


def test_scans_that_were_moved_are_the_same(data: Path) -> None:
    moved = (data.parent / "scans").rename(data.parent / "moved")
    kept = ucseg.init(moved, out=data, validation="0", test="0", overwrite=True, modality="other")
    assert set(masks_of(kept)) == set("abcde")


def test_masks_that_no_longer_fit_are_refused(data: Path) -> None:
    table = (data / "cases.csv").read_bytes()
    for name in "ab":
        save(data.parent / "scans" / "masks" / f"{name}.png", np.maximum(blob(2), blob(1, 6)))
    with refused(*3 * ["mask-not-classes"], "kept-mask", naming=["c.png", "e.v0001.png", data / "cases.csv"]):
        again(data)
    assert (data / "cases.csv").read_bytes() == table


def test_a_table_that_cannot_be_read_is_copied(data: Path, said: Said) -> None:
    (data / "cases.csv").write_text("case,image\n")
    assert set(masks_of(again(data))) == set("ab")
    assert (data / "cases.before.1.csv").read_text() == "case,image\n"
    assert str(data / "cases.before.1.csv") in dict(said)["masks-not-kept"]


def test_labelled_slices_stay(tmp_path: Path, said: Said) -> None:
    for name in "abcd":
        volume(tmp_path / "scans" / "images" / f"{name}.nii.gz")
    volume(tmp_path / "scans" / "masks" / "a.nii.gz", label())
    volume(tmp_path / "done" / "b.nii.gz", label())
    data = tmp_path / "data"
    again(data)
    ucseg.add_masks(data, tmp_path / "done")
    table = data / "cases.csv"
    header, *lines = table.read_text().splitlines()
    numbers = {"a": ',"i 2,5"', "b": ',"3,4,7"'}
    table.write_text("\n".join([f"{header},labelled_slices", *(line + numbers.get(line[0], ",") for line in lines)]))
    before = load_dataset(data).cases
    assert [case.slices is not None for case in before] == [True, True, False, False]
    assert again(data).cases == before == load_dataset(data).cases
    assert "labelled_slices of 2 cases (" in dict(said)["masks-kept"]
    (tmp_path / "scans" / "masks").rename(tmp_path / "scans" / "labels")
    assert again(data).cases[0].slices is None
    assert "(a)" in dict(said)["masks-not-kept"] and (data / "cases.before.1.csv").is_file()
