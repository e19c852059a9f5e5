"""Signed one-time links for password reset and e-mail verification.

A link holds no secret of its own and has no row. It names its purpose, the organization and the
user, and carries a fingerprint of what using it changes. So a used link no longer fits, nor does
one that was sent before the password or the address changed.
"""

from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.core import signing
from django.utils.crypto import constant_time_compare, salted_hmac

from organizations import tenancy

from .errors import InvalidLink
from .models import User

MAX_LENGTH = 1000


class Purpose(StrEnum):
    """A link's purpose. Each has its own salt, so links cannot be used for another purpose."""

    RESET = "reset"
    VERIFICATION = "verification"

    @property
    def lifetime_seconds(self) -> int:
        """PASSWORD_RESET_MINUTES and EMAIL_VERIFICATION_HOURS."""
        minutes = {
            Purpose.RESET: settings.PASSWORD_RESET_MINUTES,
            Purpose.VERIFICATION: settings.EMAIL_VERIFICATION_HOURS * 60,
        }
        return int(minutes[self]) * 60


@dataclass(frozen=True, slots=True)
class Link:
    """A link with a valid signature and age; `fits` says whether it is still valid."""

    purpose: Purpose
    organization_id: int
    user_id: int
    fingerprint: str


def token_for(user: User, *, purpose: Purpose) -> str:
    """The token of a link for a user of the active organization; URL-safe."""
    content = {
        "org": tenancy.get().organization_id,
        "user": user.pk,
        "fits": _fingerprint(user, purpose, settings.SECRET_KEY),
    }
    return _signer(purpose).sign_object(content)


def read(token: str, *, purpose: Purpose) -> Link:
    """Decode the token, without a query. Raises InvalidLink."""
    if len(token) > MAX_LENGTH:
        raise InvalidLink
    try:
        content = _signer(purpose).unsign_object(token, max_age=purpose.lifetime_seconds)
        return Link(purpose, int(content["org"]), int(content["user"]), str(content["fits"]))
    # One error for everything that can be wrong with a token.
    except (signing.BadSignature, KeyError, ValueError, TypeError) as error:
        raise InvalidLink from error


def fits(link: Link, user: User) -> bool:
    """Whether the link is this user's, and what it is bound to has not changed."""
    if link.organization_id != tenancy.get().organization_id or link.user_id != user.pk:
        return False
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return any(
        constant_time_compare(link.fingerprint, _fingerprint(user, link.purpose, key))
        for key in keys
    )


def _signer(purpose: Purpose) -> signing.TimestampSigner:
    # Django's separator is a colon, which some mail programs take for the end of a URL.
    return signing.TimestampSigner(salt=f"accounts.links.{purpose}", sep=".")


def _fingerprint(user: User, purpose: Purpose, key: str | bytes) -> str:
    """A keyed hash of what must not have changed, and of what using the link changes."""
    bound = [str(tenancy.get().organization_id), str(user.pk), user.email, str(user.email_version)]
    if purpose is Purpose.RESET:
        bound += [user.password, str(user.token_version)]
    else:
        verified = user.email_verified_at
        bound.append("" if verified is None else verified.isoformat())
    # No part can contain a NUL, since PostgreSQL stores none.
    return salted_hmac(
        f"accounts.links.fingerprint.{purpose}", "\0".join(bound), secret=key, algorithm="sha256"
    ).hexdigest()
