"""Logs a user in and resolves a credential's organization. Used by the API and the login page."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

from organizations import tenancy
from organizations.errors import (
    OrganizationMigrating,
    OrganizationMismatch,
    OrganizationNotFound,
    OrganizationSuspended,
)
from organizations.tenancy import RouteChanged, Tenant, directory, registry, trail
from organizations.tenancy.http import is_form_of_another, other_organization
from organizations.tenancy.tenant import ALIAS_PREFIX

from . import limits, services, sessions
from .errors import AccountError, AdminRequired, InvalidCredentials, InvalidToken
from .models import LoginSession, User
from .tokens import Credential


@dataclass(frozen=True, slots=True)
class Login:
    """A new login."""

    tenant: Tenant
    user: User
    session: LoginSession


def log_in(
    request: HttpRequest,
    *,
    organization: str,
    email: str,
    password: str,
    kind: LoginSession.Kind,
    admins_only: bool = False,
) -> Login:
    """Log in. Runs outside any organization: the name in the body decides.

    Raises TooManyRequests, LoginDelayed; OrganizationNotFound and OrganizationSuspended (unless
    ORG_PUBLIC_LOOKUP is off); InvalidCredentials; with the right password also OrganizationMismatch
    if a header or host names another organization, and AdminRequired.
    """
    with limits.even_time(), limits.login(request, organization=organization, email=email):
        tenant = _tenant(organization, password=password)
        request.named_organization = tenant.alias  # type: ignore[attr-defined]
        with tenancy.override(tenant):
            try:
                user = services.authenticate(email=email, password=password)
                # Only somebody with the right password learns about other obstacles.
                if source := other_organization(request, tenant):
                    raise OrganizationMismatch(source)
                if admins_only and not user.is_admin:
                    raise AdminRequired
                return Login(tenant, user, sessions.start(user, kind=kind))
            except (AccountError, OrganizationMismatch) as error:
                _record_failure(email, error)
                raise


@contextmanager
def logged_in(request: HttpRequest, credential: Credential) -> Iterator[LoginSession]:
    """Activate the credential's organization, with its valid login, looked up in one query.

    The master is asked only if that query needs a new connection (postgres/fence.py). Raises
    InvalidToken, also if the organization was deleted; OrganizationSuspended,
    OrganizationMigrating, and OrganizationMismatch if a header, the host or a page's form names
    another.
    """
    with ExitStack() as scope:
        known = registry.known(credential.organization_id)
        try:
            session = _enter(request, credential, known, scope)
        except (RouteChanged, OrganizationMismatch):
            # Known too long, maybe by an earlier slug. Nothing was sent.
            if known is None:
                raise
            session = _enter(request, credential, None, scope)
        yield session


def _enter(
    request: HttpRequest, credential: Credential, known: Tenant | None, scope: ExitStack
) -> LoginSession:
    tenant = tenant_of_credential(request, credential, known=known)
    try:
        with ExitStack() as entered:
            entered.enter_context(tenancy.override(tenant))
            session = sessions.of(credential)
            # Keep it active. If the login is invalid, `entered` leaves it.
            scope.push(entered.pop_all())
            return session
    except OrganizationNotFound as error:
        raise InvalidToken from error


def tenant_of_credential(
    request: HttpRequest, credential: Credential, *, known: Tenant | None = None
) -> Tenant:
    """The credential's tenant. Raises InvalidToken if it was deleted, OrganizationSuspended,
    OrganizationMigrating, and OrganizationMismatch if a header, the host or a page's form names
    another.

    known: from an earlier request; the master is not asked.
    """
    organization_id = credential.organization_id
    tenant = tenant_for_request(request, organization_id, gone=InvalidToken, known=known)
    if credential.kind == LoginSession.Kind.BROWSER and is_form_of_another(request, tenant):
        raise OrganizationMismatch("The form")
    return tenant


def tenant_for_request(
    request: HttpRequest,
    organization_id: int,
    *,
    gone: type[AccountError],
    known: Tenant | None = None,
) -> Tenant:
    """A signed value's tenant. Raises `gone` if it was deleted (then it reveals no more than a
    forged one), OrganizationSuspended, OrganizationMigrating, and OrganizationMismatch if a header
    or the host names another.
    """
    # For the log, if the master is unavailable.
    request.named_organization = f"{ALIAS_PREFIX}{organization_id}"  # type: ignore[attr-defined]
    try:
        tenant = known or directory.get().tenant_by_id(organization_id)
    except OrganizationNotFound as error:
        raise gone from error
    if source := other_organization(request, tenant):
        raise OrganizationMismatch(source)
    return tenant


def _tenant(organization: str, *, password: str) -> Tenant:
    """The tenant by name. With ORG_PUBLIC_LOOKUP off, an unusable organization gets the same answer
    as a wrong password, as slowly."""
    try:
        return directory.get().tenant_by_name(organization)
    except (OrganizationNotFound, OrganizationSuspended, OrganizationMigrating) as error:
        # Without the address: there is no key to hash it with.
        found = getattr(error, "organization_id", None)
        trail.record("login.failed", organization_id=found, facts={"reason": error.code})
        if settings.ORG_PUBLIC_LOOKUP != "off":
            raise
        services.hash_password(password)
        raise InvalidCredentials from error


def _record_failure(email: str, error: AccountError | OrganizationMismatch) -> None:
    # One query and one entry in every case, so that the response time reveals nothing.
    user_id = User.objects.addressed(email).values_list("pk", flat=True).first()
    act = "login.admin_required" if isinstance(error, AdminRequired) else "login.failed"
    trail.record(act, user_id=user_id, email=email, facts={"reason": error.code})
