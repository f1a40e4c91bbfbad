"""What a folder leaves open: its files can be one case in several ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ucseg.errors import UserError

Option = Literal["images", "masks", "parts"]


class Question(UserError):
    """Cases have several files, of which a user may want one or all.

    Attributes:
        option: whose value says so.
        every: the value that takes all of them as channels, classes or parts; "" if none does.
        one: the value that takes the first of them alone; "" for parts.
        also: values of other options that go with either.
    """

    def __init__(
        self,
        code: str,
        message: str,
        option: Option,
        every: str,
        one: str = "",
        also: Mapping[Option, str | None] | None = None,
    ) -> None:
        super().__init__(code, message)
        self.option, self.every, self.one, self.also = option, every, one, dict(also or {})
