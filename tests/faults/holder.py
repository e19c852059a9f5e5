"""Superuser sessions that hold a flow with locks, and tell what it waits for."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from tests.faults.attempts import Attempt
from tests.faults.world import Superuser, World

HOLD_SECONDS = 15.0
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'org%' "
    "AND (wait_event_type = 'Lock' OR wait_event = 'SyncRep')"
)


class NotHeld(Exception):
    """The flows did not reach the step that holds them."""


class Lock:
    """Locks in one database: requested at once, held when `wait` returns."""

    def __init__(self, world: World, database: str, statement: str) -> None:
        self.connection: Superuser = world.connect(database)
        self.pid = self.connection.info.backend_pid
        self._statement = statement
        self._has = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        with suppress(psycopg.Error):
            self.connection.execute("BEGIN")
            self.connection.execute(self._statement.encode())
            self._has.set()

    @property
    def has(self) -> bool:
        return self._has.is_set()

    def wait(self, seconds: float = HOLD_SECONDS) -> None:
        if not self._has.wait(seconds):
            raise NotHeld(f"Not had: {self._statement}")

    def release(self) -> None:
        with suppress(psycopg.Error, OSError):
            self.connection.cancel_safe(timeout=2)
        with suppress(psycopg.Error):
            self.connection.close()
        self._thread.join(5)


@dataclass
class Holder:
    """Holds the attempts of one batch at their step."""

    world: World
    attempts: Mapping[str, Attempt]
    held: list[Lock] = field(default_factory=list)
    syncing: bool = False
    watcher: Superuser | None = None

    def take(self, statement: str, databases: Sequence[str] = ("master_org_db",)) -> None:
        """Take this lock, and release the one before."""
        before, self.held = self.held, []
        self.held = [Lock(self.world, database, statement) for database in databases]
        deadline = time.monotonic() + HOLD_SECONDS
        while before and not all(lock.has or self._queues(lock) for lock in self.held):
            _sleep_until(deadline, "A lock was neither had nor waited for.")
        _release(before)
        for lock in self.held:
            lock.wait()

    def take_commits(self) -> None:
        """Hold whatever commits next: it waits for a standby that does not exist."""
        with self.world.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            connection.execute("SELECT pg_reload_conf()")
            self.syncing = True
            deadline = time.monotonic() + HOLD_SECONDS
            while connection.execute("SHOW synchronous_standby_names").fetchone() != ("nobody",):
                _sleep_until(deadline, "The server does not read its configuration.")
        self._wait_until_a_commit_waits(deadline)
        before, self.held = self.held, []
        _release(before)

    def _wait_until_a_commit_waits(self, deadline: float) -> None:
        """The checkpointer tells all sessions at some moment: try with one until it waits."""
        with self.world.connect() as probe:
            thread = threading.Thread(target=_commit_until_it_ends, args=(probe,), daemon=True)
            thread.start()
            pid = probe.info.backend_pid
            query = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"
            while self._watch().execute(query, (pid,)).fetchone() != (True,):
                _sleep_until(deadline, "Commits do not wait.")
            self._watch().execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            thread.join(HOLD_SECONDS)

    def wait_until_held(self) -> None:
        """Return when every unfinished attempt waits. Raises NotHeld."""
        deadline = time.monotonic() + HOLD_SECONDS
        while True:
            unfinished = sum(not attempt.is_over for attempt in self.attempts.values())
            if unfinished == 0 or self._waiting() == unfinished:
                return
            _sleep_until(deadline, f"{unfinished} under way, {self._waiting()} wait.")

    def release(self) -> None:
        """Release all locks. Does nothing if the server is gone."""
        before, self.held = self.held, []
        _release(before)
        if self.syncing:
            with suppress(psycopg.Error), self.world.connect() as connection:
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("SELECT pg_reload_conf()")
                self.syncing = False
            if self.syncing:  # The server is down: what it will read when it starts.
                folder = self.world.postgres.data_dir / "postgres"
                (folder / "postgresql.auto.conf").write_text("")
                self.syncing = False
        if self.watcher is not None:
            self.watcher.close()
        self.watcher = None

    def _watch(self) -> Superuser:
        if self.watcher is None or self.watcher.closed:
            self.watcher = self.world.connect()
        return self.watcher

    def _waiting(self) -> int:
        row = self._watch().execute(_WAITING.encode()).fetchone()
        return int(row[0]) if row else 0

    def _queues(self, lock: Lock) -> bool:
        query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
        return self._watch().execute(query, (lock.pid,)).fetchone() == (True,)


def _commit_until_it_ends(session: Superuser) -> None:
    with suppress(psycopg.Error):
        session.execute("SET synchronous_commit = on")
        while True:
            session.execute("SELECT pg_logical_emit_message(true, 'probe', '')")


def _release(locks: Sequence[Lock]) -> None:
    for lock in locks:
        lock.release()


def _sleep_until(deadline: float, words: str) -> None:
    if time.monotonic() > deadline:
        raise NotHeld(words)
    time.sleep(0.004)
