"""Service functions for users. All raise NoTenant without an active organization."""

from collections.abc import Callable
from contextlib import suppress

from django.contrib.auth.hashers import check_password, make_password, verify_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from organizations import tenancy
from organizations.tenancy import trail
from organizations.tenancy.constraints import broken_unique

from . import sessions
from .errors import InvalidCredentials, InvalidToken, LastAdmin, UserExists, UserGone
from .hashers import readable
from .models import User, email_key
from .validators import MAX_PASSWORD_LENGTH as MAX_PASSWORD_LENGTH
from .validators import check_email, check_fields
from .validators import check_email_and_password as check_email_and_password
from .validators import check_new_password as check_new_password


def hash_password(password: str) -> str:
    """The hash to store. Takes tens of milliseconds of one core, on purpose."""
    return make_password(password)


def create_user(*, email: str, password: str, is_admin: bool = False) -> User:
    """Create a user. Raises ValidationError by field, and UserExists."""
    check_email_and_password(email=email, password=password)
    return add_user(email=email, password_hash=hash_password(password), is_admin=is_admin)


def add_user(*, email: str, password_hash: str, is_admin: bool = False) -> User:
    """Create a user with an existing hash. Raises UserExists."""
    user = User(email=email.strip(), password=password_hash, is_admin=is_admin)
    try:
        with tenancy.atomic():
            user.save(force_insert=True)
            facts = {"is_admin": is_admin}
            trail.record("user.created", user_id=user.pk, email=user.email, facts=facts)
    except IntegrityError as error:
        _refuse_if_taken(error, user.email)
        raise
    return user


def _refuse_if_taken(error: IntegrityError, email: str) -> None:
    """Raise UserExists if the violated constraint is the address's."""
    if broken_unique(error).startswith("users_email_key"):
        raise UserExists(email) from error


def ensure_admin(*, email: str, password_hash: str) -> None:
    """Create the organization's first admin, unless it exists."""
    if not User.objects.addressed(email).exists():
        add_user(email=email, password_hash=password_hash, is_admin=True)


def authenticate(*, email: str, password: str) -> User:
    """The active user with this e-mail and password. Raises InvalidCredentials.

    One hash and one query in every case, so that the response time does not reveal what was wrong.
    A hash with other parameters is renewed.
    """
    if len(password) > MAX_PASSWORD_LENGTH:
        raise InvalidCredentials
    user = User.objects.addressed(email).first()
    if user is None or not user.has_usable_password():
        hash_password(password)  # Takes as long as a comparison.
        raise InvalidCredentials
    matches, must_update = verify_password(password, readable(user.password))
    if not matches or not user.is_active:
        raise InvalidCredentials
    if must_update:
        _renew_hash(user, password)
    if user.email_key != email_key(user.email):
        _renew_key(user)
    return user


def _renew_key(user: User) -> None:
    """Update an earlier version's address key, unless somebody else has the new one."""
    key = email_key(user.email)
    with suppress(IntegrityError), tenancy.atomic(even_read_only=True):
        User.objects.filter(pk=user.pk, email=user.email).update(email_key=key)


def _renew_hash(user: User, password: str) -> None:
    """Renew the password's hash. Raises InvalidCredentials if the password was changed."""
    renewed = hash_password(password)
    with tenancy.atomic(even_read_only=True):
        done = User.objects.filter(pk=user.pk, password=user.password).update(password=renewed)
    if not done:
        # Changed since it was read, or renewed by another login.
        renewed = User.objects.filter(pk=user.pk).values_list("password", flat=True).first() or ""
        if not check_password(password, readable(renewed)):
            raise InvalidCredentials
    user.password = renewed


# --- Changes ------------------------------------------------------------------------------------
def check_own_email(user: User, *, email: str, current_password: str) -> None:
    """Raise ValidationError, by field, unless the user may change to this address."""
    check_fields(
        current_password=lambda: _confirm_password(user, current_password),
        email=lambda: check_email(email),
    )


def _confirm_password(user: User, current_password: str) -> None:
    if len(current_password) > MAX_PASSWORD_LENGTH or not check_password(
        current_password, readable(user.password)
    ):
        # The thief of a token would try to guess it.
        trail.record("password.refused", user_id=user.pk, email=user.email)
        raise ValidationError("The current password is wrong.")


def change_password(user: User, *, current_password: str, new_password: str) -> None:
    """Set a new password and end every login.

    Raises ValidationError by field, UserGone, and InvalidToken if all logins were ended while the
    password was checked.
    """
    check_fields(
        current_password=lambda: _confirm_password(user, current_password),
        new_password=lambda: check_new_password(new_password, user=user),
    )
    password_hash = hash_password(new_password)
    with tenancy.atomic():
        now = _lock(user)
        if not now.is_active or now.token_version != user.token_version:
            # The password was changed since it was checked.
            raise InvalidToken
        user.password = password_hash
        user.save(update_fields=["password"])
        sessions.end_all(user)
        trail.record("password.changed", user_id=user.pk, email=user.email)


def update_user(
    user: User,
    *,
    email: str | None = None,
    password: str | None = None,
    is_admin: bool | None = None,
    is_active: bool | None = None,
) -> User:
    """Change the given fields. Raises ValidationError by field, UserExists, UserGone, LastAdmin."""
    email = email and email.strip()
    will_be = User(email=user.email if email is None else email)
    checks: dict[str, Callable[[], None]] = {}
    if email is not None:
        checks["email"] = lambda: check_email(will_be.email)
    if password is not None:
        checks["password"] = lambda: check_new_password(password, user=will_be)
    check_fields(**checks)
    password_hash = None if password is None else hash_password(password)
    try:
        with tenancy.atomic():
            if is_admin is False or is_active is False:
                _refuse_if_last_admin(user)
            now = _lock(user)
            changes: dict[str, object] = {
                "email": email,
                "password": password_hash,
                "is_admin": is_admin,
                "is_active": is_active,
            }
            given = [name for name, value in changes.items() if value is not None]
            fields = list(given)
            if email is not None and email != now.email:
                # Not yet verified, and links sent to the previous address are invalid.
                fields += ["email_verified_at", "email_version"]
                changes["email_version"] = now.email_version + 1
            for name in fields:
                setattr(user, name, changes.get(name))
            if fields:
                user.save(update_fields=fields)
            if is_active is False or password is not None:
                sessions.end_all(user)
            _record_update(user, given)
    except IntegrityError as error:
        _refuse_if_taken(error, email or user.email)
        raise
    return user


def remove_user(user: User) -> None:
    """Delete the user and their logins. Raises LastAdmin."""
    with tenancy.atomic():
        _refuse_if_last_admin(user)
        user_id = user.pk
        user.delete()
        trail.record("user.removed", user_id=user_id, email=user.email)


def _record_update(user: User, fields: list[str]) -> None:
    """Record the names of the changed fields, and the values of is_admin and is_active."""
    if fields:
        facts: dict[str, trail.Fact] = {"fields": fields}
        facts |= {name: getattr(user, name) for name in ("is_admin", "is_active") if name in fields}
        act = "user.deactivated" if facts.get("is_active") is False else "user.updated"
        trail.record(act, user_id=user.pk, email=user.email, facts=facts)


def _lock(user: User) -> User:
    """The current user row, locked until the transaction ends. Raises UserGone.

    no_key: a login of the user, which refers to the row, does not wait.
    """
    now = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
    if now is None:
        raise UserGone
    return now


def _refuse_if_last_admin(user: User) -> None:
    """Lock the active admins until the transaction ends; raise LastAdmin if `user` is the only one.

    Two requests that remove two different admins wait for each other here, and the second sees
    the result of the first. Locked in a fixed order, to avoid deadlocks.
    """
    admins = list(
        User.objects.select_for_update(no_key=True)
        .filter(is_admin=True, is_active=True)
        .order_by("id")
        .values_list("id", flat=True)
    )
    if admins == [user.id]:
        raise LastAdmin
