"""The server of the fault matrix: a RealServer on a small disk, watched by a superuser.

    with World() as world:
        world.ask("POST", "/org/create", {...})

Imports no Django. Commands run in processes of their own, forked from one that has the code loaded
(tests/faults/zygote.py): a thousand starts of Django would be most of a run's time.
"""

import importlib.util
import json
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from tests.faults.client import Client
from tests.faults.command_runner import CommandRunner
from tests.faults.disk import mount
from tests.real_server import RealServer

Superuser = psycopg.Connection[tuple[Any, ...]]

PASSWORD = "correct horse battery"
STAFF = "matrix"
# Small, so that an attempt to fill it takes no time; nothing else of the server is unlike
# production's. wal_recycle: no segment is kept ready that a full disk would not stop.
POSTGRES_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "48MB",
    "max_connections": "200",
    "autovacuum": "off",
    "wal_recycle": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "96MB",
    # Sessions that wait for their own lock show up at once.
    "deadlock_timeout": "5s",
}
ENVIRONMENT = {
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "32",
    "THROTTLES": "on",
    # They count, which is a write of every login, and stop nobody.
    **{
        f"THROTTLE_{what}": "1000000/min"
        for what in ("LOGIN_ADDRESS", "LOGIN_ACCOUNT", "LOGIN_ORGANIZATION", "SIGNUP", "LOOKUP")
    },
    **{
        f"THROTTLE_{what}": "1000000/min"
        for what in ("REFRESH", "MAIL_ADDRESS", "MAIL_ACCOUNT", "MAIL_ORGANIZATION")
    },
    "LOG_LEVEL": "WARNING",
    # A lock is how a flow is held until all of them are: only two faults shorten these.
    "LOCK_TIMEOUT_SECONDS": "60",
    "STATEMENT_TIMEOUT_SECONDS": "60",
    "ACCESS_TOKEN_EXPIRE_MINUTES": "600",
}


class World(Client, RealServer):
    """The server, its small disk, its superuser, its staff, and one organization that stays."""

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(
            environment={**ENVIRONMENT, **(environment or {})},
            postgres_settings=POSTGRES_SETTINGS,
        )
        self.extra_environment = dict(environment or {})
        self.disk = self.folder / "data"
        self.has_own_disk = False
        self.commands = CommandRunner(self)
        self.tenant = ""
        self.tenant_database = ""
        self.staff_cookies = ""
        self.admin_token = ""
        self._superuser: Superuser | None = None
        self._superuser_lock = threading.Lock()

    def __enter__(self) -> Self:
        self.disk.mkdir(mode=0o711)
        self.has_own_disk = mount(str(self.disk))
        _list_static_files(self.folder / "static")
        super().__enter__()
        try:
            self.commands.start()
            self._make_staff()
            self._make_tenant()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.commands.stop()
        self.forget_superuser()
        super().__exit__(*exc_info)
        if self.has_own_disk:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)
            with suppress(OSError):
                self.disk.rmdir()
                self.folder.rmdir()

    def reconfigure(self, environment: Mapping[str, str]) -> None:
        """Start the web server, and what runs commands, with other settings."""
        self.kill()
        self.commands.stop()
        self.extra_environment = dict(environment)
        self._extra = {**ENVIRONMENT, **environment}
        self.start()
        self.commands.start()

    # --- As the superuser sees it -----------------------------------------------------------------
    def connect(self, database: str = "postgres") -> Superuser:
        """A superuser session that our faults do not block."""
        parameters: dict[str, Any] = self.postgres.superuser_parameters(database)
        options = "-c lock_timeout=0 -c statement_timeout=0 -c synchronous_commit=local"
        return psycopg.connect(**parameters, autocommit=True, connect_timeout=10, options=options)

    def rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query on the master. The session is kept, and opened again if it is lost."""
        for _ in range(2):
            with self._superuser_lock:
                if self._superuser is None or self._superuser.closed:
                    self._superuser = self.connect("master_org_db")
                with suppress(psycopg.OperationalError):
                    cursor = self._superuser.execute(query.encode(), parameters)
                    return cursor.fetchall() if cursor.description else []
                self._superuser.close()
        raise psycopg.OperationalError("The superuser's session does not hold.")

    def forget_superuser(self) -> None:
        with self._superuser_lock:
            if self._superuser is not None:
                self._superuser.close()
            self._superuser = None

    def tenant_rows(
        self, query: str, parameters: tuple[Any, ...] = (), *, database: str = ""
    ) -> list[tuple[Any, ...]]:
        """The same on an organization's database."""
        with self.connect(database or self.tenant_database) as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def sweep(self) -> None:
        """Remove the organizations that the flows made: the disk is small."""
        query = (
            "SELECT database_name, role_name, id FROM organizations WHERE name LIKE 'Company %%'"
        )
        rows = self.rows(query)
        with self.connect() as connection:
            for database, role, _ in rows:
                for statement in (
                    "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                    "DROP ROLE IF EXISTS {}",
                ):
                    name = database if "DATABASE" in statement else role
                    connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        ids = [row[2] for row in rows]
        self.rows("DELETE FROM former_names WHERE organization_id = ANY(%s)", (ids,))
        self.rows("DELETE FROM organizations WHERE id = ANY(%s)", (ids,))

    # --- Who and what is there -------------------------------------------------------------------
    def token(self, email: str, *, organization: str = "") -> Any:
        """Log in; the answer."""
        body = {"organization": organization or self.tenant, "email": email, "password": PASSWORD}
        answer = self.ask("POST", "/api/v1/auth/token/", body)
        if not answer.done:
            raise RuntimeError(f"No login for {email}: {answer.words}")
        return answer.data

    def _make_staff(self) -> None:
        environment = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        arguments = ("--username", STAFF, "--email", "staff@matrix.example")
        self.manage("createsuperuser", "--noinput", *arguments, environment=environment)
        fields = {"username": STAFF, "password": PASSWORD, "next": "/admin/"}
        answer = self.open_form("/admin/login/")(fields)
        if not answer.done:
            raise RuntimeError(f"Staff cannot log in: {answer.words}")
        self.staff_cookies = answer.headers["cookies"]

    def _make_tenant(self) -> None:
        self.tenant = "Standing Company"
        self.tenant_database = self.standing_organization(self.tenant)[2]
        self.admin_token = self.token("admin@tenant.example")["access"]

    def standing_organization(self, name: str) -> tuple[int, str, str]:
        """Id, status and database of the organization with this name; made if there is none."""
        query = "SELECT id, status, database_name FROM organizations WHERE name = %s"
        if not self.rows(query, (name,)):
            body = {"organization_name": name, "email": "admin@tenant.example"}
            made = self.ask("POST", "/org/create", body | {"password": PASSWORD})
            if not made.done:
                raise RuntimeError(f"No sign-up: {made.words}")
        ((pk, status, database),) = self.rows(query, (name,))
        return pk, status, database


def _list_static_files(folder: Path) -> None:
    """The list that collectstatic would write, without the files: the admin's pages name them."""
    folder.mkdir()
    names: dict[str, str] = {}
    for package in ("django.contrib.admin", "rest_framework", "drf_spectacular_sidecar"):
        spec = importlib.util.find_spec(package.partition(".")[0])
        home = Path(spec.origin).parent if spec and spec.origin else Path()
        for inner in package.split(".")[1:]:
            home /= inner
        files = (path for path in (home / "static").rglob("*") if path.is_file())
        names |= {
            str(p.relative_to(home / "static")): str(p.relative_to(home / "static")) for p in files
        }
    listed = {"paths": names, "version": "1.1", "hash": ""}
    (folder / "staticfiles.json").write_text(json.dumps(listed))
