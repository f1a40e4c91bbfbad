"""The words of a grid: what is compared, in which order, and what is refused."""

from __future__ import annotations

import pytest

from ucseg.comparison.grid import (
    Cell,
    Variant,
    cells,
    check_common,
    check_settings,
    file_name,
    parse_variants,
    split_list,
)
from ucseg.errors import UserError


def test_lists_are_split_at_commas_outside_brackets() -> None:
    assert split_list("uc_seg, supervised:method.networks=[unet,vnet]") == [
        "uc_seg", "supervised:method.networks=[unet,vnet]",
    ]  # fmt: skip
    assert split_list(["5%,10%", "20%"]) == ["5%", "10%", "20%"]


def test_a_variant_has_its_settings_and_the_baseline_is_always_there() -> None:
    variants, problems = parse_variants(["uc_seg", "uc_seg:method.mixing=false:lr=0.02", "uc_seg"])
    assert problems == []
    assert [one.text for one in variants] == ["supervised", "uc_seg", "uc_seg:method.mixing=false:lr=0.02"]
    assert variants[2].settings == ("method.mixing=false", "lr=0.02")
    assert check_settings(variants[2], ["lr=0.03"]).lr == 0.02  # its own wins
    assert check_settings(variants[1], ["lr=0.03"]).lr == 0.03


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("uc_sge", "there is no method 'uc_sge'; did you mean 'uc_seg'"),
        ("uc_seg:method.mixin=false", "unknown setting 'mixin'; did you mean 'mixing'"),
        ("uc_seg:mixing=false", "write --set method.mixing="),
        ("uc_seg:mixing", "not of the form key=value"),
        ("uc_seg:lr=fast", "'lr' = 'fast'"),
        ("uc_seg:steps=3", "must be the same for all"),
        ("uc_seg:plan.patch=32", "must be the same for all"),
    ],
)
def test_a_wrong_variant_is_named_and_the_others_are_read(text: str, complaint: str) -> None:
    variants, problems = parse_variants(["mean_teacher", text])
    assert [one.text for one in variants] == ["supervised", "mean_teacher"]
    assert len(problems) == 1
    assert problems[0].startswith(f"variant '{text}': ")
    assert complaint in problems[0]


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("plan.patch=32", "ucseg plan DATASET"),
        ("method.mixing=false", "--variants uc_seg:method.mixing=false"),
        ("seed=3", "--seeds"),
        ("steps=5", "contradict"),
        ("stepz=5", "did you mean 'steps'"),
    ],
)
def test_what_is_not_for_all_is_refused(setting: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        check_common([setting], steps=4)


def test_a_grid_goes_seed_by_seed_with_the_baseline_first_and_the_ceiling() -> None:
    uc_seg, supervised = Variant("uc_seg", "uc_seg"), Variant("supervised", "supervised")
    grid = cells([uc_seg, supervised], ["5%", "10%"], 2)
    one_seed = [("supervised", "5%"), ("supervised", "10%"), ("supervised", "all"), ("uc_seg", "5%"), ("uc_seg", "10%")]
    assert [(cell.variant.text, cell.labelled) for cell in grid] == one_seed * 2
    assert [cell.seed for cell in grid] == [0] * 5 + [1] * 5
    with_all = cells([supervised, uc_seg], ["5%", "all"], 1)
    assert [(cell.variant.text, cell.labelled) for cell in with_all].count(("supervised", "all")) == 1
    assert ("uc_seg", "all") in [(cell.variant.text, cell.labelled) for cell in with_all]


def test_cells_have_names_for_files_that_differ() -> None:
    assert Cell(Variant("uc_seg:lr=0.1", "uc_seg"), "5%", 0).name == "uc_seg+lr=0.1-5pct-seed0"
    assert file_name("a=[1,2]") != file_name("a=[1;2]")
    assert len(file_name("x" * 300)) < 100
