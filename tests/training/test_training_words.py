"""A run that learned nothing says so; one that learned does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ucseg.cli.training_words import _say_dice, found_nothing, head_of, what_was_not_learned, why_silent
from ucseg.methods import settings_of
from ucseg.training.outcome import FitResult


def said(last: dict[str, float], steps: int) -> tuple[str, str]:
    message = what_was_not_learned(last, steps)
    assert message is not None
    return message


def test_a_run_that_finds_nothing_is_reported() -> None:
    kind, text = said({"step": 4, "dice": 0.0, "dice_unet": 0.0}, 4)
    assert kind == "nothing-learned"
    assert "4 steps" in text and "unet" not in text


def test_a_network_that_finds_what_the_prediction_does_not_is_named() -> None:
    kind, text = said({"dice": 0.0005, "dice_unet": 0.2813, "dice_vnet": 0.0, "dice_class_a": 0.0005}, 40)
    assert kind == "prediction-empty"
    assert "unet" in text and "0.28" in text and "vnet" not in text


def test_a_mirrored_prediction_that_finds_nothing_is_reported() -> None:
    kind, text = said({"dice": 0.0152, "mirrored dice": 0.0, "dice_unet": 0.4031}, 20)
    assert kind == "prediction-empty" and "unet" in text


def test_a_class_that_is_never_found_is_named() -> None:
    kind, text = said({"dice": 0.4, "dice_class_liver": 0.8, "dice_class_tumour": 0.0}, 900)
    assert kind == "class-not-learned"
    assert "tumour" in text and "liver" not in text


def test_one_weak_network_or_a_class_without_cases_is_no_finding() -> None:
    assert what_was_not_learned({"dice": 0.4, "dice_vnet": 0.0, "dice_class_rare": float("nan")}, 900) is None
    assert what_was_not_learned({"dice": float("nan")}, 900) is None


def test_a_class_without_a_name_is_called_as_everywhere() -> None:
    figures = ("dice", "dice_unet_strided", "dice_class_liver", "dice_class_class_1")
    assert [head_of(one) for one in figures] == ["prediction", "unet_strided", "liver", "class_1"]


def test_one_network_has_not_learned_and_several_have_not() -> None:
    assert "network a found" in found_nothing(["a"]) and "it has not learned, and does not" in found_nothing(["a"])
    assert "networks a, b found" in found_nothing(["a", "b"])
    assert "they have not learned, and do not" in found_nothing(["a", "b"])


OTHERWISE = "too few steps to reach them, or another setting turns them off"


@pytest.mark.parametrize(
    ("method", "settings", "terms", "text"),
    [
        ("uc_seg", {}, ["ife_1", "ife_2"], f"ife_1, ife_2 ({OTHERWISE})"),
        ("bcp", {"unlabelled_weight": 0}, ["copy_paste"], f"copy_paste ({OTHERWISE})"),
        ("fixmatch", {"threshold": 1.0}, ["pseudo"], f"pseudo ({OTHERWISE})"),
        ("mean_teacher", {"consistency_weight": 0}, ["supervised"], f"supervised ({OTHERWISE})"),
        (
            "mean_teacher",
            {"consistency_weight": 0},
            ["consistency"],
            "consistency (turned off by consistency_weight=0)",
        ),
        (
            "unimatch",
            {"strong_weight": 0},
            ["strong_1", "strong_2", "feature"],
            f"strong_1, strong_2 (turned off by strong_weight=0); feature ({OTHERWISE})",
        ),
    ],
)
def test_a_weight_of_zero_is_named_as_the_reason_why_a_term_trained_nothing_and_no_other_is_claimed(
    method: str, settings: dict[str, float], terms: list[str], text: str
) -> None:
    assert why_silent(terms, settings_of(method, settings)) == text


@pytest.mark.parametrize(("own", "shown"), [(0.5, False), (0.4, True)])
def test_the_only_network_has_a_column_where_it_differs_from_the_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own: float, shown: bool
) -> None:
    row = {"step": 4, "dice": 0.5, "dice_unet": own, "dice_class_a": 0.5}
    _say_dice(FitResult(tmp_path, 4, 1.0, last=row, best=row), 2)
    assert ("unet" in capsys.readouterr().out) == shown
