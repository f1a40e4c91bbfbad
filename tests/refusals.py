"""How tests hold what ucseg refuses: by the kind of mistake and what the message names, not by its words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ucseg.errors import UserError


@contextmanager
def refused(*codes: str, naming: object = ()) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """The block raises a UserError of exactly these kinds, in this order, whose message names everything in `naming`.

    Args:
        codes: kinds of the mistakes, `UserError.codes`.
        naming: what the user needs to find the mistake: a file, a setting, a value; one, or several in a list or tuple.
    """
    with pytest.raises(UserError) as caught:
        yield caught
    assert caught.value.codes == codes, f"{caught.value.codes}: {caught.value}"
    for what in naming if isinstance(naming, list | tuple) else [naming]:
        assert str(what) in str(caught.value), f"'{what}' is not named: {caught.value}"
