"""The mails that carry a link, and how they are asked for."""

import logging
import re
import unicodedata
from urllib.parse import urlencode

from django.conf import settings
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.urls import get_script_prefix, reverse

from organizations import tenancy
from organizations.errors import OutboxFull
from organizations.tenancy import Tenant, directory, trail

from . import links, outbox
from .links import Purpose
from .models import User, email_key

logger = logging.getLogger(__name__)

PAGES = {Purpose.RESET: "password-reset-confirm", Purpose.VERIFICATION: "email-verify"}
_SUBJECTS = {
    Purpose.RESET: "Set a new password for {organization}",
    Purpose.VERIFICATION: "Confirm your e-mail address for {organization}",
}
_TEXTS = {
    Purpose.RESET: (
        "Somebody has asked for a new password for your account at {organization}.\n"
        "To choose one, open this page. It is good once, and for {lifetime}:\n\n"
        "{link}\n\n"
        "If it was not you, do nothing: your password stays as it is.\n"
    ),
    Purpose.VERIFICATION: (
        "Your e-mail address was given for an account at {organization}.\n"
        "To confirm that it is yours, open this page. It is good once, and for {lifetime}:\n\n"
        "{link}\n\n"
        "If you know nothing of it, do nothing.\n"
    ),
}
# A mail program would make a link of it. The name is whatever a stranger has signed up with, and
# the mail goes to whatever address they gave.
_LINK_LIKE = re.compile(r"[:/\\@]|[.。]\w")
_MAX_NAME_LENGTH = 80


def request_link(request: HttpRequest, tenant: Tenant, *, email: str, purpose: Purpose) -> None:
    """Have a link sent to the user with this address, if there is one. Raises OutboxFull.

    Looks nobody up: what the caller does next takes as long for any address.
    """
    _request(_base(base_url(request), tenant), tenant, email=email, purpose=purpose)


def _request(base: str, tenant: Tenant, *, email: str, purpose: Purpose) -> None:
    origin = trail.origin()
    # Without the prefix that a request may have come below: it is no part of the public address.
    page = f"{base}/{reverse(PAGES[purpose]).removeprefix(get_script_prefix())}"

    def prepare() -> EmailMessage | None:
        with trail.acting(origin), tenancy.override(tenant):
            return _write(tenant, email=email, purpose=purpose, page=page)

    outbox.get().add(prepare)


def request_nothing() -> None:
    """Take the room that a link for somebody would have taken. Raises OutboxFull as that would."""
    outbox.get().add(lambda: None)


def request_verification(request: HttpRequest, tenant: Tenant, *, email: str) -> None:
    """Have a new address's owner asked whether it is theirs. Never fails what it is part of."""
    request_verification_from(base_url(request), tenant, email=email)


def request_verification_from(host_url: str, tenant: Tenant, *, email: str) -> None:
    """The same behind the request, for who has kept its base_url()."""
    try:
        base = _base(host_url, tenant)
        _request(base, tenant, email=email, purpose=Purpose.VERIFICATION)
    except OutboxFull:
        logger.warning("no verification mail: too many wait to be sent")


def _write(tenant: Tenant, *, email: str, purpose: Purpose, page: str) -> EmailMessage | None:
    """The mail, or None where nobody is to have one.

    It is written in either case, so that the next one waits as long for this one.
    """
    organization = directory.get().display_name(tenant)
    user = User.objects.filter(email_key=email_key(email)).first()
    addressee = user or User(pk=0, email=email)
    token = links.token_for(addressee, purpose=purpose)
    mail = compose(
        organization=_plain(organization, tenant.slug),
        # Never what was typed: an address that only looks like it is somebody else's.
        address=addressee.email,
        link=f"{page}?{urlencode({'token': token})}",
        purpose=purpose,
    )
    if user is None or not user.is_active:
        return None
    if purpose is Purpose.VERIFICATION:
        if user.email_verified_at is not None:
            return None
        trail.record("email.verification_sent", user_id=user.pk, email=user.email)
    return mail


def compose(*, organization: str, address: str, link: str, purpose: Purpose) -> EmailMessage:
    """A mail in plain text."""
    seconds = purpose.lifetime_seconds
    lifetime = f"{seconds // 3600} hours" if seconds > 7200 else f"{seconds // 60} minutes"
    return EmailMessage(
        subject=_SUBJECTS[purpose].format(organization=organization),
        body=_TEXTS[purpose].format(organization=organization, link=link, lifetime=lifetime),
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
    )


def _plain(name: str, slug: str) -> str:
    """The organization's name on one line; its slug where the name could be taken for a link."""
    line = " ".join(name.split())
    link_like = _LINK_LIKE.search(unicodedata.normalize("NFKC", line))
    if line.isprintable() and not link_like and len(line) <= _MAX_NAME_LENGTH:
        return line
    return slug


def base_url(request: HttpRequest) -> str:
    """Scheme and host that the request came to."""
    return f"{request.scheme}://{request.get_host()}"


def _base(host_url: str, tenant: Tenant) -> str:
    """Where links lead: PUBLIC_URL, or else the host that the request came to."""
    if settings.PUBLIC_URL:
        public: str = settings.PUBLIC_URL
        return public.replace("{organization}", tenant.slug)
    return host_url
