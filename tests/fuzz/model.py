"""Fuzz model: the expected rows and active organizations, kept without asking the database."""

from collections import Counter
from dataclasses import dataclass, field

Rows = dict[int, str]


@dataclass(eq=False)
class Entry:
    """One block that was entered. flow: who entered it."""

    organization: int | None
    flow: str
    closed: bool = False


@dataclass
class Model:
    """Organizations are numbers here, units are names."""

    rows: list[Rows] = field(default_factory=list)
    stacks: dict[str, list[Entry]] = field(default_factory=dict)
    cache: dict[int | None, int] = field(default_factory=dict)
    pins: Counter[int] = field(default_factory=Counter)
    ceiling: int = 3
    # Connections that the server has cut: their next query may fail, once.
    cut: set[tuple[str, int]] = field(default_factory=set)

    def active(self, unit: str) -> int | None:
        """Who must be active in the unit."""
        stack = self.stacks[unit]
        return stack[-1].organization if stack and not stack[-1].closed else None

    def pinned(self) -> dict[int, int]:
        return dict(+self.pins)

    def pin(self, organization: int | None) -> None:
        if organization is not None:
            self.pins[organization] += 1

    def unpin(self, organization: int | None) -> None:
        if organization is not None:
            self.pins[organization] -= 1

    def enter(self, unit: str, organization: int | None, *, flow: str) -> Entry:
        entry = Entry(organization, flow)
        self.stacks[unit].append(entry)
        self.pin(organization)
        return entry

    def leave(self, unit: str, entry: Entry) -> None:
        """In whichever unit: one that did not enter it keeps a closed entry, which activates
        nothing."""
        if entry in self.stacks[unit]:
            self.stacks[unit].remove(entry)
        self._close(entry)

    def reset(self, unit: str, *, flow: str) -> None:
        for entry in self.stacks[unit]:
            if entry.flow == flow:
                self._close(entry)
        self.stacks[unit].clear()

    def _close(self, entry: Entry) -> None:
        if not entry.closed:
            entry.closed = True
            self.unpin(entry.organization)
