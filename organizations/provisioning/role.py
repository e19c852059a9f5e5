"""The login role that owns an organization's database, and can reach no other."""

from psycopg import sql

from .server import ServerSession


def ensure_role(session: ServerSession, *, role: str, password: str) -> None:
    """Create the role, or set its password where it exists already.

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
    session.execute(
        sql.SQL(verb + " ROLE {} LOGIN NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(verifier)
        )
    )


def drop_role(session: ServerSession, *, role: str) -> None:
    """Drop the role if it exists; it must own nothing any more."""
    # Not IF EXISTS: PostgreSQL asks for CREATEROLE even where there is nothing to drop.
    if session.role_exists(role):
        session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
