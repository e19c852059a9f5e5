"""Rate limits and login back-off, shared by all processes.

    limits.take("SIGNUP", limits.client_key(request))          # or TooManyRequests
    with limits.login(request, organization=…, email=…):  # around the password check

Each limit is a setting, THROTTLE_<name>. A request is counted before its work starts. Only hashes
are stored: tenancy/counters.py.
"""

import ipaddress
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from organizations import tenancy
from organizations.errors import OrganizationMismatch, OrganizationNotFound, OrganizationSuspended
from organizations.tenancy import counters, directory, trail
from organizations.tenancy.counters import Reservation
from organizations.tenancy.http import client_address

from .errors import AdminRequired, InvalidCredentials, LoginDelayed, TooManyRequests
from .models import email_key

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# How long failures are remembered after the last one and its delay.
MEMORY_SECONDS = 3_600
# When many log in to one account at once, some wait this long for the outcome of the others.
PENDING_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 0.03
_FAILURES = (InvalidCredentials, OrganizationNotFound, OrganizationSuspended, ValidationError)
# The password was right.
_NO_FAILURES = (AdminRequired, OrganizationMismatch)


def parse(rate: str) -> tuple[int, int]:
    """`100/min` as (100, 60)."""
    count, _, unit = rate.partition("/")
    return int(count), _SECONDS[unit[0]]


def client_key(request: HttpRequest) -> str:
    """What identifies a client for a limit: its IPv4 address, or its IPv6 address's /64 network.

    One customer has a whole /64 or more. All clients of a unix socket count as one.
    """
    found = client_address(request)
    if found is None:
        return "unknown"
    address = ipaddress.ip_address(found)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))
    return str(address)


def is_on(name: str) -> bool:
    """Whether THROTTLE_<name> limits anything."""
    return settings.THROTTLES and getattr(settings, f"THROTTLE_{name}") is not None


def take(
    name: str, *counted_by: str | int, organization_id: int | None = None, email: str = ""
) -> None:
    """Count one request against THROTTLE_<name>. Raises TooManyRequests.

    counted_by: what shares one count. organization_id, email: for the audit trail, which gets one
    entry per window.
    """
    if not is_on(name):
        return
    rate = getattr(settings, f"THROTTLE_{name}")
    at_most, seconds = parse(rate)
    hit = counters.get().hit(_key(name, seconds, *counted_by), seconds=seconds)
    if hit.number == at_most + 1:
        trail.record(
            "throttle.exceeded",
            organization_id=organization_id,
            email=email,
            facts={"limit": name.lower(), "rate": rate},
        )
    if hit.number > at_most:
        raise TooManyRequests(hit.seconds_left)


def pause_seconds(name: str) -> int:
    """How far apart requests must be to never hit THROTTLE_<name>; 0 when it is off."""
    if not is_on(name):
        return 0
    at_most, seconds = parse(getattr(settings, f"THROTTLE_{name}"))
    return math.ceil(seconds / at_most)


def _word(organization_id: int) -> str:
    """The same as directory.counted_as; queries the master if the organization is not active."""
    tenant = tenancy.peek()
    if tenant is None or tenant.organization_id != organization_id:
        tenant = directory.get().tenant_by_id(organization_id)
    return f"key:{tenant.key}"


def _key(*parts: str | int) -> str:
    # JSON keeps ("a", "b c") and ("a b", "c") apart.
    return json.dumps(parts)


# --- Logins -------------------------------------------------------------------------------------
@contextmanager
def login(request: HttpRequest, *, organization: str, email: str) -> Iterator[None]:
    """Wraps one attempt to log in to an organization. Raises TooManyRequests, LoginDelayed.

    Treats unknown addresses and organizations alike, so that it reveals none.
    """
    if not settings.THROTTLES:
        yield
        return
    take("LOGIN_ADDRESS", client_key(request))
    organization_id, name = directory.get().counted_as(organization)
    person = (name, email_key(email))
    take("LOGIN_ACCOUNT", *person, organization_id=organization_id, email=email)
    with _attempt(*person, organization_id=organization_id, email=email):
        take("LOGIN_ORGANIZATION", name, organization_id=organization_id)
        yield


@contextmanager
def own_password(request: HttpRequest, *, organization_id: int, email: str) -> Iterator[None]:
    """Wraps a check of the current password, which the thief of a token would try to guess.

    Errors in other fields do not count as failed attempts. Raises as `login` does.
    """
    if not settings.THROTTLES:
        yield
        return
    take("LOGIN_ADDRESS", client_key(request))
    person = (_word(organization_id), email_key(email))
    take("LOGIN_ACCOUNT", *person, organization_id=organization_id, email=email)
    elsewhere: ValidationError | None = None
    with _attempt(*person, organization_id=organization_id, email=email):
        try:
            yield
        except ValidationError as error:
            if "current_password" in error.error_dict:
                raise
            elsewhere = error
    if elsewhere is not None:
        raise elsewhere


@contextmanager
def staff_login(request: HttpRequest, *, username: str) -> Iterator[None]:
    """`login` for staff, in Django admin. A ValidationError inside counts as a failure."""
    if not settings.THROTTLES:
        yield
        return
    take("LOGIN_ADDRESS", client_key(request))
    person = ("staff", email_key(username))
    take("LOGIN_ACCOUNT", *person)
    with _attempt(*person):
        yield


def mail(request: HttpRequest, *, organization: str, email: str) -> None:
    """Count one request for a mail, such as a password reset. Raises TooManyRequests.

    Call it before any lookup, so that it reveals no address.
    """
    if not settings.THROTTLES:
        return
    take("MAIL_ADDRESS", client_key(request))
    organization_id, name = directory.get().counted_as(organization)
    _take_mail(name, organization_id=organization_id, email=email)


def mail_to_oneself(
    request: HttpRequest, *, organization_id: int, user_id: int, email: str
) -> None:
    """`mail` for a user who is logged in. Raises TooManyRequests."""
    take("MAIL_ADDRESS", client_key(request))
    _take_mail_of(user_id, organization_id=organization_id, email=email)


def mail_beside(
    request: HttpRequest | None, *, organization_id: int, user_id: int | None, email: str
) -> None:
    """`mail` for one that is part of another action. Raises TooManyRequests.

    user_id: the owner of the new address; None for the first admin. These have a per-client limit
    of their own, so that adding many users blocks no password reset from the same network.
    """
    if request is not None:
        take("MAIL_ADDRESS", "acts", client_key(request))
    _take_mail_of(user_id, organization_id=organization_id, email=email)


def news(*, organization_id: int, user_id: int, email: str, is_confirmed: bool) -> None:
    """`mail` for a change notice to the previous address. Raises TooManyRequests.

    A confirmed address has its own count; an unconfirmed one may be any stranger's.
    """
    name = _word(organization_id)
    take("MAIL_ACCOUNT", "news", name, user_id, organization_id=organization_id)
    if not is_confirmed:
        _take_mail(name, organization_id=organization_id, email=email)


def _take_mail_of(user_id: int | None, *, organization_id: int, email: str) -> None:
    name = _word(organization_id)
    if user_id is not None:
        # A user's address can be changed again and again.
        take("MAIL_ACCOUNT", "user", name, user_id, organization_id=organization_id)
    _take_mail(name, organization_id=organization_id, email=email)


def _take_mail(name: str, *, organization_id: int | None, email: str) -> None:
    key = email_key(email)
    take("MAIL_ACCOUNT", name, key, organization_id=organization_id, email=email)
    take("MAIL_ORGANIZATION", name, organization_id=organization_id)
    # Over all organizations.
    take("MAIL_RECIPIENT", key, organization_id=organization_id, email=email)


@contextmanager
def _attempt(*person: str, organization_id: int | None = None, email: str = "") -> Iterator[None]:
    """Refuse the attempt during a delay; count it as failed until it succeeds."""
    key = _key("FAILURES", *person)
    counted = counters.get()
    reservation = _reserve(key)
    try:
        yield
    except _FAILURES:
        counted.settle(key)
        if reservation.failures == settings.LOGIN_FREE_FAILURES + 1:
            # Only the first delay is recorded; the others follow from it.
            trail.record("login.delayed", organization_id=organization_id, email=email)
        raise
    except _NO_FAILURES:
        counted.forget(key)
        raise
    except BaseException:
        counted.release(key)
        raise
    counted.forget(key)


def _reserve(key: str) -> Reservation:
    """A granted reservation. Raises LoginDelayed.

    When running attempts use up the free failures, it waits for their outcome: people who know the
    password may log in side by side.
    """
    end = time.monotonic() + PENDING_SECONDS
    while True:
        reservation = counters.get().reserve(
            key,
            free=settings.LOGIN_FREE_FAILURES,
            longest=settings.LOGIN_LONGEST_DELAY_SECONDS,
            memory=MEMORY_SECONDS,
        )
        if reservation.granted:
            return reservation
        known = reservation.failures - reservation.pending
        undecided = known <= settings.LOGIN_FREE_FAILURES and reservation.pending
        # A longer delay comes from attempts whose process died: waiting would not help.
        if not undecided or reservation.seconds_left > PENDING_SECONDS or time.monotonic() > end:
            raise LoginDelayed(reservation.seconds_left)
        time.sleep(_ASK_AGAIN_SECONDS)


@contextmanager
def even_time(*, for_success: bool = False) -> Iterator[None]:
    """With ORG_PUBLIC_LOOKUP off, a failed login inside takes at least LOGIN_FLOOR_MS.

    Otherwise the time would tell whether the organization exists, which takes one connection more.
    for_success: delay successes too.
    """
    began = time.monotonic()
    tells = for_success
    try:
        yield
    except BaseException as error:
        tells = isinstance(error, InvalidCredentials)
        raise
    finally:
        if tells and settings.ORG_PUBLIC_LOOKUP == "off":
            left = began + settings.LOGIN_FLOOR_MS / 1000 - time.monotonic()
            time.sleep(max(0.0, left))
