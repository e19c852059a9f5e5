"""Enqueues account e-mails: password reset, verification and change notices.

An order names the person by id. A background job writes and sends the mail (accounts/letters.py),
so it survives the end of this process.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.conf import settings
from django.http import HttpRequest

from organizations import tenancy
from organizations.tenancy import Tenant, mailroom, trail
from organizations.tenancy.mailroom import Order

from . import limits
from .errors import TooManyRequests
from .letters import Kind
from .models import User

logger = logging.getLogger(__name__)

_NOBODY = 0


def request_reset(request: HttpRequest, tenant: Tenant, *, email: str) -> None:
    """Order a password-reset mail to the active user with this address, if there is one.

    One query and one order in every case, so that the response time reveals nothing.
    """
    with tenancy.override(tenant):
        user = User.objects.addressed(email).only("pk", "email_version").first()
    _order(
        Kind.RESET,
        tenant.organization_id,
        user.pk if user else _NOBODY,
        email_version=user.email_version if user else 0,
        host_url=base_url(request),
    )


def request_nothing(request: HttpRequest) -> None:
    """Order a mail to nobody, which takes as long as a real one."""
    _order(Kind.RESET, _NOBODY, _NOBODY, host_url=base_url(request))


def request_verification(request: HttpRequest, user: User) -> None:
    """Order a verification mail to a user of the active organization.

    A direct request for it must be counted before; see limits.mail_to_oneself.
    """
    _order(
        Kind.VERIFICATION,
        tenancy.get().organization_id,
        user.pk,
        email_version=user.email_version,
        host_url=base_url(request),
    )


# --- Mails that are part of another action -------------------------------------------------------
# The action is already done, and stays so if a limit is reached or the order fails.
def verify_beside(request: HttpRequest, user: User) -> None:
    """request_verification for a new address, if the limits allow it."""
    organization_id = tenancy.get().organization_id
    with _part_of_an_action():
        limits.mail_beside(
            request, organization_id=organization_id, user_id=user.pk, email=user.email
        )
        request_verification(request, user)


def verify_first_admin(host_url: str, *, organization_id: int, email: str) -> None:
    """The same for the first admin of a new organization.

    host_url: base_url() of the request. email: the admin's, only for counting.
    """
    with _part_of_an_action():
        limits.mail_beside(None, organization_id=organization_id, user_id=None, email=email)
        _order(Kind.VERIFICATION, organization_id, None, host_url=host_url)


def tell_of_change(request: HttpRequest, before: User, *, kind: Kind) -> None:
    """Order a change notice to the user's previous address.

    For a confirmed address it has its own limit, which nobody can use up first.
    """
    organization_id = tenancy.get().organization_id
    with _part_of_an_action():
        limits.news(
            organization_id=organization_id,
            user_id=before.pk,
            email=before.email,
            is_confirmed=before.email_verified_at is not None,
        )
        _order(kind, organization_id, before.pk, host_url=base_url(request), address=before.email)


@contextmanager
def _part_of_an_action() -> Iterator[None]:
    try:
        yield
    except TooManyRequests:
        logger.warning("mail withheld: a limit is reached")
    except Exception as error:
        # Only its type: the message can contain an address.
        logger.error("mail not ordered", extra={"error": type(error).__name__})


def _order(
    kind: Kind,
    organization_id: int,
    user_id: int | None,
    *,
    host_url: str,
    email_version: int = 0,
    address: str = "",
) -> None:
    mailroom.get().take(
        Order(
            kind=kind,
            organization_id=organization_id,
            user_id=user_id,
            email_version=email_version,
            host_url="" if settings.PUBLIC_URL else host_url,
            asked_at=int(time.time()),
            by=replace(trail.origin(), address=None),
            address=address,
        )
    )


def base_url(request: HttpRequest) -> str:
    """Scheme and host of the request."""
    return f"{request.scheme}://{request.get_host()}"
