"""The product's accounts, with one migration more than they have: an AddField."""

from pathlib import Path

import accounts.migrations

MODULES = {"accounts": f"{__name__}.migrations"}
ADDED = "added_note"


def newest() -> str:
    """The last of the migrations that accounts really has."""
    [folder] = accounts.migrations.__path__
    return max(path.stem for path in Path(folder).glob("0*.py"))
