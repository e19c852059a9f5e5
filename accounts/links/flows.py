"""Password reset and e-mail verification, as used by both the API and the web pages.

Runs outside any organization, or inside another one: the browser may be logged in to it.
"""

from django.conf import settings
from django.http import HttpRequest

from accounts import limits, link_tokens, mails
from accounts.errors import InvalidLink
from accounts.letters import Kind
from accounts.link_tokens import Link, Purpose
from accounts.logins import tenant_for_request
from organizations import tenancy
from organizations.errors import OrganizationError, OrganizationMismatch
from organizations.tenancy import Tenant, directory, trail
from organizations.tenancy.http import other_organization

from . import services

# The same for every address.
RESET_REQUESTED = "If an account has this address, we have sent an e-mail with a link."


def request_reset(request: HttpRequest, *, organization: str, email: str) -> None:
    """Order a password-reset mail. Does the same work whether or not anybody has the address.

    Raises OrganizationNotFound, OrganizationSuspended, OrganizationMismatch and TooManyRequests;
    only the last one if ORG_PUBLIC_LOOKUP is off.
    """
    with limits.even_time(for_success=True):
        limits.mail(request, organization=organization, email=email)
        try:
            tenant = _tenant_named(request, organization)
        except OrganizationError:
            if settings.ORG_PUBLIC_LOOKUP != "off":
                raise
            trail.record("password.reset_requested", organization_id=None)
            mails.request_nothing(request)
            return
        found = tenant.organization_id
        trail.record("password.reset_requested", organization_id=found, email=email)
        mails.request_reset(request, tenant, email=email)


def _tenant_named(request: HttpRequest, organization: str) -> Tenant:
    tenant = directory.get().tenant_by_name(organization)
    if source := other_organization(request, tenant):
        raise OrganizationMismatch(source)
    return tenant


def reset_password(request: HttpRequest, *, token: str, new_password: str) -> None:
    """Set a new password with a link, which is used up. Raises ValidationError, and as `_read`."""
    try:
        tenant, link = _read(request, token, Purpose.RESET)
        with tenancy.override(tenant):
            user = services.reset_password(link, new_password=new_password)
            mails.tell_of_change(request, user, kind=Kind.NEW_PASSWORD)
    except InvalidLink:
        _record_refusal(token, Purpose.RESET)
        raise


def verify_email(request: HttpRequest, *, token: str) -> None:
    """Verify an address with a link, which is used up. Raises as `reset_password`."""
    try:
        tenant, link = _read(request, token, Purpose.VERIFICATION)
        with tenancy.override(tenant):
            services.verify_email(link)
    except InvalidLink:
        _record_refusal(token, Purpose.VERIFICATION)
        raise


def look(request: HttpRequest, *, token: str, purpose: Purpose) -> None:
    """Raise as using the link would, without using it up: mail programs open links too."""
    if not token:
        raise InvalidLink
    try:
        tenant, link = _read(request, token, purpose)
        with tenancy.override(tenant):
            services.look(link)
    except InvalidLink:
        _record_refusal(token, purpose)
        raise


def _read(request: HttpRequest, token: str, purpose: Purpose) -> tuple[Tenant, Link]:
    """The link and the organization it names; a header or host may not name another.

    Raises InvalidLink, OrganizationSuspended, OrganizationMismatch and TooManyRequests.
    """
    # A link is a credential, so each try counts like a login.
    limits.take("LOGIN_ADDRESS", limits.client_key(request))
    link = link_tokens.read(token, purpose=purpose)
    return tenant_for_request(request, link.organization_id, gone=InvalidLink), link


def _record_refusal(token: str, purpose: Purpose) -> None:
    """Record the organization and user of a link that was ours but is no longer valid."""
    facts: dict[str, trail.Fact] = {"purpose": str(purpose)}
    with tenancy.override(None):
        try:
            link = link_tokens.read(token, purpose=purpose)
        except InvalidLink:
            trail.record("link.refused", organization_id=None, facts=facts)
        else:
            trail.record(
                "link.refused",
                organization_id=link.organization_id,
                user_id=link.user_id,
                facts=facts,
            )
