"""Creates a row of every tenant model in both test organizations, with equal primary keys.

ROWS has a function for each model of accounts, which makes rows in the active organization; a
tenant app has its own in its module `isolation`. Their texts end in `domain`, which shows whose
row it is. A table that a ManyToManyField makes for itself needs none: if it is empty, the first
rows of both sides are related.
"""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db.models import ForeignKey, Model
from django.utils import timezone

from accounts.models import LoginSession, User
from organizations import tenancy

from .extensions import merged

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
    """The admin's logins, by token and by browser."""
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


# In an order in which rows can be created.
ROWS: dict[str, Callable[[str, str], None]] = {
    "accounts.User": users,
    "accounts.LoginSession": login_sessions,
}


def tenant_models() -> list[type[Model]]:
    """Every tenant model, by the current settings."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if tenancy.is_tenant_model(model) and not model._meta.proxy
    ]


class RowsNotMade(Exception):
    """A function of ROWS failed, so there is nothing to test with."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"ROWS cannot make rows of {label}: {type(error).__name__}: {error}")


def makers() -> dict[str, Callable[[str, str], None]]:
    """ROWS, including tenant apps'."""
    return merged(ROWS, "ROWS")


def uncovered_models(models: list[type[Model]]) -> set[str]:
    """Labels of models without an entry in ROWS."""
    return {model._meta.label for model in models if not model._meta.auto_created} - set(makers())


def put_together(through: type[Model]) -> None:
    """Add a row to a many-to-many's own table, unless there is one, or nothing to relate."""
    values = {}
    for key in through._meta.concrete_fields:
        if isinstance(key, ForeignKey):
            target: Any = key.related_model
            first = target._default_manager.order_by("pk").first()
            if first is None:
                return
            values[key.attname] = getattr(first, key.target_field.attname)
    manager: Any = through._default_manager
    if not manager.exists():
        manager.create(**values)
