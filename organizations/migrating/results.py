"""Results of a migration run: per organization, progress so far, and final report."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from organizations.models import Organization

from .engine import Key

# Maximum failed ones that a report names; the others are counted, and the master has them all.
MOST_NAMED = 100


class Kind(StrEnum):
    """The kind of result for one organization."""

    MIGRATED = "migrated"
    IN_STEP = "in step"  # Nothing to do.
    CONFIRMED = "confirmed"  # --verify: the database matches the record.
    CORRECTED = "corrected"  # --verify: it did not; the record is now right.
    BUSY = "skipped"  # Another process is working on it.
    GONE = "gone"  # Deleted meanwhile.
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """One organization's result. error: empty unless it failed. seconds: of the database's work.

    was_ended: it failed because its session was terminated, as by the fence.
    """

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
    was_ended: bool = False

    @classmethod
    def of(cls, organization: Organization, kind: Kind, *, error: str = "") -> "Result":
        """A result without a query of its database."""
        return cls(organization.pk, organization.name, organization.slug, kind, error=error)


@dataclass(frozen=True)
class Progress:
    """A run's progress. total: of this part of it (the canaries, or the rest)."""

    done: int
    total: int
    failed: int
    latest: Result | None = None


@dataclass
class Report:
    """A run's totals; memory does not grow. stopped: why it ended early, if it did."""

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
        # Organizations that sign up during the run have a turn too, but were not counted before.
        return max(0, self.considered - self.done)


class Stopped(StrEnum):
    """Why a run ended early."""

    INTERRUPTED = "interrupted"
    CANARY_FAILED = "a canary failed"
    CANARY_WAITS = "the canaries are done"
    TOO_MANY_FAILURES = "too many failures"
