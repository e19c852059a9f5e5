"""Logging in: the one way in, for the token endpoints and for the browser's page."""

from dataclasses import dataclass

from django.http import HttpRequest

from organizations import tenancy
from organizations.errors import AdminRequired, OrganizationMismatch
from organizations.tenancy import Tenant, directory
from organizations.tenancy.http import other_organization

from . import services
from .models import LoginSession, User


@dataclass(frozen=True, slots=True)
class Login:
    """A login that has just begun."""

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
    """A new login. Runs outside any organization: the name in the body decides.

    Raises what a login can fail with: OrganizationNotFound, OrganizationSuspended,
    OrganizationMismatch for a header or host that names another one, InvalidCredentials,
    AdminRequired.
    """
    tenant = directory.get().tenant_by_name(organization)
    if source := other_organization(request, tenant):
        raise OrganizationMismatch(source)
    with tenancy.override(tenant):
        user = services.authenticate(email=email, password=password)
        if admins_only and not user.is_admin:
            raise AdminRequired
        return Login(tenant, user, services.start_session(user, kind=kind))
