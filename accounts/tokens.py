"""Access tokens, refresh tokens and session cookies, each valid in one organization only.

simplejwt signs and checks the tokens (signature, expiry, issuer, audience, kind). Its views, user
lookup and blacklist are not used: all of them query the master's staff table.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpResponse
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from organizations.tenancy import Tenant

from .errors import InvalidToken
from .models import LoginSession
from .signing_keys import KeyRingBackend

_SESSION_SALT = "accounts.browser-session"

_MALFORMED = (
    TokenError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    OSError,  # A time that the platform's clock cannot represent.
    RecursionError,
)


class OrgAccessToken(AccessToken):
    """Access token, valid for requests in one organization."""

    def get_token_backend(self) -> KeyRingBackend:
        return KeyRingBackend()


class OrgRefreshToken(RefreshToken):
    """Refresh token, valid once, for the next pair."""

    access_token_class = OrgAccessToken

    def get_token_backend(self) -> KeyRingBackend:
        return KeyRingBackend()


@dataclass(frozen=True, slots=True)
class Credential:
    """The content of a verified token or cookie: which login of which organization.

    version: the user's token_version when the password was checked.
    """

    organization_id: int
    session_id: uuid.UUID
    version: int
    kind: LoginSession.Kind
    jti: uuid.UUID | None = None


def issue(session: LoginSession, tenant: Tenant) -> tuple[str, str]:
    """An access and a refresh token for the session, whose refresh_jti names the latter."""
    access, refresh = OrgAccessToken(), OrgRefreshToken()
    for token in (access, refresh):
        token["org"] = tenant.organization_id
        token["sid"] = str(session.id)
        token["ver"] = session.token_version
    refresh["jti"] = str(session.refresh_jti)
    # Rotation does not extend a login: the family keeps its end.
    refresh["exp"] = int(session.expires_at.timestamp())
    return str(access), str(refresh)


def access_lifetime_seconds() -> int:
    """The response's `expires_in`."""
    return int(api_settings.ACCESS_TOKEN_LIFETIME.total_seconds())


def read_access(raw: str) -> Credential:
    """The credential in an access token. Raises InvalidToken."""
    return _read(OrgAccessToken, raw)


def read_refresh(raw: str) -> Credential:
    """The credential in a refresh token; `rotate` checks whether it is the newest."""
    return _read(OrgRefreshToken, raw)


def _read(kind: type[Token], raw: str) -> Credential:
    try:
        payload: dict[str, Any] = kind(raw).payload  # type: ignore[arg-type]
        return Credential(
            organization_id=_whole(payload["org"]),
            session_id=uuid.UUID(payload["sid"]),
            version=_whole(payload["ver"]),
            kind=LoginSession.Kind.TOKEN,
            jti=uuid.UUID(payload["jti"]) if kind is OrgRefreshToken else None,
        )
    # One error for everything that can be wrong with a token.
    except _MALFORMED as error:
        raise InvalidToken from error


def _whole(value: object) -> int:
    """The claim, if it is an integer that fits its column: not true, not 10**30."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidToken
    return value


def sign_cookie(session: LoginSession, tenant: Tenant) -> str:
    """The session cookie's value: signed, bound to the organization and the session."""
    named = {"org": tenant.organization_id, "sid": str(session.id), "ver": session.token_version}
    return signing.dumps(named, salt=_SESSION_SALT)


def set_cookie(response: HttpResponse, session: LoginSession, tenant: Tenant) -> None:
    """Set the browser's session cookie."""
    response.set_cookie(
        settings.ORG_SESSION_COOKIE_NAME,
        sign_cookie(session, tenant),
        max_age=settings.ORG_SESSION_LIFETIME,
        path=settings.ORG_SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def forget_cookie(response: HttpResponse) -> None:
    """Delete the browser's session cookie."""
    response.delete_cookie(settings.ORG_SESSION_COOKIE_NAME, path=settings.ORG_SESSION_COOKIE_PATH)


def read_cookie(raw: str) -> Credential:
    """The credential in the browser's cookie. Raises InvalidToken."""
    try:
        value = signing.loads(raw, salt=_SESSION_SALT, max_age=settings.ORG_SESSION_LIFETIME)
        return Credential(
            organization_id=_whole(value["org"]),
            session_id=uuid.UUID(value["sid"]),
            version=_whole(value["ver"]),
            kind=LoginSession.Kind.BROWSER,
        )
    except (signing.BadSignature, KeyError, ValueError, TypeError) as error:
        raise InvalidToken from error
