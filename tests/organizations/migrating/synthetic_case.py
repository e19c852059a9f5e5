"""One synthetic migration, and how to run it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One migration. forwards, backwards: whether it is compiled that way.

    Where it is not, the database is asked (for a constraint's or a sequence's name), Python runs,
    or a value is made for each database.
    """

    name: str
    operations: str
    forwards: bool = True
    backwards: bool = True
    atomic: bool = True
