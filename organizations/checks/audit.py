"""System checks of the audit trail: the role that writes it must not be able to change it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from django.apps import AppConfig
from django.core import checks

from organizations.postgres.preflight import Unusable, usable_connection

# Whether the role could change the trail by its own rights, or by rights it could take: as owner
# of the table, of its functions or of the schema and database around them.
_CAN_CHANGE = """
SELECT current_setting('is_superuser') = 'on'
    OR has_table_privilege('public.audit_entries', 'UPDATE, DELETE, TRUNCATE, TRIGGER')
    OR EXISTS (
        SELECT FROM (
            SELECT relowner FROM pg_class WHERE oid = 'public.audit_entries'::regclass
            UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'public'
            UNION SELECT datdba FROM pg_database WHERE datname = current_database()
            UNION SELECT proowner FROM pg_proc JOIN pg_namespace AS space
                ON space.oid = pronamespace AND nspname = 'public'
                WHERE proname IN ('audit_prune', 'audit_entries_refuse', 'audit_take_over')
        ) AS owners (owner)
        WHERE pg_has_role(owner, 'MEMBER') OR pg_has_role(owner, 'MEMBER WITH ADMIN OPTION')
    )
"""
_TRIGGERS_ON = """
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.audit_entries'::regclass
    AND starts_with(tgname, 'audit_entries_no_') AND tgenabled = 'A'
"""
_TRIGGERS = 5


@checks.register(checks.Tags.database, deploy=True)
def check_trail(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """Ask the server who can change the audit trail. With `check --deploy --database default`.

    Silent if the server cannot be used or has no tables yet: other checks report that.
    """
    if not databases or "default" not in databases:
        return
    # organizations.E001 reports a server that cannot be used.
    with suppress(Unusable), usable_connection() as connection:
        yield from _trail(connection)


def _trail(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    def value(query: str) -> Any:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    if value("SELECT to_regclass('public.audit_entries') IS NULL"):
        return
    if value(_CAN_CHANGE):
        yield checks.Warning(
            f"The application's role {connection.info.user} can change the audit trail: it owns "
            "it, can become its owner, or is a superuser.",
            hint="Run the output of `manage.py server_sql` as a superuser; it sets up a separate "
            "owner. See docs/audit.md.",
            id="organizations.W010",
        )
    if value(_TRIGGERS_ON) != _TRIGGERS:
        yield checks.Warning(
            "The triggers that protect the audit trail are missing or disabled.",
            hint="Run `manage.py migrate`. If that has nothing to do, somebody changed the table: "
            "see docs/audit.md.",
            id="organizations.W011",
        )
