"""Tells which constraint an IntegrityError broke."""

from django.db import IntegrityError
from psycopg.errors import ForeignKeyViolation, UniqueViolation


def broken_unique(error: IntegrityError) -> str:
    """The name of the unique constraint that the statement broke; empty where it was another."""
    cause = error.__cause__
    return (cause.diag.constraint_name or "") if isinstance(cause, UniqueViolation) else ""


def lacks_parent(error: IntegrityError) -> bool:
    """Whether a row that a foreign key names is not there, or no more."""
    return isinstance(error.__cause__, ForeignKeyViolation)
