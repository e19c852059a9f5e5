"""Reports provisioning: records each step on the rows, and measures its seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from psycopg import sql

from organizations.jobs import frame
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization
from organizations.postgres.sessions import ServerSession

Step = Organization.Step


class Path(StrEnum):
    """How an organization's database was made."""

    PLAIN = "plain"
    TEMPLATE = "template"
    SPARE = "spare"


@dataclass
class Report:
    """seconds: of each step, in order; for a repeated step, the sum."""

    path: Path = Path.PLAIN
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Record:
    """The rows that say how far an organization has come. A spare database has none."""

    session: ServerSession
    organization: Organization | None = None
    pending: PendingSignUp | None = None

    def reached(self, step: Step) -> None:
        """Record it in the session that did it, so that both are flushed to disk in order."""
        if self.organization is None:
            return
        self.organization.provisioned = step
        statement = sql.SQL("UPDATE organizations SET provisioned = %s WHERE id = %s")
        self.session.execute(statement, (step, self.organization.pk))
        if self.pending is not None:
            PendingSignUp.objects.open().filter(pk=self.pending.pk).update(step=step)
            frame.tell(self.pending.job_id, step)
