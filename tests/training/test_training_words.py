"""A run that learned nothing says so; one that learned does not."""

from __future__ import annotations

from ucseg.cli.training_words import head_of, what_was_not_learned


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
