"""System checks of the audit trail: the role that writes it must not be able to change it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from django.apps import AppConfig
from django.core import checks

# Whether the role could change the trail by a right of its own, or by one it could take: as the
# owner of the table, of its functions or of the schema and database around them.
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
    """What the server says of who can change the trail. With `check --deploy --database default`.

    Says nothing where the server cannot be used, or has no tables yet: others do.
    """
    if not databases or "default" not in databases:
        return
    from .provisioning.preflight import Unusable, usable_connection

    # What cannot be asked is said by organizations.E001.
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
            f"The application's role {connection.info.user} could change the audit trail that "
            "it writes: it owns it, or can take its ownership, or is a superuser.",
            hint="Run what `manage.py server_sql` prints as a superuser; it sets up an owner. "
            "See docs/audit.md.",
            id="organizations.W010",
        )
    if value(_TRIGGERS_ON) != _TRIGGERS:
        yield checks.Warning(
            "The triggers that refuse changes of the audit trail are missing or switched off.",
            hint="Run `manage.py migrate`. Where that has nothing to do, somebody has changed "
            "the table: see docs/audit.md.",
            id="organizations.W011",
        )
