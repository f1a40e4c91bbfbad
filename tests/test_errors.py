"""Several mistakes are one error: every kind is kept, and what many files have in common is not printed for each."""

from __future__ import annotations

from ucseg.errors import UserError


def test_many_mistakes_of_one_cause_are_shown_as_a_few_and_a_count() -> None:
    lossy = [UserError("picture", f"m/{one}.jpg: holds {60 + one} grey values; give masks.") for one in range(8)]
    other = UserError("grid", "m/9.png: lies elsewhere; give its own mask.")
    together = UserError.together([*lossy, other])
    *shown, more, last = str(together).splitlines()
    assert shown == [str(one) for one in lossy[:5]]
    assert "3 more" in more
    assert last == str(other)
    assert together.codes == ("picture",) * 8 + ("grid",)


def test_five_mistakes_of_one_cause_are_all_shown() -> None:
    five = [UserError("picture", f"m/{one}.jpg: is no mask; give masks.") for one in range(5)]
    assert str(UserError.together(five)).splitlines() == [str(one) for one in five]
