"""A database kept aside is out of reach, and comes back intact, even after a crash in between."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import transaction
from django.test import Client
from psycopg import sql

from accounts.models import User
from organizations import tenancy
from organizations.errors import DatabaseGone, DatabaseKept, SessionsRemain
from organizations.inspecting import checking
from organizations.postgres import aside, identity, transfer
from organizations.postgres.identity import Expected, State
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning.undoing import expected
from organizations.secrets import unseal
from tests.conftest import Company, Superuser
from tests.plugin import SERVER

from . import helpers

_FACTS = """
SELECT pg_get_userbyid(datdba)::text, datallowconn, rolcanlogin
FROM pg_database, pg_roles WHERE datname = %s AND rolname = %s
"""
OPEN = (True, True)


class Killed(Exception):
    """As if the process died here."""


@pytest.fixture
def kept(company: Callable[..., Company]) -> Iterator[tuple[Company, Expected]]:
    """An organization, and what a row would say that keeps its database aside."""
    made = company()
    let_in = expected(made.organization)
    said = replace(let_in, state=State.ASIDE, deletion="d" * 32, was_aside=True)
    with open_session() as session, transaction.atomic():
        identity.change(session, let_in, state=State.ASIDE, deletion=said.deletion)
    yield made, said
    with open_session() as session:
        aside.bring_back(session, identity.certain(session, said), name=made.name)
        with transaction.atomic():
            identity.change(session, said, state=State.LET_IN, deletion="")


def facts(superuser: Superuser, company: Company) -> tuple[object, ...] | None:
    row = company.organization
    return superuser.execute(_FACTS, (row.database_name, row.role_name)).fetchone()


def owner(company: Company) -> "psycopg.Connection[Any]":
    row = company.organization
    password = unseal(row.sealed_password, owner=row.name)
    where = transfer.parameters(row.database_name, row.role_name, password)
    return psycopg.connect(**where, autocommit=True)


def put_aside(company: Company, said: Expected) -> None:
    with open_session() as session:
        aside.put_aside(session, identity.certain(session, said), name=company.name)


def is_aside(company: Company) -> bool:
    row = company.organization
    with open_session() as session:
        return not aside.not_aside(session, [(row.role_name, row.database_name)])


def test_nobody_reaches_a_database_that_is_aside(
    kept: tuple[Company, Expected], beta: Company, superuser: Superuser, client: Client
) -> None:
    company, said = kept
    row, guest = company.organization, beta.organization
    database = sql.Identifier(row.database_name)
    grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}")
    superuser.execute(grant.format(database, sql.Identifier(guest.role_name)))
    password = unseal(guest.sealed_password, owner=guest.name)
    where = transfer.parameters(row.database_name, guest.role_name, password)
    watching = psycopg.connect(
        **SERVER.superuser_parameters(row.database_name),  # type: ignore[arg-type]
        autocommit=True,
    )
    with (
        watching,
        owner(company) as own,
        psycopg.connect(**where, autocommit=True) as visitor,
    ):
        # Whoever owns it may hold locks and make it anybody's template.
        own.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(database))
        own.execute("BEGIN")
        own.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '1MB'").format(database))
        assert not is_aside(company)
        put_aside(company, said)
        for ended in (own, visitor):
            with pytest.raises(psycopg.OperationalError):
                ended.execute("SELECT 1")
        watching.execute("SELECT 1")
    assert is_aside(company)
    assert facts(superuser, company) == ("orgmgmt", False, False)
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        owner(company)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(**where)

    with open_session() as session:
        aside.bring_back(session, identity.certain(session, said), name=company.name)
        aside.bring_back(session, identity.certain(session, said), name=company.name)
    assert facts(superuser, company) == (row.role_name, *OPEN)
    with tenancy.override(company.tenant):
        assert User.objects.get().email == company.email


def test_what_is_brought_back_has_the_privileges_of_before(
    kept: tuple[Company, Expected],
) -> None:
    company, said = kept
    put_aside(company, said)
    with open_session() as session:
        aside.bring_back(session, identity.certain(session, said), name=company.name)
        with transaction.atomic():
            identity.change(session, said, state=State.LET_IN, deletion="")
    try:
        (finding,) = checking.check([company.organization.pk])
        assert finding.problems == ()
    finally:
        with open_session() as session, transaction.atomic():
            identity.change(
                session,
                replace(said, state=State.LET_IN, deletion=""),
                state=State.ASIDE,
                deletion=said.deletion,
            )


@pytest.mark.parametrize("act", [aside.put_aside, aside.bring_back])
def test_whoever_dies_on_the_way_leaves_what_both_ways_can_continue(
    kept: tuple[Company, Expected],
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[..., None],
) -> None:
    company, said = kept
    execute, batch = ServerSession.execute, ServerSession.batch
    deaths = 0
    for steps in range(30):
        if act is aside.bring_back:
            put_aside(company, said)
        left = iter(range(steps))

        def dying(run: Callable[..., None], left: Iterator[int] = left) -> Callable[..., None]:
            def wrapped(self: ServerSession, *given: Any, **named: Any) -> None:
                if next(left, None) is None and "REVOKE" not in str(given[0]):
                    self.connection.close()
                    raise Killed
                run(self, *given, **named)

            return wrapped

        monkeypatch.setattr(ServerSession, "execute", dying(execute))
        monkeypatch.setattr(ServerSession, "batch", dying(batch))
        try:
            with open_session(new=True) as session:
                act(session, identity.certain(session, said), name=company.name)
            died = False
        except Killed:
            died = True
        monkeypatch.undo()
        deaths += died
        # Either way, by what the row and the identity say.
        put_aside(company, said)
        assert is_aside(company)
        with open_session() as session:
            aside.bring_back(session, identity.certain(session, said), name=company.name)
        assert facts(superuser, company) == (company.organization.role_name, *OPEN)
        if not died:
            break
    assert deaths >= 2


def test_only_the_row_that_keeps_it_aside_may_touch_it(kept: tuple[Company, Expected]) -> None:
    company, said = kept
    put_aside(company, said)
    others = (
        replace(said, state=State.LET_IN, deletion=""),
        replace(said, deletion="e" * 32),
        replace(said, key="f" * 32),
        replace(said, was_aside=False),
    )
    for other in others:
        with open_session() as session, pytest.raises(DatabaseKept):
            identity.certain(session, other)


def test_sessions_that_do_not_end_are_named_and_nothing_is_brought_back_from_nothing(
    kept: tuple[Company, Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, said = kept
    with open_session() as session:
        found = identity.certain(session, said)
        with pytest.raises(DatabaseGone, match="is gone"):
            aside.bring_back(session, replace(found, database=None), name=company.name)
    with monkeypatch.context() as patched:
        patched.setattr("organizations.postgres.databases._END_GUESTS", "SELECT %s, %s")
        helpers.let_live(patched, company)
        patched.setattr("organizations.postgres.fence.FENCE_SECONDS", 0.1)
        with owner(company), pytest.raises(SessionsRemain):
            put_aside(company, said)
    put_aside(company, said)
    assert is_aside(company)
