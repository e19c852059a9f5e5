"""Flows of staff users in Django admin."""

import secrets
from typing import Any

from tests.faults.attempts import DONE, NOTHING, Attempt
from tests.faults.world import PASSWORD, STAFF, World

_NEW_PASSWORD = "another good passphrase"
_STAFF = "/admin/organizations/staff/"


def _somebody(world: World) -> tuple[int, str]:
    """Make a staff superuser with password PASSWORD; its id and name."""
    name = f"staff-{secrets.token_hex(5)}"
    ((made,),) = world.rows(
        "INSERT INTO staff (username, password, email, first_name, last_name, is_staff, "
        "is_superuser, is_active, date_joined) SELECT %s, password, '', '', '', true, true, true, "
        "now() FROM staff WHERE username = %s RETURNING id",
        (name, STAFF),
    )
    return int(made), name


def _logged_in(world: World) -> tuple[int, str, str]:
    pk, name = _somebody(world)
    submit = world.open_form("/admin/login/")
    answer = submit({"username": name, "password": PASSWORD, "next": "/admin/"})
    if not answer.done:
        raise RuntimeError(f"Staff cannot log in: {answer.words}")
    return pk, name, str(answer.headers["cookies"])


def _changed_from(world: World, column: str, pk: int) -> Any:
    query = f"SELECT {column} FROM staff WHERE id = %s"  # noqa: S608
    before = world.rows(query, (pk,))
    return lambda: NOTHING if world.rows(query, (pk,)) == before else DONE


def login(world: World) -> Attempt:
    pk, name = _somebody(world)
    submit = world.open_form("/admin/login/")
    fields = {"username": name, "password": PASSWORD, "next": "/admin/"}
    return Attempt(lambda: submit(fields), _changed_from(world, "last_login", pk))


def logout(world: World) -> Attempt:
    _, _, cookies = _logged_in(world)
    submit = world.open_form("/admin/", cookies=cookies, to="/admin/logout/", success=(200, 302))
    key = cookies.partition("sessionid=")[2].partition(";")[0]
    query = "SELECT 1 FROM django_session WHERE session_key = %s"
    return Attempt(lambda: submit({}), lambda: NOTHING if world.rows(query, (key,)) else DONE)


def audit_exported(world: World) -> Attempt:
    request_id = f"export-{secrets.token_hex(8)}"
    query = "SELECT 1 FROM audit_entries WHERE request_id = %s AND act = 'audit.exported'"
    path = "/admin/organizations/auditentry/export/"
    return Attempt(
        lambda: world.ask("GET", path, cookies=world.staff_cookies, request_id=request_id),
        lambda: DONE if world.rows(query, (request_id,)) else NOTHING,
        streams=True,
    )


def own_password(world: World) -> Attempt:
    pk, _, cookies = _logged_in(world)
    submit = world.open_form("/admin/password_change/", cookies=cookies)
    fields = {"old_password": PASSWORD}
    fields |= {"new_password1": _NEW_PASSWORD, "new_password2": _NEW_PASSWORD}
    return Attempt(lambda: submit(fields), _changed_from(world, "password", pk))


def added(world: World) -> Attempt:
    name = f"staff-{secrets.token_hex(5)}"
    submit = world.open_form(f"{_STAFF}add/", cookies=world.staff_cookies)
    fields = {"username": name, "usable_password": "true"}
    fields |= {"password1": _NEW_PASSWORD, "password2": _NEW_PASSWORD}
    query = "SELECT 1 FROM staff WHERE username = %s"
    return Attempt(lambda: submit(fields), lambda: DONE if world.rows(query, (name,)) else NOTHING)


def changed(world: World) -> Attempt:
    pk, name = _somebody(world)
    submit = world.open_form(f"{_STAFF}{pk}/change/", cookies=world.staff_cookies)
    fields = {"username": name, "first_name": "Ada", "is_active": "on"}
    fields |= {"date_joined_0": "2026-01-01", "date_joined_1": "10:00:00"}
    return Attempt(lambda: submit(fields), _changed_from(world, "first_name", pk))


def password(world: World) -> Attempt:
    pk, _ = _somebody(world)
    # Django renews the session's key with somebody else's password too.
    _, _, cookies = _logged_in(world)
    submit = world.open_form(f"{_STAFF}{pk}/password/", cookies=cookies)
    fields = {"password1": _NEW_PASSWORD, "password2": _NEW_PASSWORD, "usable_password": "true"}
    return Attempt(
        lambda: submit({**fields, "set-password": "1"}), _changed_from(world, "password", pk)
    )


def removed(world: World) -> Attempt:
    pk, _ = _somebody(world)
    submit = world.open_form(f"{_STAFF}{pk}/delete/", cookies=world.staff_cookies)
    query = "SELECT 1 FROM staff WHERE id = %s"
    return Attempt(
        lambda: submit({"post": "yes"}), lambda: NOTHING if world.rows(query, (pk,)) else DONE
    )
