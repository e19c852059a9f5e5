"""Sends account e-mails, in a job: password reset, verification and change notices."""

import logging
import re
import smtplib
import time
import traceback
import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlencode

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import get_script_prefix, reverse

from organizations import tenancy
from organizations.errors import MailRefused, MailServerUnavailable
from organizations.tenancy import Tenant, directory, trail
from organizations.tenancy.mailroom import Order

from . import link_tokens
from .link_tokens import Purpose
from .models import User

logger = logging.getLogger(__name__)


class Kind(StrEnum):
    """What a mail is about. The first two carry a link; the others report a change."""

    RESET = "reset"
    VERIFICATION = "verification"
    NEW_PASSWORD = "new_password"  # noqa: S105 - a word, not a secret
    NEW_ADDRESS = "new_address"

    @property
    def purpose(self) -> Purpose | None:
        """What the link is for; None for mails without a link."""
        return Purpose(self) if self in (Kind.RESET, Kind.VERIFICATION) else None

    @property
    def worth_seconds(self) -> int:
        """How long after the request the mail is worth sending: as long as a link is valid."""
        return (self.purpose or Purpose.VERIFICATION).lifetime_seconds


PAGES = {Kind.RESET: "password-reset-confirm", Kind.VERIFICATION: "email-verify"}
_SUBJECTS = {
    Kind.RESET: "Set a new password for {organization}",
    Kind.VERIFICATION: "Confirm your e-mail address for {organization}",
    Kind.NEW_PASSWORD: "Your password for {organization} was changed",
    Kind.NEW_ADDRESS: "Your e-mail address for {organization} was changed",
}
_TEXTS = {
    Kind.RESET: (
        "Someone requested a password reset for your account at {organization}.\n"
        "To set a new password, open this link. It works once and expires in {lifetime}:\n\n"
        "{link}\n\n"
        "If you didn't request this, ignore this e-mail: your password stays the same.\n"
    ),
    Kind.VERIFICATION: (
        "This e-mail address was entered for an account at {organization}.\n"
        "To confirm that it is yours, open this link. It works once and expires in {lifetime}:\n\n"
        "{link}\n\n"
        "If you didn't request this, ignore this e-mail.\n"
    ),
    Kind.NEW_PASSWORD: (
        "The password of your account at {organization} was changed at {time}.\n\n"
        "If this wasn't you, reset your password now:\n\n"
        "{link}\n"
    ),
    Kind.NEW_ADDRESS: (
        "The e-mail address of your account at {organization} was changed at {time}.\n"
        "E-mails about your account now go to the new address.\n\n"
        "If this wasn't you, contact an admin of {organization} now.\n"
    ),
}
# Mail programs turn such text into a link. Any stranger can choose the name by signing up, and
# the address that the mail goes to.
_LINK_LIKE = re.compile(r"[:/\\@]|[.。]\w")
_MAX_NAME_LENGTH = 80


def deliver(order: Order, *, admin_email: str) -> bool:
    """Write and send the order's mail in the active organization. Returns whether one was sent.

    admin_email: the first admin's. Sends nothing when it is too late, when there is no recipient,
    or when the address has changed since: the change ordered its own mails. Raises
    MailServerUnavailable, which a retry can fix, and MailRefused.
    """
    if time.time() > order.asked_at + Kind(order.kind).worth_seconds:
        logger.warning("mail dropped: too late to be useful", extra={"kind": order.kind})
        return False
    mail, user = _write(order, admin_email=admin_email)
    if mail is None:
        return False
    send(mail)
    if order.kind == Kind.VERIFICATION and user is not None:
        with trail.acting(order.by):
            trail.record("email.verification_sent", user_id=user.pk, email=user.email)
    return True


def _write(order: Order, *, admin_email: str) -> tuple[EmailMessage | None, User | None]:
    """The mail and its user; no mail (None) when there is no recipient.

    It is written in both cases, so that both take equally long.
    """
    kind, tenant = Kind(order.kind), tenancy.get()
    user = None if order.address else _user_of(order, admin_email=admin_email)
    addressee = user or User(pk=0, email=order.address or "nobody@localhost.invalid")
    # Without the request's script prefix: it is not part of the public address.
    page = reverse(PAGES.get(kind, "password-reset")).removeprefix(get_script_prefix())
    query = ""
    if kind.purpose is not None:
        query = "?" + urlencode({"token": link_tokens.token_for(addressee, purpose=kind.purpose)})
    mail = compose(
        kind,
        organization=plain(directory.get().display_name(tenant), tenant.slug),
        # Never the typed address: one that only looks the same belongs to somebody else.
        address=addressee.email,
        link=f"{base_url(order.host_url, tenant)}/{page}{query}",
        asked_at=order.asked_at,
    )
    wanted = bool(order.address) or (
        user is not None
        and user.is_active
        and order.email_version in (0, user.email_version)
        and not (kind is Kind.VERIFICATION and user.email_verified_at is not None)
    )
    if not wanted:
        return None, user
    return mail, user


def _user_of(order: Order, *, admin_email: str) -> User | None:
    if order.user_id is None:
        return User.objects.addressed(admin_email).first()
    return User.objects.filter(pk=order.user_id).first()


def compose(
    kind: Kind, *, organization: str, address: str, link: str, asked_at: int = 0
) -> EmailMessage:
    """A mail in plain text."""
    seconds = kind.worth_seconds
    lifetime = f"{seconds // 3600} hours" if seconds > 7200 else f"{seconds // 60} minutes"
    moment = f"{datetime.fromtimestamp(asked_at, UTC):%Y-%m-%d %H:%M} UTC"
    text = _TEXTS[kind].format(organization=organization, link=link, lifetime=lifetime, time=moment)
    return EmailMessage(
        subject=_SUBJECTS[kind].format(organization=organization),
        body=text,
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
    )


def plain(name: str, slug: str) -> str:
    """The organization's name on one line; its slug when the name could become a link."""
    line = " ".join(name.split())
    link_like = _LINK_LIKE.search(unicodedata.normalize("NFKC", line))
    if line.isprintable() and not link_like and len(line) <= _MAX_NAME_LENGTH:
        return line
    return slug


def base_url(host_url: str, tenant: Tenant) -> str:
    """Base URL of links: PUBLIC_URL, or else the host of the request."""
    if settings.PUBLIC_URL:
        public: str = settings.PUBLIC_URL
        return public.replace("{organization}", tenant.slug)
    return host_url


def send(mail: EmailMessage) -> None:
    """Send it. Raises MailServerUnavailable and MailRefused; errors and log name no address."""
    try:
        mail.send()
    except Exception as error:
        kind = type(error).__name__
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = {"error": kind, "where": f"{frame.filename}:{frame.lineno}"}
        if _is_temporary(error):
            logger.warning("mail not sent, will retry", extra=where)
            # `from None`: the error's text can hold an address or a link.
            raise MailServerUnavailable(kind) from None
        logger.error("mail not sent", extra=where)
        raise MailRefused(kind) from None


def _is_temporary(error: Exception) -> bool:
    """Whether a retry can succeed. False if the server rejects this mail or recipient for good.

    The operator can fix a refused login or sender, so those are retried.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return any(code < 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPDataError):
        return error.smtp_code < 500
    return isinstance(error, OSError) and not isinstance(error, smtplib.SMTPNotSupportedError)
