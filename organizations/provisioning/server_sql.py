"""What only a superuser can do for the walls between databases, as SQL to run once.

Imports psycopg alone: the embedded server runs it before Django is set up.
"""

from psycopg import sql


def server_statements(*, application_role: str, master_database: str) -> list[sql.Composed]:
    """Statements for a superuser, each of which can be repeated.

    CONNECT is PUBLIC's by default on every database: without these every organization's role
    could connect to `postgres`, `template1` and the master.
    """
    role, master = sql.Identifier(application_role), sql.Identifier(master_database)
    return [
        sql.SQL("ALTER ROLE {} LOGIN CREATEDB CREATEROLE").format(role),
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC").format(),
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC").format(),
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(master),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(master, role),
    ]
