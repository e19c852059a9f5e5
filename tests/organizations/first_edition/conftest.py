"""A master and organizations of the FastAPI edition, on the tests' server."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from organizations import lifecycle
from organizations.models import Organization
from tests.conftest import Superuser
from tests.organizations.helpers import wait_for
from tests.plugin import SERVER

_HERE = Path(__file__).parent
_MASTER = "fastapi_master"
_READER = "fastapi_reader"
_NOBODY = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %s)"
# It stands in URLs, which may not be shown.
PASSWORD = "sesame-of-the-reader"


class Edition:
    """Made as that edition makes it, by the superuser; read as a role that may only read.

    url: for the reader.
    """

    def __init__(self, superuser: Superuser) -> None:
        self._superuser = superuser
        self._databases: list[str] = []
        where = SERVER.superuser_parameters()
        self.url = (
            f"postgresql://{_READER}:{PASSWORD}@/{_MASTER}?host={where['host']}"
            f"&port={where['port']}"
        )

    def __enter__(self) -> "Edition":
        role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        self._superuser.execute(role.format(sql.Identifier(_READER), sql.Literal(PASSWORD)))
        self._create(_MASTER, "master.sql")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for organization in Organization.objects.usable().exclude(adopted_from=""):
            lifecycle.delete_organization(organization)
        for name in self._databases:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            self._superuser.execute(drop.format(sql.Identifier(name)))
        self._superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(_READER)))

    def add(self, name: str, *statements: str, database: str = "", url: str = "") -> str:
        """Sign an organization up there, and run statements in its database. Returns its name.

        database: of an earlier one, which it shares. url: another database_url.
        """
        made = database or f"org_{name.lower().replace(' ', '_')}"
        if not database:
            self._create(made, "organization.sql")
        self.execute(made, *statements)
        with self.connect(_MASTER) as master:
            master.execute(
                "INSERT INTO organizations (name, admin_email, database_url, created_at) "
                "VALUES (%s, 'admin@company.com', %s, '2024-01-15T10:30:00')",
                (name, url or f"postgresql://postgres:postgres@localhost:5432/{made}"),
            )
        return made

    def execute(self, database: str, *statements: str) -> None:
        """As the superuser."""
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        # A session counts until the server has ended it, a moment after it was closed.
        wait_for(self._superuser, _NOBODY, database)

    def rows(self, database: str) -> list[tuple[object, ...]]:
        with self.connect(database) as connection:
            return connection.execute("SELECT * FROM users ORDER BY id").fetchall()

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        parameters = SERVER.superuser_parameters(database)
        return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]

    def _create(self, database: str, script: str) -> None:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' STRATEGY file_copy")
        self._superuser.execute(create.format(sql.Identifier(database)))
        self._databases.append(database)
        grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {_READER}"
        self.execute(database, (_HERE / script).read_text(), grant)


@pytest.fixture
def edition(superuser: Superuser) -> Iterator[Edition]:
    with Edition(superuser) as made:
        yield made
