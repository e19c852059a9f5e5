"""Request and response examples for the OpenAPI documentation. The values are made up."""

from drf_spectacular.utils import OpenApiExample

_USER = {"id": 1, "email": "admin@test.com", "is_admin": True, "is_active": True}
_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9…"  # noqa: S105 - the beginning of any token
_PAIR = {"access": _TOKEN, "refresh": _TOKEN, "token_type": "bearer", "expires_in": 1800}
_PASSWORD = "testpass123"  # noqa: S105 - the examples' own


def sent(value: object) -> OpenApiExample:
    """A request body example."""
    return OpenApiExample("Request", value=value, request_only=True)


def answered(value: object, status: int = 200) -> OpenApiExample:
    """A response body example."""
    return OpenApiExample("Answer", value=value, response_only=True, status_codes=[str(status)])


LOGIN = [
    sent({"email": "admin@test.com", "password": _PASSWORD}),
    answered(
        {
            "access_token": _TOKEN,
            "token_type": "bearer",
            "refresh_token": _TOKEN,
            "expires_in": 1800,
            "user": _USER,
        }
    ),
]
TOKEN = [
    sent({"organization": "TestOrg", "email": "admin@test.com", "password": _PASSWORD}),
    answered({**_PAIR, "user": _USER}),
]
REFRESH = [sent({"refresh": _TOKEN}), answered(_PAIR)]
LOGOUT = [sent({"refresh": _TOKEN})]
_LINK_TOKEN = "eyJvcmciOjEsInVzZXIiOjF9…"  # noqa: S105 - the beginning of any link's
PASSWORD_RESET = [
    sent({"organization": "TestOrg", "email": "admin@test.com"}),
    answered(
        {"detail": "If an account has this address, we have sent an e-mail with a link."},
        202,
    ),
]
PASSWORD_RESET_CONFIRM = [sent({"token": _LINK_TOKEN, "new_password": "a better passphrase"})]
EMAIL_VERIFY = [sent({"token": _LINK_TOKEN})]
MY_EMAIL_VERIFICATION = [
    answered(
        {"detail": "We have sent an e-mail with a link, unless your address is already confirmed."},
        202,
    ),
]
_SHOWN = {"created_at": "2026-01-15T10:30:00Z", "email_verified_at": None}
USER = answered({**_USER, **_SHOWN})
ME = [sent({"email": "new@test.com", "current_password": _PASSWORD}), USER]
PASSWORD = [
    sent({"current_password": _PASSWORD, "new_password": "a better passphrase"}),
    answered({**_PAIR, "user": _USER}),
]
NEW_USER = [
    sent({"email": "carol@test.com", "password": "a good passphrase", "is_admin": False}),
    answered(
        {
            "id": 2,
            "email": "carol@test.com",
            "is_admin": False,
            "is_active": True,
            **_SHOWN,
        },
        201,
    ),
]
CHANGED_USER = [sent({"is_active": False}), USER]
