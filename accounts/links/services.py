"""Password reset and e-mail verification in the active organization's database."""

from contextlib import AbstractContextManager
from dataclasses import replace

from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts import link_tokens, services, sessions
from accounts.errors import InvalidLink
from accounts.link_tokens import Link
from accounts.models import User
from organizations import tenancy
from organizations.tenancy import trail


def look(link: Link) -> None:
    """Raise InvalidLink unless the link is valid. Changes nothing."""
    _user_of(link, lock=False)


def reset_password(link: Link, *, new_password: str) -> User:
    """Use up the link: set a new password and end all logins.

    Raises InvalidLink, and ValidationError by field, after which the link is still valid. Also
    verifies the address, since the link was mailed there.
    """
    # Before hashing, so that an invalid link costs nothing.
    user = _user_of(link, lock=False)
    try:
        services.check_new_password(new_password, user=user)
    except ValidationError as error:
        raise ValidationError({"new_password": error}) from error
    password_hash = services.hash_password(new_password)
    with tenancy.atomic():
        user = _user_of(link, lock=True)
        user.password = password_hash
        user.email_verified_at = user.email_verified_at or timezone.now()
        user.save(update_fields=["password", "email_verified_at"])
        sessions.end_all(user)
        with _acting_as(user):
            trail.record("password.reset", user_id=user.pk)
    return user


def verify_email(link: Link) -> User:
    """Use up the link: mark the address as verified. Raises InvalidLink."""
    with tenancy.atomic():
        user = _user_of(link, lock=True)
        user.email_verified_at = timezone.now()
        user.save(update_fields=["email_verified_at"])
        with _acting_as(user):
            trail.record("email.verified", user_id=user.pk)
    return user


def _user_of(link: Link, *, lock: bool) -> User:
    """The active user of the link. Raises InvalidLink.

    Of concurrent requests with one link only one succeeds: the others wait for the row, and find it
    changed.
    """
    users = User.objects.select_for_update(no_key=True) if lock else User.objects.all()
    user = users.filter(pk=link.user_id, is_active=True).first()
    if user is None or not link_tokens.fits(link, user):
        raise InvalidLink
    return user


def _acting_as(user: User) -> AbstractContextManager[None]:
    """Attribute the action to the user, since the link is the credential."""
    return trail.acting(replace(trail.origin(), actor="user", actor_id=user.pk))
