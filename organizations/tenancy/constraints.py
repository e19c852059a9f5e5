"""Tells which constraint an IntegrityError broke."""

from django.db import IntegrityError
from psycopg.errors import ForeignKeyViolation, UniqueViolation


def broken_unique(error: IntegrityError) -> str:
    """The name of the violated unique constraint; empty if it was another kind."""
    cause = error.__cause__
    return (cause.diag.constraint_name or "") if isinstance(cause, UniqueViolation) else ""


def lacks_parent(error: IntegrityError) -> bool:
    """Whether a foreign key's target row is missing."""
    return isinstance(error.__cause__, ForeignKeyViolation)
