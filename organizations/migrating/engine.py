"""Migrates one organization's database, by SQL compiled once or by Django's executor.

What each database has is read over one direct connection. A schema-only migration is sent over it
as it was compiled (compiled.py); any other runs through Django's executor.
"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError

from organizations.provisioning import code
from organizations.tenancy import Tenant

from . import by_django
from .compiled import Compiled, batch, compiled, table_of_migrations
from .graph import Graph, Plan, Target, names_of
from .rehearsal import Key, Step
from .session import Session, is_passing

__all__ = ["Engine", "Key", "MigrationSQL", "Outcome", "Target"]

_FIRST_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Outcome:
    """What one call did, and the resulting state (migrations: `app.name`, sorted)."""

    applied: tuple[Key, ...]
    unapplied: tuple[Key, ...]
    fingerprint: str
    migrations: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class MigrationSQL:
    """The SQL of one migration; None if it must run for each database, for `reason`."""

    key: Key
    backwards: bool
    statements: tuple[str, ...] | None
    reason: str = ""


class Engine:
    """Migrates many databases to one target. Thread-safe; memory does not grow with their number.

    Methods that query a database raise CredentialUnreadable and what PostgreSQL and Django raise;
    planning raises HistoryInconsistent.
    """

    def __init__(self, target: Target = Target()) -> None:  # noqa: B008 - frozen
        """Raises MigrationsIncoherent and MigrationUnknown."""
        self._graph = Graph(target)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of a database migrated to the target from an empty one."""
        return code.fingerprint_of(self._graph.plan(()).names)

    @property
    def to_unapply(self) -> tuple[Key, ...]:
        """The code's migrations that a database at the target lacks: they may be unapplied."""
        return self._graph.to_unapply

    def migrate(self, tenant: Tenant, *, owner: str) -> Outcome:
        """Migrate the database to the target. Raises what the last try raised.

        A failed migration is rolled back; those before it stay. Only passing errors are retried:
        MIGRATION_TRIES tries in all, with growing pauses. A migration that is not atomic is tried
        once: the error of a second try would be about what the first one did.
        """
        began = time.perf_counter()
        first: Plan | None = None
        for attempt in range(1, settings.MIGRATION_TRIES + 1):
            try:
                with Session(tenant, owner=owner) as session:
                    there = session.applied()
                    plan = self._graph.plan(there or ())
                    # A later try finds less to do; report what the first one found.
                    first = first or plan
                    if plan.steps or plan.changes:
                        self._do(plan, session, tenant, has_table=there is not None)
                return _outcome(plan.names, began, first)
            except (DatabaseError, psycopg.Error) as error:
                if attempt == settings.MIGRATION_TRIES or not is_passing(error):
                    raise
                pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError("unreachable")

    def _do(self, plan: Plan, session: Session, tenant: Tenant, *, has_table: bool) -> None:
        if not has_table:
            session.send(batch(table_of_migrations(session.server_version), ()))
        with by_django.signals(plan, tenant):
            for step in plan.steps:
                sql = self._compiled(step, session.server_version)
                if sql.statements is None:
                    session.close()  # One connection to a database at a time.
                    by_django.run(step, self._graph.once(step.rendered), tenant)
                else:
                    session.send(sql.batch)
            if plan.changes:
                session.send(batch((), plan.changes))

    def after_unapplying(self, tenant: Tenant, *, owner: str) -> tuple[str, ...] | None:
        """What will be applied (`app.name`, sorted) if migrating unapplies anything; else None."""
        if not self.to_unapply:
            return None
        with Session(tenant, owner=owner) as session:
            plan = self._graph.plan(session.applied() or ())
        return plan.names if plan.done(backwards=True) else None

    def state_of(self, tenant: Tenant, *, owner: str) -> Outcome:
        """The current state, without changing anything."""
        began = time.perf_counter()
        with Session(tenant, owner=owner) as session:
            names = names_of(session.applied() or (), self._graph.labels)
        return _outcome(tuple(sorted(names)), began, None)

    def refuse_inconsistent(self, migrations: Iterable[str]) -> None:
        """Raise HistoryInconsistent if these (`app.name`) are not a possible history."""
        pairs = (name.split(".", 1) for name in migrations)
        self._graph.refuse_inconsistent((label, name) for label, name in pairs)

    def sql(self, tenant: Tenant, *, owner: str) -> list[MigrationSQL]:
        """The SQL that `migrate` would send, in order."""
        with Session(tenant, owner=owner) as session:
            plan = self._graph.plan(session.applied() or ())
            version = session.server_version
        found = []
        for step in plan.steps:
            sql = self._compiled(step, version)
            found.append(MigrationSQL(step.key, step.backwards, sql.statements, sql.reason))
        return found

    def _compiled(self, step: Step, server_version: int) -> Compiled:
        return self._graph.once(lambda: compiled(step, server_version))


def _outcome(names: tuple[str, ...], began: float, plan: Plan | None) -> Outcome:
    return Outcome(
        () if plan is None else plan.done(backwards=False),
        () if plan is None else plan.done(backwards=True),
        code.fingerprint_of(names),
        names,
        time.perf_counter() - began,
    )
