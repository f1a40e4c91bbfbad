"""Writes the contact sheet of a dataset and says where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucseg.cli.terminal import say
from ucseg.errors import UserError

if TYPE_CHECKING:
    from ucseg.pictures.contact_sheet import ContactSheet


def show_contact_sheet(sheet: ContactSheet) -> None:
    """Write the sheet; where the folder cannot be written, only that is reported: the dataset itself is done."""
    try:
        say("contact-sheet", f"Do masks and images belong together? Look at {sheet.write()}")
    except UserError as error:
        say("contact-sheet-not-written", str(error), "yellow")
