"""Isolation attempts: what A's role may do on the PostgreSQL server."""

import random
from collections.abc import Sequence

import psycopg

from organizations.naming import RESERVED_PREFIX

from .attempts import attempt
from .outcome import Broken, Crossed
from .stage import Stage

FAMILY = "server"
# PostgreSQL's messages, since libpq gives no SQLSTATE for a failed connect. For a server in another
# language the catalog is used.
_NO_PRIVILEGE = "permission denied for database"
_WRONG_PASSWORD = "password authentication failed"  # noqa: S105 - the server's words


def other_databases(stage: Stage) -> Sequence[str]:
    """Every database that accepts connections, except A's; or a sample with the important ones."""
    rows = stage.server.connection.execute(
        "SELECT datname FROM pg_database WHERE datallowconn AND datname <> %s ORDER BY 1",
        (stage.ours.organization.database_name,),
    ).fetchall()
    names = [str(name) for (name,) in rows]
    if stage.sample is None or len(names) <= stage.sample:
        return names
    master = stage.server.connection.info.dbname
    always = {"postgres", "template1", master, stage.theirs.organization.database_name}
    rest = [name for name in names if name not in always]
    chosen = always | set(random.sample(rest, min(stage.sample, len(rest))))  # noqa: S311
    return [name for name in names if name in chosen]


@attempt(FAMILY, "A's role connects to another database", over=other_databases, aside=True)
def connects(stage: Stage, database: str) -> str:
    _enter(stage, stage.ours.organization.database_name)
    try:
        _enter(stage, database)
    except psycopg.OperationalError as error:
        if _NO_PRIVILEGE in str(error):
            return _NO_PRIVILEGE
        if not _takes_connections(stage, database):
            return "gone since the list was made"
        _enter(stage, stage.ours.organization.database_name)  # The server still answers.
        if _says_no(stage, database, str(error)):
            return "no CONNECT privilege, by the catalog"
        raise Broken("refused, but not because the CONNECT privilege is missing") from error
    raise Crossed("connected")


def _enter(stage: Stage, database: str) -> None:
    """The control: A's role connects to its own database with the same password."""
    with psycopg.connect(**stage.ours.parameters(database=database)) as connection:
        connection.execute("SELECT 1")


def _takes_connections(stage: Stage, database: str) -> bool:
    query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
    return bool(stage.server.value(query, (database,)))


def _says_no(stage: Stage, database: str, words: str) -> bool:
    """Whether the message is not English, and the catalog says that it is refused."""
    english = "FATAL:" in words
    return not english and not stage.server.value(
        "SELECT has_database_privilege(%s, %s, 'CONNECT')",
        (stage.ours.organization.role_name, database),
    )


@attempt(FAMILY, "The catalog lets A's role connect to another database")
def by_the_catalog(stage: Stage, subject: str) -> str:
    """One query for all databases, including those that a sample leaves out.

    A database that accepts no connections is closed whatever its privileges: template0, and an
    organization's that is being created. But a template must be closed in both ways.
    """
    found = stage.server.connection.execute(
        "SELECT datname, has_database_privilege(%s, oid, 'CONNECT') FROM pg_database "
        "WHERE datallowconn OR starts_with(datname, %s)",
        (stage.ours.organization.role_name, f"{RESERVED_PREFIX}template_"),
    ).fetchall()
    allowed = {str(name) for name, allows in found if allows}
    beyond = allowed - {stage.ours.organization.database_name}
    if stage.ours.organization.database_name not in allowed:
        raise Broken("it may not connect to its own")
    if beyond:
        shown = sorted(beyond)[:5]
        raise Crossed(f"{len(beyond)}: {', '.join(shown)}{' …' if len(beyond) > 5 else ''}")
    return f"none of {len(found) - 1}"


@attempt(FAMILY, "A's password opens another role", over=lambda _: ["B's", "the application's"])
def another_role(stage: Stage, whose: str) -> str:
    _enter(stage, stage.ours.organization.database_name)
    if whose == "B's":
        goal = stage.theirs.parameters()
    else:
        info = stage.server.connection.info
        goal = stage.theirs.parameters() | {"user": info.user, "dbname": info.dbname}
    goal["password"] = stage.ours.parameters()["password"]
    try:
        with psycopg.connect(**goal):
            pass
    except psycopg.OperationalError as error:
        if _WRONG_PASSWORD in str(error):
            return _WRONG_PASSWORD
        raise Broken(
            "refused, but not for the password (or in another language: set the server's "
            "lc_messages to C)"
        ) from error
    raise Crossed("connected: pg_hba.conf requires no password")


@attempt(FAMILY, "A's role has an additional attribute")
def attributes(stage: Stage, subject: str) -> str:
    found = stage.server.connection.execute(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin "
        "FROM pg_roles WHERE rolname = %s",
        (stage.ours.organization.role_name,),
    ).fetchone()
    if found is None or not found[-1]:
        raise Broken("the role is not there, or cannot log in")
    names = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")
    if has := [name for name, set_ in zip(names, found[:-1], strict=True) if set_]:
        raise Crossed(", ".join(has))
    return "only LOGIN"


@attempt(FAMILY, "A's role is a member of another role")
def memberships(stage: Stage, subject: str) -> str:
    found = stage.server.value(
        "SELECT count(*) FROM pg_auth_members WHERE member = %s::regrole",
        (stage.ours.organization.role_name,),
    )
    if found:
        raise Crossed(f"of {found}")
    return "of none"


@attempt(FAMILY, "A's role owns another database")
def ownership(stage: Stage, subject: str) -> str:
    found = stage.server.connection.execute(
        "SELECT datname FROM pg_database WHERE datdba = %s::regrole",
        (stage.ours.organization.role_name,),
    ).fetchall()
    own = stage.ours.organization.database_name
    names = {str(name) for (name,) in found}
    if own not in names:
        raise Broken("it does not own its own")
    if names != {own}:
        raise Crossed(", ".join(sorted(names - {own})))
    return "only its own"


@attempt(FAMILY, "A SECURITY DEFINER function of another role can be called")
def definer_functions(stage: Stage, subject: str) -> str:
    """In A's database, where all functions must be A's; and in the master, if A can connect."""
    listed = (
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_namespace AS n "
        "ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname NOT IN "
        "('pg_catalog', 'information_schema') AND p.proowner <> %s::regrole "
        "AND has_function_privilege(%s, p.oid, 'EXECUTE')"
    )
    role = stage.ours.organization.role_name
    with stage.ours.direct() as connection:
        inside = connection.execute(listed.encode(), (role, role)).fetchall()
    if inside:
        raise Crossed(f"in its own database: {', '.join(str(name) for (name,) in inside)}")
    in_master = stage.server.connection.execute(listed.encode(), (role, role)).fetchall()
    gets_in = stage.server.value(
        "SELECT has_database_privilege(%s, current_database(), 'CONNECT')", (role,)
    )
    if in_master and gets_in:
        raise Crossed(f"in the master: {', '.join(str(name) for (name,) in in_master)}")
    return "none that it reaches"


@attempt(FAMILY, "Names of databases and roles", by_nature=True)
def names(stage: Stage, subject: str) -> str:
    with stage.ours.direct() as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM pg_database), (SELECT count(*) FROM pg_roles)"
        ).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has a row
    return f"{found[0]} databases, {found[1]} roles (ORG_DATABASE_NAMES=opaque hides whose)"
