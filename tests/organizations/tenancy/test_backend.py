"""The database backend: no cursor on an organization's alias outside its block."""

import _thread
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import NoTenant, WrongTenant
from tests.conftest import Company

from .conftest import TWIN_ID, Twins, rows

ATTEMPTS: dict[str, Callable[[str], object]] = {
    "a cursor": lambda alias: connections[alias].cursor(),
    "a server-side cursor": lambda alias: connections[alias].chunked_cursor(),
    "a bound queryset": lambda alias: list(User.objects.using(alias)),
    "a bound iterator": lambda alias: list(User.objects.using(alias).iterator()),
    "a bound raw query": lambda alias: list(User.objects.using(alias).raw("SELECT * FROM users")),
    "a bound update": lambda alias: User.objects.using(alias).update(is_admin=False),
    "a bound delete": lambda alias: User.objects.using(alias).all().delete(),
    "a bound save": lambda alias: User(email="x@x.example").save(using=alias),
    "a bound create": lambda alias: User.objects.using(alias).create(email="x@x.example"),
    "a look at the tables": lambda alias: connections[alias].introspection.table_names(),
}


@pytest.fixture
def known(alpha: Company) -> str:
    """alpha's alias, known to the process."""
    with tenancy.override(alpha.tenant):
        User.objects.exists()
    return alpha.tenant.alias


@pytest.mark.usefixtures("twins")
def test_outside_of_a_block_is_refused(known: str, alpha: Company) -> None:
    before = rows(alpha)
    for attempt, act in ATTEMPTS.items():
        with pytest.raises(NoTenant, match=f"The database {known}"):
            act(known)
            pytest.fail(f"not refused: {attempt}")
        assert rows(alpha) == before, f"{attempt} changed alpha's rows"


@pytest.mark.usefixtures("twins")
def test_inside_anothers_block_is_refused(known: str, alpha: Company, beta: Company) -> None:
    before = rows(alpha), rows(beta)
    why = f"belongs to {known}, but {beta.tenant.alias} is active"
    for attempt, act in ATTEMPTS.items():
        with tenancy.override(beta.tenant), pytest.raises(WrongTenant, match=why):
            act(known)
            pytest.fail(f"not refused: {attempt}")
        assert (rows(alpha), rows(beta)) == before, f"{attempt} changed rows"


def test_inside_override_none_is_refused(known: str, alpha: Company) -> None:
    with tenancy.override(alpha.tenant), tenancy.override(None), pytest.raises(NoTenant):
        connections[known].cursor()


def test_a_wrapper_kept_from_its_block_is_refused_afterwards(alpha: Company, beta: Company) -> None:
    with tenancy.override(alpha.tenant):
        kept: BaseDatabaseWrapper = tenancy.connection()
        kept.ensure_connection()
    with pytest.raises(NoTenant):
        kept.cursor()
    with tenancy.override(beta.tenant), pytest.raises(WrongTenant):
        kept.cursor()


def test_a_transaction_on_anothers_alias_cannot_be_used(
    known: str, alpha: Company, beta: Company, twins: Twins
) -> None:
    before = rows(alpha), rows(beta)
    with tenancy.override(beta.tenant):
        with pytest.raises(WrongTenant), transaction.atomic(using=known):
            User.objects.using(known).filter(pk=TWIN_ID).delete()
        connections[known].close()
    assert (rows(alpha), rows(beta)) == before, "rows changed"


def test_inside_its_own_block_an_alias_works(known: str, alpha: Company) -> None:
    with tenancy.override(alpha.tenant), connections[known].cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (alpha.organization.database_name,)
    with tenancy.override(alpha.tenant):
        found = User.objects.using(known).filter(email=alpha.email).iterator()
        assert [user.email for user in found] == [alpha.email]


@pytest.fixture
def mute_server(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that looks like a PostgreSQL that is slow to answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        listener.settimeout(10)
        yield listener


def test_an_interrupted_connect_leaves_no_half_open_connection(
    known: str, alpha: Company, mute_server: socket.socket, tmp_path: Path
) -> None:
    """A backend in the middle of a login keeps every DROP DATABASE of the server waiting."""
    backend: list[socket.socket] = []

    def interrupt() -> None:
        backend.append(mute_server.accept()[0])
        assert backend[0].recv(4096), "the start of a login"
        _thread.interrupt_main()

    with tenancy.override(alpha.tenant):
        wrapper = connections[known]
        wrapper.settings_dict = {**wrapper.settings_dict, "HOST": str(tmp_path), "PORT": 5432}
        thread = threading.Thread(target=interrupt)
        thread.start()
        # The error is alive while its cleaning up goes on.
        with pytest.raises(KeyboardInterrupt) as interrupted:
            wrapper._connect()  # type: ignore[attr-defined]
        thread.join()
    with backend[0] as client:
        client.settimeout(2)
        assert client.recv(4096) == b"", "the client holds the connection open"
    assert interrupted.value.__traceback__ is not None
