"""A run that learned nothing says so; one that learned does not."""

from __future__ import annotations

from ucseg.cli.training_words import what_was_not_learned


def test_a_run_that_finds_nothing_is_told() -> None:
    told = what_was_not_learned({"step": 4, "dice": 0.0, "dice_unet": 0.0}, 4)
    assert told is not None
    assert told.startswith("Nothing was learned")
    assert "After 4 steps" in told


def test_a_network_that_finds_what_the_prediction_does_not_is_named() -> None:
    told = what_was_not_learned({"dice": 0.0005, "dice_unet": 0.2813, "dice_vnet": 0.0, "dice_class_a": 0.0005}, 40)
    assert told is not None
    assert told.startswith("The prediction finds nothing of the validation masks, though unet by itself has Dice 0.28.")
    assert "not found at all" not in told and "vnet" not in told


def test_a_class_that_is_never_found_is_named() -> None:
    told = what_was_not_learned({"dice": 0.4, "dice_class_liver": 0.8, "dice_class_tumour": 0.0}, 900)
    assert told is not None
    assert told.startswith("Not learned: tumour (")
    assert "liver" not in told


def test_one_weak_network_or_a_class_without_cases_is_no_finding() -> None:
    assert what_was_not_learned({"dice": 0.4, "dice_vnet": 0.0, "dice_class_rare": float("nan")}, 900) is None
    assert what_was_not_learned({"dice": float("nan")}, 900) is None
