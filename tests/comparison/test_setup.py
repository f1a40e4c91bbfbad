"""From options to a comparison that can start: what it consists of, what is noted, and what is refused."""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import ucseg
from refusals import refused
from ucseg.comparison.setup import Setup, Wanted, set_up
from ucseg.dataset.manifest import load_dataset, save_dataset
from ucseg.demonstration.scans import draw_dataset
from ucseg.errors import UserError

SMALL = ["plan.labelled_batch=1", "plan.unlabelled_batch=1"]
OPTIONS: dict[str, Any] = {"classes": "background,organ", "modality": "ultrasound", "seed": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset `data` of 6 training, 2 validation and 4 test cases, and `other`, 2 cases from elsewhere."""
    root = tmp_path_factory.mktemp("setup")
    draw_dataset(root / "scans", "ultrasound", 12, (32, 32), 0)
    draw_dataset(root / "elsewhere", "ultrasound", 2, (32, 32), 1)
    ucseg.init(root / "scans", out=root / "data", validation="2", test="4", **OPTIONS)
    ucseg.init(root / "elsewhere", out=root / "other", validation="0", test="0", **OPTIONS)
    return root


def wanted(root: Path, **change: Any) -> Wanted:
    values: dict[str, Any] = {
        "dataset": root / "data", "out": root / "out", "labelled": ["2"], "variants": ["uc_seg"], "seeds": 1,
        "steps": 5, "hours": None, "reference": None, "settings": ["lr=0.02", "optimizer=sgd", *SMALL], "test_on": [],
        "tolerance": 2.0, "mirror": True, "command": "again",
    }  # fmt: skip
    return Wanted(**values | change)


def prepared(root: Path, **change: Any) -> Setup:
    return set_up(wanted(root, **change))


def files(root: Path) -> list[Path]:
    """Without what is known of scans, which is kept between calls."""
    return sorted(path for path in root.rglob("*") if "cache" not in path.parts)


def test_the_grid_the_amounts_and_the_facts_are_those_asked_for(root: Path) -> None:
    before = files(root)
    setup = prepared(root, labelled=["50%", "2"], seeds=2, test_on=[root / "other"])
    assert [(str(cell.variant.text), cell.labelled) for cell in setup.study.cells if cell.seed == 1] == [
        ("supervised", "2"), ("supervised", "50%"), ("supervised", "all"), ("uc_seg", "2"), ("uc_seg", "50%"),
    ]  # fmt: skip
    assert setup.study.amounts == {"2": 2, "50%": 3, "all": 6}
    assert {text: len(one.labelled) for text, one in setup.amounts.items()} == setup.study.amounts
    assert list(setup.study.tests) == ["test", str((root / "other").resolve())]
    assert (setup.config.steps, setup.config.lr, setup.plan.labelled_batch) == (5, 0.02, 1)
    assert "2 masks of --labelled 2" in setup.study.facts["Plan"]
    assert setup.common == ["lr=0.02", "optimizer=sgd"]  # the rest is in the plan
    assert "6 with a mask" in setup.study.facts["Training"]
    assert setup.study.notes == []
    assert files(root) == before  # nothing is written


def test_a_later_call_has_the_whole_plan_of_the_first_so_that_stopped_runs_go_on(root: Path, tmp_path: Path) -> None:
    first = prepared(root, out=tmp_path / "out")
    assert first.plan.always_present == (1,)
    first.definition.save(tmp_path / "out")
    again = prepared(root, out=tmp_path / "out")
    assert again.plan == first.plan.model_copy(update={"made_of": None})
    assert again.definition.fixed == first.definition.fixed


@pytest.mark.parametrize(
    ("variants", "asked", "chosen"),
    [
        (["mean_teacher", "uc_seg"], None, "uc_seg"),
        (["mean_teacher", "cps"], None, "mean_teacher"),
        (["supervised"], None, "supervised"),
        (["mean_teacher", "cps"], "cps", "cps"),
        (["uc_seg"], "supervised/unet", "supervised/unet"),
    ],
)
def test_the_reference_is_uc_seg_or_the_first_unless_it_is_given(
    root: Path, variants: list[str], asked: str | None, chosen: str
) -> None:
    assert prepared(root, variants=variants, reference=asked).study.reference == chosen


def test_mistakes_are_reported_together_each_once(root: Path) -> None:
    with refused(
        "common-seed", "variant-form", "no-seed", "no-amount", "tolerance", "reference-unknown", "test-set-own",
        naming=["variant 'uc_seg:lr'", "--seeds 0", "--labelled", "nan", "--reference cps", root / "data"],
    ) as error:  # fmt: skip
        prepared(
            root, settings=["seed=1"], variants=["uc_seg:lr", "uc_seg:lr"], seeds=0, labelled=[], reference="cps",
            tolerance=math.nan, test_on=[root / "data"],
        )  # fmt: skip
    assert len(str(error.value).splitlines()) == 7


def test_runs_may_have_the_same_time_in_place_of_the_same_steps(root: Path, tmp_path: Path) -> None:
    setup = prepared(root, out=tmp_path, steps=None, hours=0.25)
    assert (setup.config.hours, setup.config.clock) == (0.25, "work")
    assert "0.25 h" in setup.study.facts["Steps"]
    setup.definition.save(tmp_path)
    with refused("comparison-changed", naming=[tmp_path, "'hours' was 0.25", "0.5"]):
        prepared(root, out=tmp_path, steps=None, hours=0.5)
    for change in ({"steps": 5}, {"steps": None, "settings": ["steps=7"]}):
        with refused("hours-each-and-steps"):
            prepared(root, hours=0.25, **change)
    with refused("common-hours", naming="--hours-each"):
        prepared(root, settings=["hours=1"])
    with refused("common-clock"):
        prepared(root, steps=None, hours=0.25, settings=["clock=wall"])
    with refused("variant-common", naming="'hours'"):
        prepared(root, variants=["uc_seg:hours=1"])
    with refused("hours-one-device"):
        prepared(root, steps=None, hours=0.25, settings=["devices=2"])


def test_variants_that_would_train_the_same_are_refused(root: Path) -> None:
    with refused("variants-same", naming=["'uc_seg:lr=0.020'", "'uc_seg'"]):
        prepared(root, variants=["uc_seg", "uc_seg:lr=0.020"])


def test_what_only_the_plan_refuses_is_reported_with_its_variant(root: Path) -> None:
    with pytest.raises(UserError, match=r"variant 'supervised:method.networks=\[nunet\]': .*nunet"):
        prepared(root, variants=["supervised:method.networks=[nunet]"])


def test_weights_of_an_encoder_that_are_not_there_are_reported_before_anything_is_trained(root: Path) -> None:
    with refused("init-missing", naming=["variant 'uc_seg:", "none.pth"]):
        prepared(root, variants=["uc_seg:method.subnets=[unet,effnet_lite0:none.pth]"])


def test_a_dataset_must_have_masks_to_measure_and_to_choose_by(root: Path, tmp_path: Path) -> None:
    ucseg.init(root / "scans", out=tmp_path / "bare", validation="0", test="0", **OPTIONS)
    with refused("no-test-mask", "no-validation-mask", naming=[tmp_path / "bare", "--test", "--validation"]):
        prepared(root, dataset=tmp_path / "bare")


def test_a_folder_with_finished_runs_keeps_its_definition(root: Path, tmp_path: Path) -> None:
    setup = prepared(root, out=tmp_path)
    setup.definition.save(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "cps-2-seed0.json").write_text("{}")
    again = prepared(root, out=tmp_path, labelled=["4"])
    assert set(again.definition.labelled) == {"2", "4", "all"}
    (note,) = again.study.notes
    assert "cps-2-seed0" in note
    with refused("comparison-changed", naming=[tmp_path, "'steps' was 5", "6"]):
        prepared(root, out=tmp_path, steps=6)
    with refused("comparison-changed", naming=[tmp_path, "'mirror' was true", "false"]):
        prepared(root, out=tmp_path, mirror=False)


def test_a_comparison_of_before_mirroring_goes_on_without_it(root: Path, tmp_path: Path) -> None:
    definition = prepared(root, out=tmp_path, mirror=False).definition
    definition.fixed.pop("mirror")
    definition.save(tmp_path)
    assert prepared(root, out=tmp_path, mirror=False).definition.fixed["mirror"] is False
    with refused("comparison-changed", naming="'mirror' was false"):
        prepared(root, out=tmp_path)


def noted(setup: Setup, *named: object) -> bool:
    return any(all(str(one) in note for one in named) for note in setup.study.notes)


def test_a_percentage_that_shows_far_more_cases_is_noted(root: Path) -> None:
    setup = prepared(root, labelled=["1%", "50%"])
    assert noted(setup, "--labelled 1% of 6", "0.06", "1 (16.7%)")
    assert len(setup.study.notes) == 1


def test_a_plan_that_may_know_hidden_masks_is_not_used(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data", tmp_path / "data")
    ucseg.plan(tmp_path / "data", set=["labelled_batch=3", "unlabelled_batch=1"])
    setup = prepared(root, dataset=tmp_path / "data")
    assert setup.plan.labelled_batch == 1
    assert noted(setup, tmp_path / "data" / "plan.yaml", "not used", "labelled_batch")
    with pytest.raises(UserError, match="'patsh'"):
        prepared(root, settings=["plan.patsh=8"])


def test_an_amount_that_is_smaller_than_the_plan_knows_is_noted(root: Path, tmp_path: Path) -> None:
    setup = prepared(root, out=tmp_path, labelled=["4"])
    setup.definition.save(tmp_path)
    for _ in range(2):  # not only the first time
        again = prepared(root, out=tmp_path, labelled=["2"])
        assert noted(again, "4 masks of --labelled 4", "--labelled 2")
        again.definition.save(tmp_path)
    with refused("comparison-changed", naming="'plan.labelled_batch' was 1"):
        prepared(root, out=tmp_path, labelled=["4"], settings=["lr=0.02", "plan.labelled_batch=2"])


def test_hidden_masks_and_subjects_in_two_splits_are_noted(root: Path, tmp_path: Path) -> None:
    ucseg.init(root / "scans", out=tmp_path / "data", validation="2", test="4", labelled="4", **OPTIONS)
    table = tmp_path / "data" / "cases.csv"
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for split in ("train", "test"):
        next(row for row in rows if row["split"] == split)["subject"] = "anna"
    with table.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    setup = prepared(root, dataset=tmp_path / "data")
    assert setup.study.amounts["all"] == 4
    assert noted(setup, "data hides 2 training masks", "4")
    assert noted(setup, "1 subjects", "anna")
    assert len(setup.study.notes) == 2


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_images_of_the_dataset_in_another_test_set_are_noted(root: Path, tmp_path: Path, split: str) -> None:
    setup = prepared(root)
    case = getattr(setup.dataset, split)[0]
    for kind in ("images", "masks"):
        (tmp_path / "again" / kind).mkdir(parents=True)
        shutil.copy(root / "scans" / kind / f"{case.case}.png", tmp_path / "again" / kind / "copy.png")
        shutil.copy(root / "elsewhere" / kind / "synthetic000.png", tmp_path / "again" / kind / "new.png")
    ucseg.init(tmp_path / "again", out=tmp_path / "other", validation="0", test="0", **OPTIONS)
    setup = prepared(root, test_on=[tmp_path / "other"])
    assert noted(setup, "1 of its images", f"{split} cases of data", "(copy)")
    assert len(setup.study.notes) == 1


def test_test_sets_of_one_name_have_titles_that_differ(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "elsewhere", tmp_path / "elsewhere")
    ucseg.init(tmp_path / "elsewhere", out=tmp_path / "other", validation="0", test="0", **OPTIONS)
    titles = prepared(root, test_on=[root / "other", tmp_path / "other"]).study.tests.values()
    assert len(set(titles)) == 3


def test_cases_without_a_mask_are_counted(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "scans", tmp_path / "scans")
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", validation="2", test="4", **OPTIONS)
    data = load_dataset(tmp_path / "data")
    lost = data.test[0].case
    cases = [replace(case, mask=None) if case.case == lost else case for case in data.cases]
    save_dataset(replace(data, cases=cases))
    assert noted(prepared(root, dataset=tmp_path / "data"), "1 cases without")


def test_weights_to_start_from_are_part_of_what_may_not_change(root: Path, tmp_path: Path) -> None:
    """Their content, not only their place; and a run that has seen hidden masks gets a note."""
    small = ["plan.size=[16, 16]", "plan.patch=[16, 16]", "plan.token=[8, 8]", "plan.strides=[2]"]
    ucseg.train(
        root / "data", out=tmp_path / "run", method="supervised", steps=1, set=[*small, "precision=fp32"],
        workers=0, device="cpu", cache=tmp_path / "cache",
    )  # fmt: skip
    variant = f"supervised:init={tmp_path / 'run'}"
    options = {"variants": ["supervised", variant], "out": tmp_path / "out"}
    setup = prepared(root, **options)
    assert list(setup.definition.starts) == [variant]
    assert any(variant in note and "4 masks" in note for note in setup.study.notes)
    setup.definition.save(tmp_path / "out")
    assert prepared(root, **options).definition == setup.definition
    other = load_file(tmp_path / "run" / "last.safetensors")
    save_file({name: value + 1 for name, value in other.items()}, tmp_path / "run" / "last.safetensors")
    with refused("comparison-changed", naming=[variant, "first weights"]):
        prepared(root, **options)
    with refused("init-not-there", naming=["supervised:init=none"]):
        prepared(root, variants=["supervised:init=none"], out=tmp_path / "more")


def test_a_variant_starts_from_a_run_with_that_runs_networks(root: Path, tmp_path: Path) -> None:
    """As its training will, whatever the method's default and the plan's encoder are."""
    small = ["plan.size=[16, 16]", "plan.patch=[16, 16]", "plan.token=[8, 8]", "plan.strides=[2]"]
    ucseg.train(
        root / "data", out=tmp_path / "run", method="mean_teacher", steps=1, workers=0, device="cpu",
        set=[*small, "plan.encoder=null", "method.network=unet_strided"], cache=tmp_path / "cache",
    )  # fmt: skip
    variant = f"mean_teacher:init={tmp_path / 'run'}"
    assert list(prepared(root, variants=[variant], out=tmp_path / "out").definition.starts) == [variant]
    with refused("init-nothing-fits", naming="unet_strided"):
        prepared(root, variants=[f"{variant}:method.network=vnet"], out=tmp_path / "other")


def test_naming_the_optimiser_that_an_encoder_has_anyway_changes_nothing(root: Path) -> None:
    flat = {"settings": SMALL, "variants": ["uc_seg", "uc_seg:optimizer=adamw"]}
    with refused("variants-same", naming=["'uc_seg:optimizer=adamw'", "'uc_seg'"]):
        prepared(root, **flat)
    prepared(root, **flat | {"variants": ["uc_seg", "uc_seg:optimizer=sgd"]})
    prepared(root, **flat | {"settings": [*SMALL, "plan.encoder=null"]})
    with refused("variants-same"):
        prepared(root, **flat | {"settings": [*SMALL, "plan.encoder=null"], "variants": ["bcp", "bcp:optimizer=sgd"]})


def test_the_light_network_is_the_one_that_it_stands_for(root: Path) -> None:
    thin, coarse = (f"uc_seg:method.subnets=[unet_strided,{name}]" for name in ("unet_thin", "unet_coarse"))
    with refused("variants-same", naming=[f"'{thin}'", "'uc_seg'"]):
        prepared(root, settings=SMALL, variants=["uc_seg", thin])
    prepared(root, settings=SMALL, variants=["uc_seg", coarse])


def test_an_optimiser_that_is_new_to_networks_without_an_encoder_is_refused(root: Path, tmp_path: Path) -> None:
    """For the others it is the default, so it may be named."""
    vnet = "supervised:method.networks=[vnet]"
    prepared(root, out=tmp_path, settings=SMALL, variants=["uc_seg", vnet]).definition.save(tmp_path)
    named = [*SMALL, "optimizer=adamw"]
    prepared(root, out=tmp_path, settings=named, variants=["uc_seg"])
    with refused("comparison-changed", naming=[f"'optimizer of {vnet}'", "sgd", "adamw"]):
        prepared(root, out=tmp_path, settings=named, variants=["uc_seg", vnet])


def test_a_common_rate_that_means_sgd_is_noted(root: Path) -> None:
    assert any("SGD" in note and "uc_seg" in note for note in prepared(root, settings=["lr=0.02", *SMALL]).study.notes)
    assert prepared(root, settings=["lr=0.02", "optimizer=adamw", *SMALL]).study.notes == []
    assert prepared(root, settings=["lr=0.02", "plan.encoder=null", *SMALL]).study.notes == []
