"""Starts, finds, rotates and ends logins: the rows that tokens and cookies refer to.

All raise NoTenant without an active organization.
"""

import secrets
import uuid
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from organizations import tenancy
from organizations.tenancy import trail
from organizations.tenancy.constraints import lacks_parent

from .errors import InvalidCredentials, InvalidToken, NotNeutralised
from .models import LoginSession, User
from .tokens import Credential


def start(user: User, *, kind: LoginSession.Kind) -> LoginSession:
    """Start a login, with the token_version that was read with the password's hash.

    Raises InvalidCredentials if the user was removed meanwhile. A login that races a password
    change has the old version, and so is invalid.
    """
    lifetime: timedelta = (
        api_settings.REFRESH_TOKEN_LIFETIME
        if kind == LoginSession.Kind.TOKEN
        else settings.ORG_SESSION_LIFETIME
    )
    try:
        with tenancy.atomic(even_read_only=True), trail.acting_as("user", user.pk):
            session = LoginSession.objects.create(
                user=user,
                kind=kind,
                token_version=user.token_version,
                refresh_jti=uuid.uuid4() if kind == LoginSession.Kind.TOKEN else None,
                expires_at=timezone.now() + lifetime,
            )
            facts = {"kind": str(kind)}
            trail.record("login.succeeded", user_id=user.pk, email=user.email, facts=facts)
            return session
    except IntegrityError as error:
        if not lacks_parent(error):
            raise
        # Removed since the password was checked.
        raise InvalidCredentials from error


def of(credential: Credential) -> LoginSession:
    """The credential's valid session, with its active user, in one query.

    Raises InvalidToken, also if the credential is of another organization than the active one.
    """
    if credential.organization_id != tenancy.get().organization_id:
        raise InvalidToken
    return find(tenancy.connection(), credential)


def find(connection: BaseDatabaseWrapper, credential: Credential) -> LoginSession:
    """The credential's valid session in the database of this connection. Raises InvalidToken."""
    values: dict[str, Any] = {
        "id": credential.session_id,
        "kind": str(credential.kind),
        "version": credential.version,
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_query(), values)
        row = cursor.fetchone()
    if row is None:
        raise InvalidToken
    count = len(LoginSession._meta.concrete_fields)
    session = LoginSession.from_db(connection.alias, _names(LoginSession), row[:count])
    user = User.from_db(connection.alias, _names(User), row[count:])
    session._state.fields_cache["user"] = user  # As select_related does.
    return session


@cache
def _query() -> str:
    """Raw SQL: one of these runs per request, and the ORM takes twice as long to build it as the
    rest of the request takes."""
    columns = [
        f'"{model._meta.db_table}"."{field.column}"'
        for model in (LoginSession, User)
        for field in model._meta.concrete_fields
    ]
    return (
        f"SELECT {', '.join(columns)} "  # noqa: S608 - names of our own columns
        "FROM login_sessions JOIN users ON users.id = login_sessions.user_id "
        "WHERE login_sessions.id = %(id)s AND kind = %(kind)s AND ended_at IS NULL "
        "AND expires_at > %(now)s AND login_sessions.token_version = %(version)s "
        "AND users.token_version = %(version)s AND users.is_active"
    )


@cache
def _names(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def rotate(credential: Credential) -> LoginSession:
    """Use up a refresh token. Returns its session, with a new refresh_jti.

    Raises InvalidToken. A token used before ends its session.
    """
    session = of(credential)
    successor = uuid.uuid4()
    with tenancy.atomic(even_read_only=True):
        # Compared and set in one statement: of two requests with one token, one wins.
        won = LoginSession.objects.filter(
            id=session.id, refresh_jti=credential.jti, ended_at=None
        ).update(refresh_jti=successor)
        if not won and _end(session):
            trail.record("token.reused", user_id=session.user_id, email=session.user.email)
    if not won:
        raise InvalidToken
    session.refresh_jti = successor
    return session


def end(session: LoginSession) -> None:
    """End this login; its tokens and cookie are refused from the next request on."""
    with tenancy.atomic(even_read_only=True), trail.acting_as("user", session.user_id):
        if _end(session):
            trail.record("logout", user_id=session.user_id, email=session.user.email)


def _end(session: LoginSession) -> bool:
    running = LoginSession.objects.filter(id=session.id, ended_at=None)
    return bool(running.update(ended_at=timezone.now()))


def end_all(user: User) -> None:
    """End all the user's logins, including those being made right now."""
    LoginSession.objects.filter(user=user, ended_at=None).update(ended_at=timezone.now())
    User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
    user.refresh_from_db(fields=["token_version"])


# Far above what anybody's number was raised to.
_FAR, _VERSIONS = 10**6, 10**9


def void_all() -> None:
    """End every login of the active organization, and invalidate each link mailed until now.

    All users get the same random version, which no token or link names, not even one from an
    earlier call on another copy of this database. Not to be called in a transaction: code in the
    database can act at its end. May be repeated. Raises NotNeutralised.
    """
    version = _FAR + secrets.randbelow(_VERSIONS)
    numbers = {"token_version": version, "email_version": version}
    LoginSession.objects.all().delete()
    User.objects.update(**numbers)
    # Only now: a rule or a trigger can have done something else.
    if LoginSession.objects.exists() or User.objects.exclude(**numbers).exists():
        raise NotNeutralised("logins or links")
