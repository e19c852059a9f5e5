"""`make hostile`: attacks a live server with SQL as one organization's role, while others work.

    python -m tests.faults.hostile --requests 1000 --only locks

Each attack uses the organization's own role and password, as after an SQL injection. Meanwhile two
other organizations send requests. The attack is noticed if one of these is answered 5xx, or if
their 99th percentile is more than three times that of a quiet run just before. It does not count as
an attack if its own organization did not feel it. Exit code 1 in both cases.
"""

import argparse
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from multiprocessing.synchronize import Event
from typing import Any

import psycopg
from cryptography.fernet import Fernet
from psycopg import sql

from tests.real_server import RealServer, ServerFailed

PASSWORD = "correct horse battery"
EMAIL = "admin@siege.example"
ATTACKER = "Hostile Ltd"
OTHERS = ("Quiet One", "Quiet Two")
# A request of the attacker's is asked for so many at once: more than there are threads.
CROWD = 24
_TIMES = 3.0
_ANSWER_SECONDS = 60.0
# Below this a 99th percentile says more of the machine than of the server.
_LEAST_SECONDS = 0.05


class NoEffect(Exception):
    """The attack's own organization did not feel it."""


@dataclass(frozen=True)
class Answers:
    """Answers to the other organizations' requests."""

    statuses: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def failed(self) -> int:
        return sum(status >= 500 or status == 0 for status in self.statuses)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


class Siege(RealServer):
    """The server, an attacker with its role's password, and two uninvolved organizations."""

    def __init__(self) -> None:
        super().__init__(
            environment={
                "WEB_CONCURRENCY": "1",
                "WEB_THREADS": "8",
                "ORG_ADMIN_PASSWORD": PASSWORD,
                "STATEMENT_TIMEOUT_SECONDS": "3",
                "LOCK_TIMEOUT_SECONDS": "2",
                "LOG_LEVEL": "ERROR",
            }
        )
        self.tokens: dict[str, str] = {}
        self.where: dict[str, Any] = {}

    def __enter__(self) -> "Siege":
        super().__enter__()
        for name in (ATTACKER, *OTHERS):
            self.sign_up(name, email=EMAIL, password=PASSWORD)
            _, answer = self.log_in(name, email=EMAIL, password=PASSWORD)
            self.tokens[name] = answer["access_token"]
        database, role, sealed = self.row(
            "SELECT database_name, role_name, sealed_password FROM organizations WHERE name = %s",
            ATTACKER,
        )
        self.where = {
            **self.postgres.connection_parameters(),
            "dbname": database,
            "user": role,
            "password": Fernet(self._keys[1]).decrypt(sealed.encode()).decode(),
        }
        return self

    def row(self, query: str, *parameters: Any) -> tuple[Any, ...]:
        """The first row of a query on the master, as superuser."""
        with psycopg.connect(**self.postgres.superuser_parameters("master_org_db")) as master:  # type: ignore[arg-type]
            found = master.execute(query.encode(), parameters).fetchone()
        return found or ()

    def attacker(self) -> psycopg.Connection[Any]:
        """A session as the hostile role."""
        # Whatever it has set for its role: it knows how to get round that, as we do.
        options = "-c statement_timeout=0 -c default_transaction_read_only=off"
        return psycopg.connect(**self.where, autocommit=True, connect_timeout=5, options=options)

    def users(self, name: str) -> int:
        return _users(self.port, self.tokens[name])

    def others(self, requests: int) -> Answers:
        """Send so many requests of the two others at the same time, half each."""

        def ask(name: str) -> list[tuple[int, float]]:
            found = []
            for _ in range(requests // len(OTHERS)):
                began = time.perf_counter()
                found.append((self.users(name), time.perf_counter() - began))
            return found

        with ThreadPoolExecutor(len(OTHERS)) as pool:
            answers = [each for found in pool.map(ask, OTHERS) for each in found]
        return Answers(tuple(a for a, _ in answers), tuple(b for _, b in answers))

    @contextmanager
    def crowd(self) -> Iterator[Collection[int]]:
        """The attacker's users send requests without a pause, from more clients than threads.

        In a process of its own: here they would take their turns from those that are measured.
        """
        processes = multiprocessing.get_context("spawn")
        with processes.Manager() as manager:
            statuses, is_over = manager.list(), processes.Event()
            crowd = processes.Process(
                target=_crowd, args=(self.port, self.tokens[ATTACKER], statuses, is_over)
            )
            crowd.start()
            try:
                yield statuses
            finally:
                is_over.set()
                crowd.join()

    def refused(self, statuses: Collection[int]) -> None:
        """Raise NoEffect unless the attacker's own users are refused.

        Few requests of the others can be over before the first answer of theirs.
        """
        until = time.monotonic() + _ANSWER_SECONDS
        while not any(status >= 500 for status in statuses):
            if time.monotonic() > until:
                raise NoEffect(f"its own requests were answered {sorted(set(statuses))}")
            time.sleep(0.1)


def _users(port: int, token: str) -> int:
    """The status of GET /users/; 0 without an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    try:
        connection.request("GET", "/api/v1/users/", headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def _crowd(port: int, token: str, statuses: MutableSequence[int], is_over: Event) -> None:
    def ask() -> None:
        while not is_over.is_set():
            statuses.append(_users(port, token))
            time.sleep(0.5)  # It is their SQL that attacks, and not their number.

    threads = [threading.Thread(target=ask) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- The attacks --------------------------------------------------------------------------------
@contextmanager
def _users_replaced(siege: Siege, body: str) -> Iterator[None]:
    """Replace `users` by a view that calls a function with this body, during the block."""
    with siege.attacker() as own:
        own.execute("ALTER TABLE users RENAME TO users_kept")
        own.execute(
            sql.SQL(
                "CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql VOLATILE AS {}"
            ).format(sql.Literal(body))
        )
        own.execute("CREATE VIEW users AS SELECT * FROM users_kept WHERE trap()")
    try:
        yield
    finally:
        with siege.attacker() as own:
            own.execute("DROP VIEW users")
            own.execute("DROP FUNCTION trap")
            own.execute("ALTER TABLE users_kept RENAME TO users")


@contextmanager
def view_that_sleeps(siege: Siege) -> Iterator[None]:
    """`users` is a view whose function lifts every limit and sleeps."""
    body = (
        "BEGIN PERFORM set_config('statement_timeout', '0', false); PERFORM pg_sleep(600); "
        "RETURN true; END"
    )
    with _users_replaced(siege, body), siege.crowd() as statuses:
        yield
        siege.refused(statuses)


@contextmanager
def view_that_swallows_cancels(siege: Siege) -> Iterator[None]:
    """The same, and it goes on sleeping when it is cancelled."""
    body = (
        "BEGIN PERFORM set_config('statement_timeout', '0', false); LOOP BEGIN "
        "PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END"
    )
    with _users_replaced(siege, body), siege.crowd() as statuses:
        yield
        siege.refused(statuses)


@contextmanager
def locks(siege: Siege) -> Iterator[None]:
    """An open transaction holds its tables."""
    with siege.attacker() as own, own.transaction():
        own.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        with siege.crowd() as statuses:
            yield
            siege.refused(statuses)


@contextmanager
def connections(siege: Siege) -> Iterator[None]:
    """It opens as many sessions as it can."""
    with ExitStack() as held:
        number = 0
        for _ in range(200):
            try:
                held.enter_context(siege.attacker())
            except psycopg.OperationalError:
                break
            number += 1
        else:
            raise NoEffect("nothing limits its sessions")
        yield
        if number < 2:
            raise NoEffect(f"it had {number} sessions")


@contextmanager
def settings(siege: Siege) -> Iterator[None]:
    """It changes every setting that it may of its database and role."""
    names = (sql.Identifier(siege.where["dbname"]), sql.Identifier(siege.where["user"]))
    with siege.attacker() as own:
        for statement in (
            "ALTER DATABASE {0} SET default_transaction_read_only = on",
            "ALTER DATABASE {0} SET local_preload_libraries = 'not_there'",
            "ALTER ROLE {1} SET statement_timeout = 1",
            "ALTER DATABASE {0} CONNECTION LIMIT 0",
            "ALTER DATABASE {0} IS_TEMPLATE true",
        ):
            with suppress(psycopg.errors.InsufficientPrivilege):
                own.execute(sql.SQL(statement).format(*names))
    with suppress(psycopg.OperationalError):
        siege.attacker().close()
        raise NoEffect("it still gets in")
    try:
        yield
        siege.manage("reconcile_orgs")
    finally:
        # Back again, as an operator does it.
        with suppress(ServerFailed):
            siege.manage("check_orgs", "--fix")
        siege.attacker().close()


@contextmanager
def grants(siege: Siege) -> Iterator[None]:
    """It names every other role in grants and policies, and keeps the transaction open."""
    siege.manage("create_org", "Doomed Ltd", f"--email={EMAIL}")
    (doomed,) = siege.row("SELECT role_name FROM organizations WHERE name = 'Doomed Ltd'")
    with siege.attacker() as own, own.transaction():
        roles = own.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'orgrole%' AND rolname <> current_user"
        ).fetchall()
        for (role,) in roles:
            name = sql.Identifier(role)
            own.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
            policy = sql.Identifier(f"for_{role}")
            own.execute(sql.SQL("CREATE POLICY {} ON users TO {}").format(policy, name))
        if doomed not in {role for (role,) in roles}:
            raise NoEffect("it does not see the others' roles")
        yield
        siege.manage("delete_org", "Doomed Ltd", "--yes")
        siege.manage("reconcile_orgs", "--wait=1")
        members = siege.row(
            "SELECT count(*) FROM pg_auth_members WHERE roleid = %s::regrole "
            "AND member = 'orgmgmt'::regrole AND inherit_option",
            siege.where["user"],
        )
        if members != (0,):
            raise ServerFailed("the application is left a member of the attacker's role")


@contextmanager
def migrations_as_a_view(siege: Siege) -> Iterator[None]:
    """`django_migrations` is a view that sleeps, while migrate_orgs verifies all organizations."""
    with siege.attacker() as own:
        own.execute("ALTER TABLE django_migrations RENAME TO kept")
        own.execute("CREATE VIEW django_migrations AS SELECT kept.* FROM kept, pg_sleep(600)")
    try:
        yield
        try:
            siege.manage("migrate_orgs", "--verify")
        except ServerFailed as error:
            if ATTACKER not in str(error) or any(name in str(error) for name in OTHERS):
                raise
        else:
            raise NoEffect("its database was looked at as if nothing were the matter")
    finally:
        with siege.attacker() as own:
            own.execute("DROP VIEW django_migrations")
            own.execute("ALTER TABLE kept RENAME TO django_migrations")


@contextmanager
def trigger_that_keeps(siege: Siege) -> Iterator[None]:
    """A trigger lets no row be deleted, while expired rows are."""
    with siege.attacker() as own:
        own.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        own.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON login_sessions FOR EACH ROW EXECUTE "
            "FUNCTION keep()"
        )
        own.execute("UPDATE login_sessions SET expires_at = now() - interval '400 days'")
    try:
        yield
        siege.manage("prune")
        with siege.attacker() as own:
            left = own.execute("SELECT count(*) FROM login_sessions").fetchone()
        if left == (0,):
            raise NoEffect("its rows were deleted")
    finally:
        with siege.attacker() as own:
            own.execute("DROP FUNCTION keep CASCADE")


Attack = Callable[[Siege], AbstractContextManager[None]]
ATTACKS: dict[str, Attack] = {
    "view": view_that_sleeps,
    "swallow": view_that_swallows_cancels,
    "locks": locks,
    "connections": connections,
    "settings": settings,
    "grants": grants,
    "migrations": migrations_as_a_view,
    "trigger": trigger_that_keeps,
}


def attempt(siege: Siege, name: str, requests: int, *, times: bool) -> str:
    """Problems of one attack; empty if only its own organization felt it."""
    quiet = siege.others(max(100, requests // 4))
    try:
        with ATTACKS[name](siege):
            during = siege.others(requests)
    except NoEffect as error:
        return f"no attack: {error}"
    limit = max(_LEAST_SECONDS, _TIMES * quiet.p99)
    print(
        f"{name:12} {len(during.statuses)} requests of others, {during.failed} failed, "
        f"p99 {during.p99 * 1000:.0f} ms (quiet {quiet.p99 * 1000:.0f})",
        flush=True,
    )
    if quiet.failed or during.failed:
        return f"noticed: {sorted(set(during.statuses + quiet.statuses))}"
    if times and during.p99 > limit:
        return f"noticed: p99 {during.p99 * 1000:.0f} ms"
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--only", choices=ATTACKS, action="append")
    parser.add_argument("--no-times", action="store_true", help="count failures alone")
    options = parser.parse_args(arguments)
    wrong = {}
    with Siege() as siege:
        for name in options.only or ATTACKS:
            try:
                why = attempt(siege, name, options.requests, times=not options.no_times)
            except (ServerFailed, psycopg.Error) as error:
                why = str(error)
            if why:
                wrong[name] = why
                print(f"{name:12} {why}", flush=True)
    passed = len(options.only or ATTACKS) - len(wrong)
    print(f"{passed} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
