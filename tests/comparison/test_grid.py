"""The words of a grid: what is compared, in which order, and what is refused."""

from __future__ import annotations

import pytest

from refusals import refused
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


def test_with_equal_time_the_baseline_is_one_network_that_has_all_of_it() -> None:
    both = "supervised:method.networks=[unet,unet_strided]"
    (baseline, mean_of_two), _ = parse_variants([both], alone=True)
    assert baseline.all_settings == () and not baseline.members
    assert mean_of_two.all_settings == ("method.networks=[unet,unet_strided]",) and mean_of_two.members
    (with_steps,), _ = parse_variants([])
    assert with_steps.all_settings == mean_of_two.all_settings and with_steps.members


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("uc_sge", None, "'uc_seg'"),
        ("uc_seg:method.mixin=false", None, "'mixing'"),
        ("uc_seg:mixing=false", None, "--set method.mixing="),
        ("uc_seg:mixing", "variant-form", "key=value"),
        ("uc_seg:lr=fast", None, "'lr' = 'fast'"),
        ("uc_seg:steps=3", "variant-common", "'steps'"),
        ("uc_seg:plan.patch=32", "variant-common", "'plan.patch'"),
    ],
)
def test_a_wrong_variant_is_named_and_the_others_are_read(text: str, code: str | None, named: str) -> None:
    variants, (problem,) = parse_variants(["mean_teacher", text])
    assert [one.text for one in variants] == ["supervised", "mean_teacher"]
    assert str(problem).startswith(f"variant '{text}': ")
    assert named in str(problem)
    assert code in (None, *problem.codes)


@pytest.mark.parametrize(
    ("setting", "code", "named"),
    [
        ("method.mixing=false", "common-method", "--variants uc_seg:method.mixing=false"),
        ("seed=3", "common-seed", "--seeds"),
        ("hours=3", "common-hours", "--hours-each"),
    ],
)
def test_what_is_not_for_all_is_refused(setting: str, code: str, named: str) -> None:
    with refused(code, naming=named):
        check_common([setting], {"steps": 4})


@pytest.mark.parametrize(("setting", "named"), [("steps=5", "steps"), ("stepz=5", "'steps'")])
def test_settings_are_checked_as_those_of_train(setting: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        check_common([setting], {"steps": 4})


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
