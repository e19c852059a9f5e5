"""`make life-storm`: acts on organizations at random, kills at random, and counts what is lost.

    python -m tests.faults.life_storm --organizations 50 --acts 300 --seed 7

Clients create users and remember which were acknowledged. Meanwhile two operators suspend, resume,
rename, back up and so on, and something is killed (SIGKILL) again and again: the operator's own
process in the middle of an act, the web server, the worker. Afterwards every acknowledged user must
be in its own organization's database, and everything must be what its row says. Exit code 1 if not.
"""

import argparse
import http.client
import json
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg

from tests.faults.kill_storm import leftovers, print_counts
from tests.real_server import PROJECT, RealServer

CLIENTS = 4
OPERATORS = 2
PASSWORD = "storm and stress 42"
# While processes die, an answer can be late, but none takes this long.
REQUEST_SECONDS = 60
# Of 100 acts, those whose process is killed, and how long it lives at most.
KILLED = 20
LONGEST_LIFE_SECONDS = 0.5
# Between two kills of the web server or the worker.
KILL_SECONDS = (4.0, 10.0)
RECONCILIATIONS = 5
# A process of its own that runs commands without starting anew for each.
OPERATOR = """
import io, json, sys, django
django.setup()
from django.core.management import call_command
from django.core.management.base import CommandError
print("done", flush=True)
for line in sys.stdin:
    try:
        call_command(*json.loads(line), stdout=io.StringIO(), stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        print(f"refused: {error}".replace("\\n", " "), flush=True)
    else:
        print("done", flush=True)
"""
_NAME = "SELECT name FROM organizations WHERE id = %s"
_STATUS = "SELECT status FROM organizations WHERE id = %s"
_DATABASE = "SELECT database_name FROM organizations WHERE id = %s"
_DATABASE_OF = "SELECT database_name FROM organizations WHERE name = %s"
_TRASHED = "SELECT id FROM organizations WHERE status = 'trashed'"
_ARCHIVED = "SELECT name FROM organizations WHERE status = 'archived'"
_BACKUPS = "SELECT key FROM backup_runs WHERE organization_id = %s ORDER BY id"
# Of those that have switched: the backup, or empty if one was undone.
_RESTORES = """SELECT CASE WHEN is_undo THEN '' ELSE backup END FROM restores
    WHERE organization_id = %s AND state <> 'failed' ORDER BY id"""


@dataclass
class Company:
    """An organization, and the users that must be in its database. domain: of its addresses alone.

    backups: by key, the users that were acknowledged before it began. before_restore: those that
    must be in the database that the newest restore keeps.
    """

    id: int
    domain: str
    token: str = ""
    users: set[str] = field(default_factory=set)
    is_being_acted_on: bool = False
    backups: dict[str, set[str]] = field(default_factory=dict)
    before_restore: set[str] | None = None


@dataclass
class Outcome:
    """What a storm met. answers: by HTTP status; 0: none. acts: by name and how they ended."""

    answers: Counter[int] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fault_count(self) -> int:
        return sum(len(found) for found in self.faults.values())


# In a random order each meets each state; what opens an organization is mostly what its state asks.
ACTS = (
    *("suspend_org", "resume_org", "rename_org", "clone_org", "archive_org", "thaw_org"),
    *("backup_orgs", "backup_orgs", "verify_backups", "restore_org", "restore_org", "undo"),
    *("delete_org", "undelete_org"),
)
OPENS = {"suspended": "resume_org", "archived": "thaw_org", "trashed": "undelete_org"}
# Of 100 acts, those that fit the state. The others are refused.
FITTING = 75


class Killed(Exception):
    """The operator's process was killed in the middle of a command."""


class Operator:
    """Runs commands in a process of its own, which can be killed."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._process: subprocess.Popen[str] | None = None

    def run(self, *command: str, lives: float | None = None) -> str:
        """`done`, or why it was refused. lives: seconds until it is killed. Raises Killed."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        dead = threading.Event()

        def kill() -> None:
            dead.set()
            process.kill()

        timer = None if lives is None else threading.Timer(lives, kill)
        if timer is not None:
            timer.start()
        said = self._read(process)
        if timer is not None:
            timer.cancel()
            timer.join()
            if said and dead.is_set():
                self.stop()  # It was killed just after it had answered.
        if not said:
            self.stop()
            if lives is None:
                raise RuntimeError(f"{command[0]} ended by itself")
            raise Killed
        return said

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OPERATOR],
            cwd=PROJECT,
            env={**self._server.environment, "DJANGO_SETTINGS_MODULE": "orgmgmt.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._read(self._process) == "done"
        return self._process

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


class Storm:
    """Clients that write, operators that act, and a thread that kills."""

    def __init__(self, server: RealServer, *, organizations: int, acts: int, seed: int) -> None:
        self._server = server
        self._acts_left = acts
        self._seed = seed
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._companies = [self._signed_up(number) for number in range(organizations)]
        self._errors: list[BaseException] = []

    def run(self) -> Outcome:
        operators = [Operator(self._server) for _ in range(OPERATORS)]
        acting = [self._thread(self._operate, each, n) for n, each in enumerate(operators)]
        others = [self._thread(self._write, number) for number in range(CLIENTS)]
        others.append(self._thread(self._kill))
        for thread in acting:
            thread.join()
        self._over.set()
        for thread in others:
            thread.join()
        for operator in operators:
            operator.stop()
        if self._errors:
            raise self._errors[0]
        self._conclude()
        return self._outcome

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._errors.append(error)
                self._over.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _signed_up(self, number: int) -> Company:
        domain = f"life{number}.example"
        email = f"admin@{domain}"
        status, answer = self._server.sign_up(f"Life {number}", email=email, password=PASSWORD)
        assert status == 201, answer
        return Company(int(answer["id"]), domain, users={email})

    # --- Clients ---------------------------------------------------------------------------------
    def _write(self, client: int) -> None:
        moments = random.Random(self._seed * 1_000 + client)
        count = 0
        while not self._over.is_set():
            company = moments.choice(self._companies)
            count += 1
            email = f"u{client}.{count}@{company.domain}"
            status = 0
            with suppress(OSError, http.client.HTTPException):
                status = self._create_user(company, email)
            with self._lock:
                self._outcome.answers[status] += 1
                if status == 201:
                    company.users.add(email)
            if status != 201:  # Suspended, or the server is being started again.
                time.sleep(0.2)

    def _create_user(self, company: Company, email: str) -> int:
        if not company.token:
            admin = f"admin@{company.domain}"
            body = {"organization": self._name(company), "email": admin, "password": PASSWORD}
            status, answer = self._server.post("/api/v1/auth/token/", body)
            if status != 200:
                return int(status)
            company.token = answer["access"]
        body = {"email": email, "password": PASSWORD}
        status = self._ask("POST", "/api/v1/users/", company.token, body)
        if status == 401:
            company.token = ""
        return status

    def _ask(self, method: str, path: str, token: str, body: object) -> int:
        port = self._server.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    # --- Operators -------------------------------------------------------------------------------
    def _operate(self, operator: Operator, number: int) -> None:
        moments = random.Random(self._seed * 2_000 + number)
        while not self._over.is_set() and self._next_act():
            company = self._taken(moments)
            act = self._chosen(moments, company)
            lives = None
            if moments.randrange(100) < KILLED:
                lives = moments.uniform(0, LONGEST_LIFE_SECONDS)
            try:
                said = self._act(act, company, partial(operator.run, lives=lives))
            except Killed:
                said = "killed"
            finally:
                company.is_being_acted_on = False
            with self._lock:
                self._outcome.acts[f"{act}: {said.partition(':')[0]}"] += 1

    def _chosen(self, moments: random.Random, company: Company) -> str:
        status = str(self._rows("master_org_db", _STATUS, company.id)[0])
        fits = moments.randrange(100) < FITTING
        if fits and status in OPENS:
            return OPENS[status]
        others = [act for act in ACTS if not fits or act not in OPENS.values()]
        return moments.choice(others)

    def _act(self, act: str, company: Company, run: Callable[..., str]) -> str:
        name = self._name(company)
        if act == "rename_org":
            return run(act, name, f"Life {company.id} {secrets.token_hex(3)}")
        if act in ("backup_orgs", "archive_org"):
            return self._back_up(company, lambda: run(act, name))
        if act in ("restore_org", "undo"):
            if act == "undo" and company.before_restore is None:
                return "refused: nothing to undo"
            undo = ["--undo"] if act == "undo" else []
            return self._restore(company, lambda: run("restore_org", name, "--yes", *undo))
        if act == "delete_org":
            return run(act, name, "--yes")
        if act == "clone_org":
            return self._clone(name, run)
        return run(act, name)

    def _back_up(self, company: Company, run: Callable[[], str]) -> str:
        with self._lock:
            users = set(company.users)
        try:
            return run()
        finally:
            for key in self._rows("master_org_db", _BACKUPS, company.id):
                company.backups.setdefault(key, users)

    def _restore(self, company: Company, run: Callable[[], str]) -> str:
        before = len(self._rows("master_org_db", _RESTORES, company.id))
        with self._lock:
            users = set(company.users)
        try:
            return run()
        except Killed:
            # Whether it has switched is on its row, and reconciling finishes it.
            self._server.manage("reconcile_orgs")
            raise
        finally:
            # What was acknowledged meanwhile is in the database of before or of now.
            done = self._rows("master_org_db", _RESTORES, company.id)[before:]
            with self._lock:
                for backup in done:
                    if backup:
                        company.users, company.before_restore = set(company.backups[backup]), users
                    elif company.before_restore is not None:
                        company.users, company.before_restore = company.before_restore, None

    def _clone(self, name: str, run: Callable[..., str]) -> str:
        """Clone it, look whether an address was left, and delete the clone."""
        clone = f"Copy {secrets.token_hex(4)}"
        said = run("clone_org", name, clone)
        if said == "done":
            database = self._rows("master_org_db", _DATABASE_OF, clone)[0]
            kept = self._rows(database, "SELECT email FROM users WHERE email LIKE '%%@life%%'")
            with self._lock:
                self._outcome.faults.setdefault("addresses in clones", []).extend(kept)
            run("delete_org", clone, "--yes", "--now", "--without-backup")
        return said

    def _next_act(self) -> bool:
        with self._lock:
            self._acts_left -= 1
            return self._acts_left >= 0

    def _taken(self, moments: random.Random) -> Company:
        """One that the other operator leaves alone meanwhile."""
        while True:
            company = moments.choice(self._companies)
            with self._lock:
                if not company.is_being_acted_on:
                    company.is_being_acted_on = True
                    return company

    def _name(self, company: Company) -> str:
        return self._rows("master_org_db", _NAME, company.id)[0]

    # --- Kills -----------------------------------------------------------------------------------
    def _kill(self) -> None:
        moments = random.Random(self._seed * 3_000)
        while True:
            with self._server.working() as worker:
                if self._over.wait(moments.uniform(*KILL_SECONDS)):
                    return
                if moments.randrange(2):
                    worker.kill()
                    self._outcome.kills["worker"] += 1
            if moments.randrange(2):
                self._server.kill()
                self._server.start()
                self._outcome.kills["web server"] += 1

    # --- Afterwards ------------------------------------------------------------------------------
    def _conclude(self) -> None:
        faults = self._outcome.faults
        for _ in range(RECONCILIATIONS):
            self._server.manage("reconcile_orgs")
        for number in self._rows("master_org_db", _TRASHED):
            self._server.manage("undelete_org", "--id", number)
        for name in self._rows("master_org_db", _ARCHIVED):
            self._server.manage("thaw_org", name)
        faults |= leftovers(self._server.postgres.superuser_parameters("master_org_db"))
        faults["answers that nobody expects"] = [
            str(status)
            for status in self._outcome.answers
            if status not in (0, 201, 401, 403, 404, 409, 503)
        ]
        faults["acknowledged users that are lost"] = lost = []
        faults["users of another organization"] = crossed = []
        for company in self._companies:
            found = self._users_of(company)
            lost += sorted(company.users - found)
            crossed += [each for each in found if not each.endswith(f"@{company.domain}")]

    def _users_of(self, company: Company) -> set[str]:
        database = self._rows("master_org_db", _DATABASE, company.id)[0]
        return set(self._rows(database, "SELECT email FROM users"))

    def _rows(self, database: str, query: str, *parameters: object) -> list[str]:
        to = self._server.postgres.superuser_parameters(database)
        with psycopg.connect(**to, connect_timeout=30) as connection:  # type: ignore[arg-type]
            return [str(row[0]) for row in connection.execute(query.encode(), parameters)]


def run(*, organizations: int, acts: int, seed: int) -> Outcome:
    """Run the storm against gunicorn with 2 processes, and a worker."""
    environment = {"WEB_CONCURRENCY": "2", "WEB_THREADS": "4", "ORG_DELETION_GRACE_DAYS": "30"}
    # Without it nothing is restored, archived or thawed.
    with (
        tempfile.TemporaryDirectory() as files,
        RealServer(environment={**environment, "MEDIA_ROOT": files}) as server,
    ):
        return Storm(server, organizations=organizations, acts=acts, seed=seed).run()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.life_storm")
    parser.add_argument("--organizations", type=int, default=50, help="default: 50")
    parser.add_argument("--acts", type=int, default=300, help="default: 300")
    parser.add_argument("--seed", type=int, help="of the random choices (default: a new one)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    outcome = run(organizations=options.organizations, acts=options.acts, seed=seed)
    rows = [("seed", seed)]
    rows += [(f"answered {status}", count) for status, count in sorted(outcome.answers.items())]
    rows += sorted(outcome.acts.items())
    rows += [(f"kills of the {what}", count) for what, count in outcome.kills.items()]
    print_counts(rows, outcome.faults)
    return 1 if outcome.fault_count else 0


if __name__ == "__main__":
    sys.exit(main())
