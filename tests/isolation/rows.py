"""A row of every tenant model, on both sides, under the same primary key.

A new tenant model gets an entry in ROWS: a function that makes its rows in the organization that
is active. The text in them ends in `domain`, so that whose row it is can be read off it.
"""

import uuid
from collections.abc import Callable
from datetime import timedelta

from django.apps import apps
from django.db.models import Model
from django.utils import timezone

from accounts.models import LoginSession, User
from organizations import tenancy

TOKEN_SESSION = uuid.UUID(int=1)
BROWSER_SESSION = uuid.UUID(int=2)
REFRESH_JTI = uuid.UUID(int=3)
ADMIN, MEMBER, LEFT = 1, 2, 3


def users(domain: str, password_hash: str) -> None:
    """An admin, a member and somebody who has left."""
    for name, is_admin, is_active in (
        ("admin", True, True),
        ("member", False, True),
        ("left", False, False),
    ):
        User.objects.create(
            email=f"{name}@{domain}", password=password_hash, is_admin=is_admin, is_active=is_active
        )


def login_sessions(domain: str, password_hash: str) -> None:
    """The admin's, by token and by browser."""
    for key, kind in (
        (TOKEN_SESSION, LoginSession.Kind.TOKEN),
        (BROWSER_SESSION, LoginSession.Kind.BROWSER),
    ):
        LoginSession.objects.create(
            id=key,
            user_id=ADMIN,
            kind=kind,
            refresh_jti=REFRESH_JTI if kind == LoginSession.Kind.TOKEN else None,
            expires_at=timezone.now() + timedelta(hours=1),
        )


# In an order in which rows can be made.
ROWS: dict[str, Callable[[str, str], None]] = {
    "accounts.User": users,
    "accounts.LoginSession": login_sessions,
}


def tenant_models() -> list[type[Model]]:
    """Every model whose table is in each organization's database, as settings have it now."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if tenancy.is_tenant_model(model)
    ]


def uncovered_models(models: list[type[Model]]) -> set[str]:
    """Labels of those that have no rows here."""
    return {model._meta.label for model in models} - set(ROWS)


def plant(domain: str, password_hash: str) -> None:
    """Empty the active organization's tables, and make the rows of ROWS; keys begin at 1."""
    tables = ", ".join(f'"{model._meta.db_table}"' for model in tenant_models())
    with tenancy.connection().cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    for make in ROWS.values():
        make(domain, password_hash)
