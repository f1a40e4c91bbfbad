"""dataset.yaml, cases.csv, hidden.csv: what is written comes back, what is hidden stays hidden, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks, root_for, save_dataset
from ucseg.dataset.settings import DatasetConfig
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
    assert "b" not in reference_masks(load_dataset(tmp_path / "set")), (
        "a dataset written anew keeps no old hidden masks"
    )


def test_hidden_masks_of_unknown_cases_are_an_error(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"), {"nobody": Address.of(tmp_path / "m.png")})
    with pytest.raises(UserError, match=r"hidden\.csv, line 2: case 'nobody' is not in cases\.csv"):
        reference_masks(load_dataset(tmp_path / "set"))


def test_all_mistakes_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    (tmp_path / "set" / "cases.csv").write_text(
        HEADER
        + "a,s,i.png,,train\na,s,j.png,,train\nb,,k.png,,train\nc,s,,,train\nd,s,l.png,,testing\ne/f,s,m.png,,test\n"
    )
    with pytest.raises(UserError) as error:
        load_dataset(tmp_path / "set")
    lines = str(error.value).splitlines()
    expected = [
        "line 3: case 'a' is also in line 2",
        "line 4: the subject is empty",
        "line 5: the image is empty",
        "line 6: split 'testing' is not one of train, validation, test",
        "line 7: case 'e/f' cannot name files",
    ]
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected, strict=True):
        assert words in line


def test_tables_saved_by_a_spreadsheet_are_read(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    table = "case;subject;image;mask;split\r\na;s;images/a.png;;train\r\n"
    (tmp_path / "set" / "cases.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert load_dataset(tmp_path / "set").cases == [Case("a", "s", tmp_path / "images" / "a.png", None, "train")]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("cases.csv", "case,subject,image,split\n", "column 'mask' is missing"),
        ("cases.csv", HEADER, "there are no cases in it"),
        ("cases.csv", None, "there is no such file"),
        ("dataset.yaml", None, "no dataset.yaml here; if these are scans, make a dataset of them first: ucseg init"),
        ("dataset.yaml", "name: [", "not valid YAML"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    save_dataset(make(tmp_path / "set"))
    broken = tmp_path / "set" / file
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    with pytest.raises(UserError, match="set") as error:
        load_dataset(tmp_path / "set")
    assert message in str(error.value)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    save_dataset(make(tmp_path / "set"))
    with pytest.raises(UserError, match=r"cases\.csv: this is a file; give the folder of the dataset"):
        load_dataset(tmp_path / "set" / "cases.csv")
    assert load_dataset(tmp_path / "set" / "dataset.yaml").cases


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("dims: 2", "dims: 4", "dims"),
        ("channels: 3", "chanels: 3", "did you mean 'channels'"),
        ("1: liver", "2: liver", "without a gap"),
        ("1: liver", "1: background", "a name of its own"),
        ("modality: rgb", "modality: xray", "modality"),
        ("root: ..", "root: ../gone", "mend 'root' to where the scans now are"),
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
