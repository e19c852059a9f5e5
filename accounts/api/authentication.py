"""DRF authentication by bearer token or browser session.

TenantMiddleware has already read the credential, looked up its login and activated its
organization.
"""

from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from accounts import sessions
from accounts.models import LoginSession, User
from accounts.tokens import Credential


class _CredentialAuthentication(BaseAuthentication):
    """Uses the credential that TenantMiddleware left on the request, if it is of this kind."""

    kind: LoginSession.Kind

    def authenticate(self, request: Request) -> tuple[User, LoginSession] | None:
        """(user, session), or None for a request without a credential of this kind.

        Raises InvalidToken, or the error of resolving the organization.
        """
        found: Credential | Exception | None = getattr(request._request, "credential", None)
        if getattr(request._request, "credential_kind", None) != self.kind or found is None:
            return None
        if not isinstance(found, Credential):
            raise found
        # Only for a logout: the middleware leaves that login to the view.
        known: LoginSession | None = request._request.login  # type: ignore[attr-defined]
        session = known or sessions.of(found)
        self.check(request)
        return session.user, session

    def check(self, request: Request) -> None:
        """Further checks for this kind of credential."""


class BearerAuthentication(_CredentialAuthentication):
    """`Authorization: Bearer <access token>`."""

    kind = LoginSession.Kind.TOKEN

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class BrowserSessionAuthentication(_CredentialAuthentication):
    """The cookie of the login page; unsafe methods need the CSRF token."""

    kind = LoginSession.Kind.BROWSER

    def check(self, request: Request) -> None:
        csrf = CSRFCheck(lambda _: None)  # type: ignore[arg-type]
        csrf.process_request(request._request)
        reason = csrf.process_view(request._request, None, (), {})  # type: ignore[arg-type]
        if reason:
            raise PermissionDenied(f"CSRF check failed: {reason}", code="csrf_failed")
