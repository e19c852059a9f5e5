"""Results of a migration run: per organization, progress so far, and final report."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from organizations.models import Organization

from .engine import Key

# Failed ones that a report names; the others are counted, and the master has them all.
MOST_NAMED = 100


class Kind(StrEnum):
    """How one organization's turn ended."""

    MIGRATED = "migrated"
    IN_STEP = "in step"  # Nothing was to be done.
    CONFIRMED = "confirmed"  # --verify: the database is as the record says.
    CORRECTED = "corrected"  # --verify: it is not, and now the record is right.
    BUSY = "skipped"  # Somebody else is at work on it.
    GONE = "gone"  # Deleted in the meantime.
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """One organization's turn. error: empty unless it failed. seconds: of the database's work."""

    organization_id: int
    name: str
    slug: str
    kind: Kind
    fingerprint: str | None = None
    migrations: tuple[str, ...] = ()
    applied: tuple[Key, ...] = ()
    unapplied: tuple[Key, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, organization: Organization, kind: Kind, *, error: str = "") -> "Result":
        """A turn in which its database had no part."""
        return cls(organization.pk, organization.name, organization.slug, kind, error=error)


@dataclass(frozen=True)
class Progress:
    """Where the run is. total: of this part of it (the canaries, or the rest)."""

    done: int
    total: int
    failed: int
    latest: Result | None = None


@dataclass
class Report:
    """A run, in numbers that do not grow with it. stopped: why it ended before its end, if so."""

    considered: int = 0
    in_step_before: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)
    stopped: "Stopped | None" = None
    seconds: float = 0.0

    def add(self, result: Result) -> None:
        self.counts[result.kind] += 1
        if result.kind == Kind.FAILED and len(self.failed) < MOST_NAMED:
            self.failed.append(result)

    @property
    def failures(self) -> int:
        return self.counts[Kind.FAILED]

    @property
    def done(self) -> int:
        return sum(self.counts.values()) - self.counts[Kind.NOT_TRIED]

    @property
    def not_tried(self) -> int:
        # Who signs up while the run lasts has a turn too, and was not counted before it.
        return max(0, self.considered - self.done)


class Stopped(StrEnum):
    """Why a run ended before everybody had a turn."""

    INTERRUPTED = "interrupted"
    CANARY_FAILED = "a canary failed"
    CANARY_WAITS = "the canaries are done"
    TOO_MANY_FAILURES = "too many failures"
