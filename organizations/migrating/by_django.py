"""Runs one migration with Django's executor, and sends pre_migrate and post_migrate."""

import io
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models.signals import post_migrate, pre_migrate

from organizations import tenancy
from organizations.errors import MigrationHalfDone
from organizations.postgres.roles import READ_ONLY
from organizations.tenancy import Tenant, registry, time_limit

from . import concurrently
from .graph import Plan
from .rehearsal import Step
from .session import deadline_seconds, limits_milliseconds


class _Executor(MigrationExecutor):
    """Runs single migrations without loading the database's graph."""

    def __init__(self, connection: Any) -> None:
        # As MigrationExecutor.__init__, except the loader.
        self.connection = connection
        self.recorder = MigrationRecorder(connection)
        self.progress_callback = None


def run(step: Step, state: ProjectState, tenant: Tenant) -> None:
    """Apply or unapply one migration. Raises what it raises, and django.db.Error.

    state: the step's, rendered for this run only. Closes its connection afterwards. Raises
    MigrationHalfDone for one that is not atomic.
    """
    try:
        with tenancy.override(tenant), _limited(tenant.alias):
            executor = _Executor(connections[tenant.alias])
            act = executor.unapply_migration if step.backwards else executor.apply_migration
            try:
                with concurrently.waiting(connections[tenant.alias]):
                    act(state, step.own_migration())
            except Exception as error:
                if step.migration.atomic:
                    raise
                raise MigrationHalfDone(".".join(step.key)) from error
    finally:
        registry.forget(tenant.alias)


@contextmanager
def _limited(alias: str) -> Iterator[None]:
    with connections[alias].cursor() as cursor:
        # Of an organization that is read-only too.
        for name, value in {READ_ONLY: "off", **limits_milliseconds()}.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
    try:
        with time_limit(deadline_seconds()):
            yield
    finally:
        if connections[alias].is_usable():
            with connections[alias].cursor() as cursor:
                cursor.execute("RESET lock_timeout")
                cursor.execute("RESET statement_timeout")
                cursor.execute("RESET default_transaction_read_only")


@contextmanager
def signals(plan: Plan, tenant: Tenant) -> Iterator[None]:
    """Send pre_migrate and post_migrate around the block, as the command `migrate` does.

    Only if there are receivers other than Django's (permissions, content types), which do nothing
    in an organization's database, since the router refuses their models one by one.
    """
    if plan.steps and _is_heard(pre_migrate):
        _send(emit_pre_migrate_signal, plan, tenant, at=plan.steps[0], done=False)
    yield
    if plan.steps and _is_heard(post_migrate):
        _send(emit_post_migrate_signal, plan, tenant, at=plan.steps[-1], done=True)


def _send(emit: Any, plan: Plan, tenant: Tenant, *, at: Step, done: bool) -> None:
    state = at.state.clone()
    if at.backwards != done:
        at.migration.mutate_state(state, preserve=False)
    with tenancy.override(tenant), _limited(tenant.alias):
        emit(
            0,
            False,
            tenant.alias,
            stdout=io.StringIO(),
            apps=state.apps,
            plan=[(step.migration, step.backwards) for step in plan.steps],
        )


def _is_heard(signal: Any) -> bool:
    """Relies on Django 5.2, dispatch/dispatcher.py: receivers are (key, function or weak, …)."""
    for _, receiver, *_ in signal.receivers:
        function = receiver() if isinstance(receiver, weakref.ReferenceType) else receiver
        if function is not None and not function.__module__.startswith("django.contrib."):
            return True
    return False
