"""The guard on an organization's database: answers in time and in bounded size, or not at all."""

import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import Error as DatabaseError
from django.db import OperationalError, connections
from django.test import Client
from pytest_django import Settings

from accounts.expiry import prune_sessions
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.tenancy import guard, keeper
from tests.conftest import Company, Superuser
from tests.organizations.helpers import interrupt_a_statement

from .conftest import lent
from .hostile import FOREVER, active, replaced, run, until_none_is_active

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Settings:
    """Short time limits, and a keeper that tries again soon."""
    settings.STATEMENT_TIMEOUT_SECONDS = 0.4
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)
    monkeypatch.setattr(keeper, "_TICK_SECONDS", 0.1)
    return settings


@pytest.fixture
def serving(hurried: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Act as a process of the web server."""
    monkeypatch.setattr(guard, "_serves_requests", True)
    return hurried


def test_a_statement_that_lifts_its_limit_is_cancelled(
    alpha: Company, superuser: Superuser, hurried: Settings
) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        with pytest.raises(OperationalError) as caught:
            cursor.execute("SELECT pg_sleep(600)")
        assert isinstance(caught.value.__cause__, psycopg.errors.QueryCanceled)
        cursor.execute("SELECT 1")  # The session has heard the cancel, and lives on.
    assert active(superuser, alpha) == 0
    assert lent() == 0, "the pool counts it"


def test_a_connection_whose_statement_is_interrupted_can_still_be_used(alpha: Company) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        with pytest.raises(KeyboardInterrupt):
            interrupt_a_statement(cursor.connection)
        cursor.execute("SELECT 1")


def test_a_statement_that_ignores_the_cancel_is_terminated(
    company: object, superuser: Superuser, hurried: Settings
) -> None:
    """Inside a transaction, of which nothing is kept."""
    hostile: Company = company()  # type: ignore[operator]
    run(hostile, FOREVER)
    with tenancy.override(hostile.tenant):
        with pytest.raises(DatabaseError, match="took too long"), tenancy.atomic():
            User.objects.update(is_active=False)
            with tenancy.connection().cursor() as cursor:
                cursor.execute("SELECT forever()")
        assert User.objects.get().is_active, "half of it was done"
    until_none_is_active(superuser, hostile)
    assert lent() == 0, "the pool counts the one that was ended"
    row = superuser.execute(
        "SELECT count(*) FROM pg_auth_members WHERE roleid = %s::regrole AND grantor = member",
        (hostile.organization.role_name,),
    ).fetchone()
    assert row == (0,), "the application has remained a member of the role"


def test_its_back_end_is_terminated_once_the_master_answers_again(
    company: object, superuser: Superuser, hurried: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    hostile: Company = company()  # type: ignore[operator]
    run(hostile, FOREVER)
    superuser.execute("ALTER DATABASE master_org_db CONNECTION LIMIT 0")
    # Of kept sessions too.
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = 'master_org_db' AND pid <> %s",
        (connections["default"].connection.info.backend_pid,),
    )
    try:
        with pytest.raises(DatabaseError, match="took too long"):
            run(hostile, "SELECT forever()")
        deadline = time.monotonic() + 30
        while "abandoned statement still runs" not in caplog.text:
            assert time.monotonic() < deadline, "nobody was told"
            time.sleep(0.02)
        assert active(superuser, hostile) == 1
    finally:
        superuser.execute("ALTER DATABASE master_org_db CONNECTION LIMIT -1")
    until_none_is_active(superuser, hostile)
    keeper.end("a role that is gone", hostile.organization.database_name, 1)
    assert keeper.shared.flush(30), "it is asked for over and over"


def test_a_block_gives_a_statement_the_time_it_says(alpha: Company, hurried: Settings) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT 1")  # Opened under the longer limit.
        hurried.STATEMENT_TIMEOUT_SECONDS = 0.2
        with tenancy.time_limit(None):
            cursor.execute("SELECT pg_sleep(0.5)")
        with tenancy.time_limit(0.1), pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(600)")


def test_the_request_time_limit_ends_a_block_of_short_statements(
    alpha: Company, serving: Settings
) -> None:
    serving.REQUEST_TIMEOUT_SECONDS = 0.3
    with tenancy.override(alpha.tenant), pytest.raises(OperationalError) as caught:
        for _ in range(1_000):
            with tenancy.connection().cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.02)")
    assert isinstance(caught.value.__cause__, psycopg.errors.QueryCanceled)


def test_a_result_of_gigabytes_is_refused_and_not_gathered(
    alpha: Company, superuser: Superuser, settings: Settings
) -> None:
    settings.ORG_MAX_ANSWER_BYTES = 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatabaseError, match="ORG_MAX_ANSWER_BYTES"):
        run(alpha, "SELECT repeat('x', 1000000) FROM generate_series(1, 3000)")
    grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kilobytes < 200_000, "the answer was gathered"
    until_none_is_active(superuser, alpha)


def test_an_error_of_megabytes_is_cut_short(alpha: Company) -> None:
    with pytest.raises(DatabaseError) as caught:
        run(alpha, "DO $$BEGIN RAISE 'x%', repeat('x', 1000000); END$$")
    assert len(str(caught.value)) < 20_000


def test_more_rows_than_the_limit_are_refused(alpha: Company, settings: Settings) -> None:
    settings.ORG_MAX_ANSWER_ROWS = 1_000
    view = "SELECT kept.* FROM kept, generate_series(1, 1001)"
    with replaced(alpha, "users", view), tenancy.override(alpha.tenant):
        with pytest.raises(DatabaseError, match=r"iterate with QuerySet\.iterator\(\)"):
            list(User.objects.all())
        assert sum(1 for _ in User.objects.iterator()) == 1_001, "an iterator is bounded by itself"


def test_a_users_table_that_sleeps_holds_up_its_own_organization_alone(
    alpha: Company, beta: Company, client: Client, serving: Settings
) -> None:
    """Six threads, two of which are one organization's at most."""
    serving.STATEMENT_TIMEOUT_SECONDS, serving.ORG_MAX_THREADS = 1, 2
    ours = {"Authorization": f"Bearer {beta.token(client)}"}
    theirs = {"Authorization": f"Bearer {alpha.token(client)}"}
    answered: list[tuple[int, str]] = []
    done = threading.Event()

    def attack() -> None:
        while not done.is_set():
            response = Client().get("/api/v1/me/", headers=theirs)
            answered.append((response.status_code, response.json()["code"]))
            if response.json()["code"] == "too_busy":
                assert response.headers["Retry-After"] == "2"
                done.wait(0.02)
        connections.close_all()

    with replaced(alpha, "users", "SELECT * FROM kept WHERE forever()"):
        with ThreadPoolExecutor(5) as threads:
            attacks = [threads.submit(attack) for _ in range(5)]
            try:
                deadline = time.monotonic() + 30
                while (503, "too_busy") not in answered:
                    assert time.monotonic() < deadline, "nobody was refused"
                    time.sleep(0.01)
                for _ in range(20):
                    assert client.get("/api/v1/me/", headers=ours).status_code == 200
                while (503, "took_too_long") not in answered:
                    assert time.monotonic() < deadline, "nobody was let go"
                    time.sleep(0.01)
            finally:
                done.set()
        for each in attacks:
            each.result()
    assert set(answered) == {(503, "too_busy"), (503, "took_too_long")}
    assert client.get("/api/v1/me/", headers=theirs).status_code == 200


def test_threads_of_one_organization_wait_for_each_other(alpha: Company, serving: Settings) -> None:
    serving.ORG_MAX_THREADS = 1
    with ThreadPoolExecutor(1) as threads:
        with tenancy.override(alpha.tenant):
            User.objects.get()
            waiting = threads.submit(emails, alpha)
            time.sleep(0.5)  # As a password's hash takes on a busy machine.
            assert not waiting.done()
        assert waiting.result(timeout=30) == [alpha.email]


def emails(company: Company) -> list[str]:
    with tenancy.override(company.tenant):
        return [user.email for user in User.objects.all()]


@pytest.fixture
def expired(alpha: Company) -> Iterator[None]:
    """Logins that have expired."""
    with tenancy.override(alpha.tenant):
        user = User.objects.get(email=alpha.email)
        made = [
            LoginSession.objects.create(
                user=user,
                kind=LoginSession.Kind.TOKEN,
                token_version=user.token_version,
                expires_at="2020-01-01T00:00:00Z",
            )
            for _ in range(3)
        ]
    yield
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(pk__in=[session.pk for session in made]).delete()


@pytest.mark.usefixtures("expired")
@pytest.mark.timeout(60)
def test_rows_that_a_trigger_keeps_do_not_keep_pruning_busy(alpha: Company) -> None:
    table = LoginSession._meta.db_table
    run(
        alpha,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
        f"CREATE TRIGGER keep BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    asked = iter(range(20))
    try:
        with tenancy.override(alpha.tenant):
            assert prune_sessions(goes_on=lambda: next(asked, None) is not None) == 0
        assert next(asked) == 1, "it went on"
    finally:
        run(alpha, "DROP FUNCTION keep CASCADE")
