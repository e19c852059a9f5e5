"""System checks of what the walls rest on outside the code: the server and its roles."""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from django.core import checks

_WELL_KNOWN_PASSWORDS = {"postgres", "password", "admin", "root", "secret", "changeme", "123456"}


@checks.register(checks.Tags.security, deploy=True)
def check_database_password(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """The master's password is none that is tried first."""
    if settings.DATABASES["default"].get("PASSWORD", "").lower() in _WELL_KNOWN_PASSWORDS:
        yield checks.Warning(
            "The master database's password is a well-known one.",
            hint="Give the role a random password and set MASTER_DB_PASSWORD to it.",
            id="organizations.W002",
        )


@checks.register(checks.Tags.database)
def check_server(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """What the server itself says of the application's role and of PUBLIC's rights.

    Runs with `check --database default`, as all checks that ask a database do.
    """
    if not databases or "default" not in databases:
        return
    from .provisioning.server import master_parameters

    with psycopg.connect(**master_parameters(), autocommit=True) as connection:
        if connection.info.parameter_status("is_superuser") == "on":
            yield checks.Warning(
                f"The application connects as the superuser {connection.info.user}.",
                hint="Give it a role with CREATEDB and CREATEROLE alone; `manage.py server_sql` "
                "prints the SQL.",
                id="organizations.W001",
            )
        # Never trust a REVOKE that reported success: as another role it changes nothing.
        open_to_all = connection.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND EXISTS (SELECT FROM "
            "aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl WHERE acl.grantee = 0 "
            "AND acl.privilege_type = 'CONNECT') ORDER BY datname"
        ).fetchall()
    for (database,) in open_to_all:
        yield checks.Warning(
            f"Every role may connect to the database {database}, each organization's too.",
            hint="Run what `manage.py server_sql` prints as a superuser.",
            id="organizations.W003",
        )
