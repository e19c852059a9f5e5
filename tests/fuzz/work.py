"""Code that the fuzz units run: ordinary tenant code, and some that nobody should write."""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from django.db import connections

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.tenancy import Tenant, registry

from .model import Rows

T = TypeVar("T")


def rows_now() -> Rows:
    """All users of the active organization."""
    return dict(User.objects.values_list("pk", "email"))


def by_raw_sql() -> Rows:
    with tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT id, email FROM users")
        return dict(cursor.fetchall())


def by_raw_query() -> Rows:
    return {user.pk: user.email for user in User.objects.raw("SELECT * FROM users")}


def by_server_side_cursor() -> Rows:
    return {user.pk: user.email for user in User.objects.iterator(chunk_size=1)}


def in_transaction() -> Rows:
    with tenancy.atomic():
        return {user.pk: user.email for user in User.objects.select_for_update()}


def over_current_settings(work: Callable[[], T]) -> T:
    """What `work` returns; the connection it used has the settings that are registered now."""
    result = work()
    if (tenant := tenancy.peek()) is not None:
        wrapper = getattr(connections._connections, tenant.alias, None)  # type: ignore[attr-defined]
        current = connections.settings[tenant.alias]
        if wrapper is not None and wrapper.connection is not None:
            assert wrapper.settings_dict is current, "it was a stale connection"
    return result


READS: list[Callable[[], Rows]] = [
    rows_now,
    by_raw_sql,
    by_raw_query,
    by_server_side_cursor,
    in_transaction,
]


def create(pk: int, email: str) -> None:
    User.objects.update_or_create(pk=pk, defaults={"email": email, "password": "!"})


def bulk_create(pk: int, email: str) -> None:
    User.objects.filter(pk=pk).delete()
    User.objects.bulk_create([User(pk=pk, email=email, email_key=email, password="!")])


def update(pk: int, email: str) -> None:
    if not User.objects.filter(pk=pk).update(email=email, email_key=email):
        create(pk, email)


def raw_sql(pk: int, email: str) -> None:
    with tenancy.connection().cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE id = %s", [pk])
        cursor.execute(
            "INSERT INTO users (id, email, email_key, hashed_password, created_at)"
            " VALUES (%s, %s, %s, '!', now())",
            [pk, email, email],
        )


WRITES: list[Callable[[int, str], None]] = [create, bulk_create, update, raw_sql]


def delete(pk: int) -> None:
    User.objects.filter(pk=pk).delete()


def refresh(user: User) -> None:
    user.refresh_from_db(fields=["email"])


def save_some(user: User) -> None:
    user.save(update_fields=["email"])


def bulk_update(user: User) -> None:
    User.objects.bulk_update([user], ["email"])


def copy(user: User) -> None:
    User.objects.bulk_create([user], ignore_conflicts=True)


def filter_by(user: User) -> None:
    list(LoginSession.objects.filter(user=user))


# What must raise WrongTenant with another organization's user.
USES: list[Callable[[User], Any]] = [
    User.save,
    User.delete,
    refresh,
    save_some,
    bulk_update,
    copy,
    filter_by,
]


def by_alias(alias: str) -> Rows:
    """Names the database, which no tenant code should do."""
    return dict(User.objects.using(alias).values_list("pk", "email"))


def by_connection(alias: str) -> Rows:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT id, email FROM users")
        return dict(cursor.fetchall())


DETOURS: list[Callable[[str], Rows]] = [by_alias, by_connection]


class Boom(Exception):
    """Raised out of a block."""


def break_off(tenant: Tenant | None, pk: int) -> None:
    """Write, and fail before the end."""
    with tenancy.override(tenant), tenancy.atomic():
        create(pk, "broken@nowhere.example")
        raise Boom


def steps() -> Iterator[str]:
    """Yields the rows at each step."""
    while True:
        yield json.dumps({"email": None, "rows": rows_now()})


def cursor_steps() -> Iterator[str]:
    """The same with a server-side cursor that stays open."""
    for user in User.objects.order_by("pk").iterator(chunk_size=1):
        yield json.dumps({"email": user.email, "rows": rows_now()})


def entering(tenant: Tenant) -> Iterator[Tenant | None]:
    """A generator that enters a block itself, and so leaves it to its caller between steps."""
    with tenancy.override(tenant):
        while True:
            yield tenancy.peek()


def is_held(tenant: Tenant | None) -> bool:
    """Whether this thread has a connection to the organization's database, or a pin that was
    released elsewhere, for which its reaper keeps one."""
    if tenant is None:
        return False
    wrapper = getattr(connections._connections, tenant.alias, None)  # type: ignore[attr-defined]
    is_open = wrapper is not None and wrapper.connection is not None
    return is_open or registry._here.pins[tenant.alias] > 0
