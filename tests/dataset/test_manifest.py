"""dataset.yaml, cases.csv, hidden.csv: what is written comes back, what is hidden stays hidden, mistakes are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks, refuse_to_replace, root_for, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError
from ucseg.scans.address import Address

HEADER = "case,subject,image,mask,split\n"


def make(folder: Path, root: str = "..") -> Dataset:
    config = DatasetConfig(
        name="liver", root=root, dims=2, modality="rgb", channels=3, classes={0: "background", 1: "liver"}
    )
    data = folder.parent
    cases = [
        Case("a", "s1", data / "images" / "a.png", data / "masks" / "a.png", "train"),
        Case("b", "s1", data / "images" / "b.png", None, "train"),
        Case("c, with comma", "s2", data / "images" / "c.png", data / "masks" / "c.png", "validation"),
        Case("d", "s3", data / "images" / "d.png", data / "masks" / "d.png", "test"),
    ]
    return Dataset(folder, config, cases)


def test_a_saved_dataset_comes_back(tmp_path: Path) -> None:
    saved = make(tmp_path / "set")
    save_dataset(saved)
    for path in (tmp_path / "set", tmp_path / "set" / "dataset.yaml"):
        loaded = load_dataset(path)
        assert loaded.cases == saved.cases
        assert loaded.config == saved.config
    assert [case.case for case in loaded.labelled] == ["a"]
    assert [case.case for case in loaded.unlabelled] == ["b"]
    assert [case.case for case in loaded.validation + loaded.test] == ["c, with comma", "d"]
    assert not list((tmp_path / "set").glob("*.part*"))


def test_paths_are_relative_to_the_root_and_move_with_it(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "old" / "set"))
    text = (tmp_path / "old" / "set" / "cases.csv").read_text()
    assert "a,s1,images/a.png,masks/a.png,train\nb,s1,images/b.png,,train\n" in text
    (tmp_path / "old").rename(tmp_path / "new")
    assert load_dataset(tmp_path / "new" / "set").cases[0].image.path == tmp_path / "new" / "images" / "a.png"


def test_the_root_is_relative_only_where_data_and_dataset_move_together(tmp_path: Path) -> None:
    assert root_for(tmp_path, tmp_path / "set") == ".."
    assert root_for(tmp_path / "set" / "data", tmp_path / "set") == "data"
    assert root_for(tmp_path / "data", tmp_path / "set") == (tmp_path / "data").as_posix()


def test_a_hidden_mask_reaches_evaluation_only(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    hidden = tmp_path / "masks" / "secret.png"
    save_dataset(dataset, {"b": Address.of(hidden)})
    loaded = load_dataset(tmp_path / "set")
    assert "secret" not in repr(loaded)
    assert "secret" not in (tmp_path / "set" / "cases.csv").read_text()
    assert {case: mask.path for case, mask in reference_masks(loaded).items()} == {
        "a": tmp_path / "masks" / "a.png",
        "b": hidden,
        "c, with comma": tmp_path / "masks" / "c.png",
        "d": tmp_path / "masks" / "d.png",
    }
    save_dataset(dataset)
    assert "b" not in reference_masks(load_dataset(tmp_path / "set")), "old hidden masks are forgotten"


def test_annotated_slices_come_back_and_belong_to_a_mask_of_a_volume(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    dataset.config = dataset.config.model_copy(update={"dims": 3})
    dataset.cases = [replace(case, slices=Slices.read("3,5:7", 0) if case.mask else None) for case in dataset.cases]
    save_dataset(dataset)
    assert load_dataset(tmp_path / "set").cases == dataset.cases
    table = tmp_path / "set" / "cases.csv"
    whole = table.read_text()
    assert '"3,5,6,7"' in whole
    table.write_text(whole.replace('"3,5,6,7"', "3-7"))
    with refused(*["slices-form"] * 3, naming=["line 2", "3-7"]):
        load_dataset(tmp_path / "set")
    table.write_text(whole)
    settings = tmp_path / "set" / "dataset.yaml"
    settings.write_text(settings.read_text().replace("dims: 3", "dims: 2"))
    with refused(*["row-slices"] * 3, naming="line 2"):
        load_dataset(tmp_path / "set")


def test_hidden_masks_of_unknown_cases_are_an_error(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"), {"nobody": Address.of(tmp_path / "m.png")})
    with refused("hidden-case", naming=["hidden.csv, line 2", "'nobody'"]):
        reference_masks(load_dataset(tmp_path / "set"))


def test_all_mistakes_of_a_table_are_named_at_once(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    (tmp_path / "set" / "cases.csv").write_text(
        HEADER
        + "a,s,i.png,,train\na,s,j.png,,train\nb,,k.png,,train\nc,s,,,train\nd,s,l.png,,testing\ne/f,s,m.png,,test\n"
    )
    kinds = ("row-twice", "row-subject", "row-image", "row-split", "row-name")
    with refused(*kinds, naming=["'a'", "line 2", "'testing'", "'e/f'"]) as caught:
        load_dataset(tmp_path / "set")
    for number, line in enumerate(str(caught.value).splitlines(), 3):
        assert line.startswith(f"{tmp_path / 'set' / 'cases.csv'}, line {number}: ")


def test_tables_saved_by_a_spreadsheet_are_read(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    table = "case;subject;image;mask;split\r\na;s;images/a.png;;train\r\n"
    (tmp_path / "set" / "cases.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert load_dataset(tmp_path / "set").cases == [Case("a", "s", tmp_path / "images" / "a.png", None, "train")]


@pytest.mark.parametrize(
    ("file", "text", "kind", "named"),
    [
        ("cases.csv", "case,subject,image,split\n", "table-column", "'mask'"),
        ("cases.csv", HEADER, "no-cases", "ucseg init"),
        ("cases.csv", None, "table-missing", "ucseg init"),
        ("cases.csv", HEADER + "\xe9,s,i.png,,train\n", "table-encoding", "UTF-8"),
        ("dataset.yaml", None, "dataset-not-made", "ucseg init"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, text: str | None, kind: str, named: str) -> None:
    save_dataset(make(tmp_path / "set"))
    broken = tmp_path / "set" / file
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text, "latin-1")
    with refused(kind, naming=[file, named]):
        load_dataset(tmp_path / "set")


def test_a_broken_dataset_yaml_is_named(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    (tmp_path / "set" / "dataset.yaml").write_text("name: [")
    with pytest.raises(UserError, match=r"dataset\.yaml.*YAML"):
        load_dataset(tmp_path / "set")


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with refused("dataset-missing", naming=[tmp_path / "set", "ucseg init"]):
        load_dataset(tmp_path / "set")
    save_dataset(make(tmp_path / "set"))
    with refused("dataset-is-file", naming=[tmp_path / "set" / "cases.csv", "dataset.yaml"]):
        load_dataset(tmp_path / "set" / "cases.csv")
    with refused("dataset-exists", naming=[tmp_path / "set", "--overwrite"]):
        refuse_to_replace(tmp_path / "set", overwrite=False)
    refuse_to_replace(tmp_path / "set", overwrite=True)


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("dims: 2", "dims: 4", "dims"),
        ("channels: 3", "chanels: 3", "'channels'"),
        ("1: liver", "2: liver", "without a gap"),
        ("1: liver", "1: background", "its own name"),
        ("modality: rgb", "modality: xray", "modality"),
        ("root: ..", "root: ../gone", "'root'"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path: Path, line: str, other: str, message: str) -> None:
    save_dataset(make(tmp_path / "set"))
    file = tmp_path / "set" / "dataset.yaml"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, other))
    with pytest.raises(UserError) as error:
        load_dataset(tmp_path / "set")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (f'a,s,"{{{"x" * 300},y}}.png",,train', "row-path"),
        (f"{'a' * 300},s,a.png,,train", "row-name"),
        (f"a,s,{'x' * 2**21},,train", "table-damaged"),
        ("a,s,a\0.png,,train", "table-damaged"),
    ],
)
def test_rows_that_no_file_system_takes_are_named(tmp_path: Path, row: str, kind: str) -> None:
    save_dataset(make(tmp_path / "set"))
    (tmp_path / "set/cases.csv").write_text(f"{HEADER}{row}\n")
    with refused(kind, naming="cases.csv") as error:
        load_dataset(tmp_path / "set")
    assert len(str(error.value)) < 1000
