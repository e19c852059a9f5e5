"""SQL that a superuser runs once on the server: revokes CONNECT, sets up roles and owners.

Imports only psycopg: the embedded server runs it before Django is set up.
"""

from psycopg import sql

# This role cannot log in. It owns the master database and its audit trail, so that the
# application's role, which writes the trail, cannot change it.
OWNER_ROLE = "orgmgmt_owner"


def server_statements(*, application_role: str, master_database: str) -> list[sql.Composed]:
    """Statements for a superuser in any database, each of which can be repeated.

    CONNECT is PUBLIC's by default on every database: without these every organization's role
    could connect to `postgres`, `template1` and the master.
    """
    role, master = sql.Identifier(application_role), sql.Identifier(master_database)
    owner = sql.Identifier(OWNER_ROLE)
    return [
        sql.SQL("ALTER ROLE {} LOGIN CREATEDB CREATEROLE").format(role),
        # Access to the connections that reserved_connections keeps free.
        sql.SQL("GRANT pg_use_reserved_connections TO {}").format(role),
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC").format(),
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC").format(),
        sql.SQL(
            "DO {}",
        ).format(
            sql.Literal(
                f"BEGIN IF to_regrole({_quoted(OWNER_ROLE)}) IS NULL "
                f"THEN CREATE ROLE {sql.Identifier(OWNER_ROLE).as_string()}; END IF; END"
            )
        ),
        sql.SQL(
            "ALTER ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        ).format(owner),
        # The reverse membership would defeat the purpose, and PostgreSQL refuses a circle.
        sql.SQL("REVOKE {} FROM {}").format(owner, role),
        sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(role, owner),
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(master, owner),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(master, role),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(master, role),
    ]


def master_statements(*, application_role: str) -> list[sql.Composed]:
    """Statements for a superuser in the master database, each of which can be repeated.

    audit_take_over() gives the audit trail to OWNER_ROLE, now or at the end of the migration that
    creates it. It runs as that role, which is a member of the application's, so it may take only
    what the application's role owns.
    """
    role, owner = sql.Identifier(application_role), sql.Identifier(OWNER_ROLE)
    take_over = sql.SQL("public.audit_take_over()")
    return [
        # The schema's owner could drop any table in it, so it is not the application's role, which
        # only creates tables.
        sql.SQL("ALTER SCHEMA public OWNER TO pg_database_owner").format(),
        sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC, {}").format(role),
        sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(role),
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {} RETURNS void LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = pg_catalog, pg_temp AS {}"
        ).format(
            take_over,
            sql.Literal(_TAKE_OVER.format(role=role.as_string(), owner=owner.as_string())),
        ),
        sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(take_over, owner),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(take_over),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(take_over, role),
        sql.SQL("SELECT {}").format(take_over),
    ]


_TAKE_OVER = """
BEGIN
    IF to_regprocedure('public.audit_prune(timestamptz)') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE public.audit_entries OWNER TO {owner};
    ALTER FUNCTION public.audit_entries_refuse() OWNER TO {owner};
    ALTER FUNCTION public.audit_prune(timestamptz) OWNER TO {owner};
    REVOKE ALL ON public.audit_entries FROM PUBLIC, {role};
    GRANT SELECT, INSERT ON public.audit_entries TO {role};
    REVOKE ALL ON FUNCTION public.audit_prune(timestamptz) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.audit_prune(timestamptz) TO {role};
END
"""


def _quoted(name: str) -> str:
    return sql.Literal(sql.Identifier(name).as_string()).as_string()


def connect_command(database: str) -> str:
    r"""psql's `\connect` to a database of any name."""
    # As pg_dump writes it: a bare name with a `=` would be taken for a connection string.
    value = database.replace("\\", "\\\\").replace("'", "\\'")
    argument = f"dbname='{value}'".replace('"', '""')
    return f'\\connect -reuse-previous=on "{argument}"'
