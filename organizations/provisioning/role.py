"""The login role that owns an organization's database, and can reach no other."""

import logging
from contextlib import ExitStack

import psycopg
from django.conf import settings
from psycopg import sql

from .server import ServerSession, master_parameters

logger = logging.getLogger(__name__)


def ensure_role(
    session: ServerSession, *, role: str, password: str, member_of: str | None = None
) -> None:
    """Create the role, or set its password where it exists already.

    member_of: another role whose rights it has from now on.
    The server is sent a SCRAM verifier and never the password, which a server may write to its
    log. One SCRAM iteration, and not 4,096, is as safe for 256 random bits, and makes each connect
    cheaper by 5 ms.
    """
    session.value("SELECT set_config('scram_iterations', '1', false)")
    # libpq reads scram_iterations from the session (PQencryptPasswordConn, PostgreSQL 16).
    verifier = session.connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    verb = "ALTER" if session.role_exists(role) else "CREATE"
    name = sql.Identifier(role)
    statements = [
        sql.SQL(verb + " ROLE {} LOGIN NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}").format(
            name, sql.Literal(verifier)
        )
    ]
    # The web's connections ask for these themselves. A pooler that leaves out what a connection
    # asks for (PgBouncer's ignore_startup_parameters) is still given the role's.
    for setting, seconds in (
        ("statement_timeout", settings.STATEMENT_TIMEOUT_SECONDS),
        ("lock_timeout", settings.LOCK_TIMEOUT_SECONDS),
    ):
        statements.append(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                name, sql.Identifier(setting), sql.Literal(f"{seconds}s")
            )
        )
    if member_of is not None:
        grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
        statements.append(grant.format(sql.Identifier(member_of), name))
    session.batch(*statements)


def drop_role(session: ServerSession, *, role: str) -> None:
    """Drop the role if it exists; it must own nothing any more.

    Its own database is gone by then. Another organization's role may have granted it something
    all the same (SQL injected there can name any role): such grants are taken back first. A role
    that even then cannot go stays behind without its login, and keeps nothing else from ending.
    """
    # Not IF EXISTS: PostgreSQL asks for CREATEROLE even where there is nothing to drop.
    if not session.role_exists(role):
        return
    name = sql.Identifier(role)
    try:
        session.execute(sql.SQL("DROP ROLE {}").format(name))
        return
    except psycopg.errors.DependentObjectsStillExist:
        _take_back_grants(session, role)
    try:
        session.execute(sql.SQL("DROP ROLE {}").format(name))
    except psycopg.errors.DependentObjectsStillExist as error:
        logger.error("role left behind without login", extra={"role": role}, exc_info=error)
        session.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(name))


def _take_back_grants(session: ServerSession, role: str) -> None:
    """Revoke what the roles of other organizations granted to this one.

    DROP OWNED does, but as somebody who acts for the grantor, the owner of the database.
    """
    granted = session.connection.execute(
        "SELECT DISTINCT CASE dbid WHEN 0 THEN current_database() ELSE datname END, "
        "pg_get_userbyid(datdba) FROM pg_shdepend "
        "JOIN pg_database ON pg_database.oid = dbid OR (dbid = 0 "
        "AND classid = 'pg_database'::regclass AND pg_database.oid = objid) "
        "WHERE refclassid = 'pg_authid'::regclass "
        "AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s) "
        "AND pg_has_role(datdba, 'MEMBER WITH ADMIN OPTION')",
        (role,),
    ).fetchall()
    statement = sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role))
    with ExitStack() as memberships:
        for member_of in {role, *(str(owner) for _, owner in granted)}:
            memberships.enter_context(session.membership(member_of))
        for database in {str(database) for database, _ in granted}:
            parameters = {**master_parameters(), "dbname": database}
            with psycopg.connect(**parameters, autocommit=True) as connection:
                connection.execute(statement)
