"""The product's accounts app with one more migration: an AddField."""

from pathlib import Path

import accounts.migrations

MODULES = {"accounts": f"{__name__}.migrations"}
ADDED = "added_note"


def newest() -> str:
    """The newest real migration of accounts."""
    [folder] = accounts.migrations.__path__
    return max(path.stem for path in Path(folder).glob("0*.py"))
