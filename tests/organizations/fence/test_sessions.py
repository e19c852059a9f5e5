"""Which sessions the fence ends, and whom it holds up."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from django.test import Client
from psycopg import sql

from organizations import lifecycle
from organizations.deleting import delete
from organizations.errors import SessionsRemain, TookTooLong
from organizations.models import Organization
from organizations.postgres import fence as fence_module
from organizations.postgres.databases import make_droppable
from organizations.postgres.fence import Change, fence, fence_pending
from organizations.postgres.sessions import open_session
from organizations.recovery import credentials
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of

from .helpers import ME, change_unheard, code_of, let_live, row_of, sessions


class Killed(BaseException):
    """Of the process, between two statements."""


def memberships(superuser: Superuser, company: Company) -> list[tuple[object, ...]]:
    """Who is a member of the organization's role, and how."""
    return superuser.execute(
        "SELECT member::regrole::text, grantor::regrole::text, admin_option, inherit_option, "
        "set_option FROM pg_auth_members WHERE roleid = %s::regrole ORDER BY 1, 2",
        (company.organization.role_name,),
    ).fetchall()


def test_nobody_is_a_member_of_the_role_during_a_fence_or_behind_it(
    served: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = memberships(superuser, served)
    assert [(row[2], row[3], row[4]) for row in before] == [(True, False, False)]
    seen = []
    look = time.sleep

    def look_on(seconds: float) -> None:
        seen.append(memberships(superuser, served))
        look(seconds)

    monkeypatch.setattr(time, "sleep", look_on)
    lifecycle.suspend_organization(row_of(served))
    assert seen, "there was no session to end"
    assert [*seen, memberships(superuser, served)] == [before] * (len(seen) + 1)


def test_a_second_fence_ends_what_the_first_could_not_and_nothing_newer(
    served: Company, superuser: Superuser, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a session that never ends would cost all others theirs, every few seconds."""
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    before = served.organization.slug
    with as_role_of(served.organization) as stays:
        let_live(monkeypatch, served)
        change_unheard(served, slug="renamed-once")
        with pytest.raises(SessionsRemain, match=str(stays.info.backend_pid)):
            fence(row_of(served))
        with as_role_of(served.organization) as newer:
            for _ in range(2):
                assert fence_pending() == ([], [served.name])
            monkeypatch.undo()
            assert fence_pending() == ([served.name], [])
            assert sessions(superuser, served) == 1
            newer.execute("SELECT 1")
            # A later change means all of them again.
            let_live(monkeypatch, served)
            monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
            change_unheard(served, slug="renamed-twice")
            with pytest.raises(SessionsRemain):
                fence(row_of(served))
            monkeypatch.undo()
            with as_role_of(served.organization):
                change_unheard(served, slug=before)
                fence(row_of(served))
                assert sessions(superuser, served) == 0
    assert client.get(ME).status_code == 200


def test_sessions_that_do_not_end_hold_up_no_other_organization(
    served: Company, company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes all the time there is; those behind it have the least."""
    given: list[float] = []
    real = fence_module._end

    def end(*args: Any, within_seconds: float, **options: Any) -> int:
        given.append(within_seconds)
        return real(*args, within_seconds=within_seconds, **options)

    monkeypatch.setattr(fence_module, "_end", end)
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.3)
    stuck = [served, company(), company()]
    other = company()
    let_live(monkeypatch, *stuck)
    with (
        as_role_of(stuck[1].organization),
        as_role_of(stuck[2].organization),
        as_role_of(other.organization),
    ):
        for each in (*stuck, other):
            change_unheard(each, pending_fence="of a killed process")
        assert fence_pending() == ([other.name], [each.name for each in stuck])
        assert given[1:] == [fence_module._LEAST_SECONDS] * 3
    monkeypatch.undo()
    fence_pending()


def test_a_lock_and_a_refusal_are_told_apart_when_the_time_is_over(
    served: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock is somebody else's, and the next try may be quicker; what is refused is named."""
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    role = sql.Identifier(served.organization.role_name)
    change_unheard(served, pending_fence="of a killed process")
    with superuser.transaction(force_rollback=True):
        superuser.execute("LOCK TABLE pg_auth_members IN SHARE MODE")
        with pytest.raises(TookTooLong):
            fence(row_of(served))
    superuser.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(role))
    try:
        with pytest.raises(SessionsRemain, match=r"process ids \d+"):
            fence(row_of(served))
    finally:
        superuser.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER").format(role))
    monkeypatch.undo()
    fence(row_of(served))
    assert sessions(superuser, served) == 0


def test_a_deletion_ends_the_sessions_before_anything_that_can_refuse_it(
    company: Callable[..., Company],
    client: Client,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {made.token(client)}"
    assert client.get(ME).status_code == 200

    def be_killed(*args: object) -> None:
        raise Killed

    monkeypatch.setattr(delete, "undo", be_killed)
    with pytest.raises(Killed):
        lifecycle.delete_organization(row_of(made))
    assert (row_of(made).status, row_of(made).pending_fence) == ("deleting", "")
    assert sessions(superuser, made) == 0
    assert code_of(client.get(ME)) == (401, "invalid_token")
    monkeypatch.undo()
    assert lifecycle.reconcile_organizations()["deleted"] == [made.name]


def test_a_deletion_whose_sessions_do_not_end_names_them_and_drops_nothing(
    company: Callable[..., Company], superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company()
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    let_live(monkeypatch, made)
    with as_role_of(made.organization) as stays:
        with pytest.raises(SessionsRemain, match=str(stays.info.backend_pid)):
            lifecycle.delete_organization(row_of(made))
        assert sessions(superuser, made) > 0
        monkeypatch.undo()
        lifecycle.delete_organization(row_of(made))
    assert row_of(made).status == "deleted"


def test_a_new_password_leaves_another_changes_fence_to_end_all_sessions(
    served: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own fence spares what was opened since; whoever made the other change may be dead."""
    with ExitStack() as scope:

        def change_meanwhile(organization: Organization, *, after: Change) -> None:
            opened = scope.enter_context(as_role_of(row_of(served)))
            change_unheard(served, slug="renamed-meanwhile")
            fence(organization, after=after)
            with pytest.raises(psycopg.OperationalError):
                opened.execute("SELECT 1")

        monkeypatch.setattr(credentials, "fence", change_meanwhile)
        credentials.reset(row_of(served))
    assert row_of(served).pending_fence == ""
    change_unheard(served, slug=served.organization.slug)
    fence(row_of(served))


def test_a_drop_shuts_the_role_although_its_sessions_do_not_end(
    company: Callable[..., Company], superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drop itself says that they are still there, and holds up no other's."""
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    made = company()
    role, database = made.organization.role_name, made.organization.database_name
    with as_role_of(made.organization), open_session() as session, session.membership(role):
        let_live(monkeypatch, made)
        make_droppable(session, database=database, role=role)
    seen = superuser.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (role,))
    assert seen.fetchone() == (False,)
    monkeypatch.undo()
