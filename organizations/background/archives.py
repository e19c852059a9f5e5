"""Enqueues archives and thaws and reports their state; mails thaw links.

A link names the organization and the backup that it is thawed from: a thaw invalidates it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.urls import get_script_prefix, reverse
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from accounts import letters, limits, mails
from accounts.errors import InvalidLink, TooManyRequests
from accounts.models import email_key
from organizations.audit import unmarked
from organizations.errors import OrganizationBusy, WrongState
from organizations.models import Organization
from organizations.tenancy import directory, trail

from .enqueueing import in_master
from .newest import Job, newest_job

What = Literal["archive", "thaw"]
TASKS: dict[str, str] = {"archive": "archive_organization", "thaw": "thaw_organization"}
LINK_TASK = "mail_thaw_link"
LINK_HOURS = 24
MAX_LENGTH = 500
# The same for every name.
LINK_ASKED = (
    "If this organization is archived, we have sent its admin an e-mail with a link that brings it "
    "back."
)
_TEXT = (
    "Someone asked to bring back {organization}, which is archived.\n"
    "To bring it back, open this link. It works once and expires in {hours} hours:\n\n"
    "{link}\n\n"
    "If you didn't request this, ignore this e-mail: it stays archived.\n"
)
Status = Organization.Status


# --- Asked by staff -----------------------------------------------------------------------------
def ask_archive(organization: Organization, *, mark: Callable[[], object] = unmarked) -> Job:
    """Enqueue an archive. mark: called in the commit. Raises WrongState unless it is active or
    suspended, OrganizationBusy if one waits, and ServerUnavailable."""
    organization.require_usable()
    organization.require_writable()
    return _ask("archive", organization, mark)


def ask_thaw(organization: Organization, *, mark: Callable[[], object] = unmarked) -> Job:
    """The same for a thaw. Raises WrongState unless it is archived."""
    if organization.status != Status.ARCHIVED:
        raise WrongState(organization.name, status=organization.status, wanted=Status.ARCHIVED)
    return _ask("thaw", organization, mark)


def newest(what: What, organization: Organization) -> Job:
    """The state of the newest one."""
    return newest_job(TASKS[what], organization.pk)


def _ask(what: What, organization: Organization, mark: Callable[[], object]) -> Job:
    if newest(what, organization).is_under_way:
        raise OrganizationBusy(organization.name)
    act = "organization.archive_asked" if what == "archive" else "organization.thaw_asked"
    job = app.tasks[TASKS[what]].configure(queueing_lock=f"{what}:{organization.pk}")
    try:
        with in_master():
            trail.record(act, organization_id=organization.pk)
            number = job.defer(organization_id=organization.pk)
            mark()
    except AlreadyEnqueued as error:
        raise OrganizationBusy(organization.name) from error
    return Job("waiting", number)


# --- Asked by its admin -------------------------------------------------------------------------
def ask_link(request: HttpRequest, *, name: str) -> None:
    """Order a mail with a link, to the admin of an archived organization of this name.

    Does the same work for every name. Raises TooManyRequests and ServerUnavailable.
    """
    with limits.even_time(for_success=True):
        limits.take("MAIL_ADDRESS", limits.client_key(request))
        found, counted = directory.get().counted_as(name)
        limits.take("MAIL_ACCOUNT", "thaw", counted, organization_id=found)
        host_url = "" if settings.PUBLIC_URL else mails.base_url(request)
        with in_master():
            trail.record("organization.thaw_link_asked", organization_id=found)
            app.tasks[LINK_TASK].defer(organization_id=found or 0, host_url=host_url)


def mail_link(organization_id: int, *, host_url: str) -> bool:
    """Send the link, if the organization is archived and no clone. Returns whether it was sent.

    Raises MailServerUnavailable and MailRefused.
    """
    row = Organization.objects.filter(pk=organization_id, status=Status.ARCHIVED).first()
    if row is None or row.archived_backup is None or row.is_clone:
        return False
    try:
        recipient = email_key(row.admin_email)
        limits.take("MAIL_RECIPIENT", recipient, organization_id=row.pk)
    except TooManyRequests:
        return False
    page = reverse("thaw-page").removeprefix(get_script_prefix())
    base = letters.base_url(host_url, row.tenant)
    organization = letters.plain(row.name, row.slug)
    letters.send(
        EmailMessage(
            subject=f"Bring {organization} back",
            body=_TEXT.format(
                organization=organization,
                hours=LINK_HOURS,
                link=f"{base}/{page}?token={token_for(row)}",
            ),
            to=[row.admin_email],
            headers={"Auto-Submitted": "auto-generated"},
        )
    )
    return True


def token_for(organization: Organization) -> str:
    """The token of a link for an archived organization; URL-safe."""
    assert organization.archived_backup is not None  # noqa: S101 - it is archived
    content = {"org": organization.pk, "backup": organization.archived_backup.key}
    return _signer().sign_object(content)


@dataclass(frozen=True, slots=True)
class Link:
    """What a valid token names. fits: whether it still brings the organization back."""

    organization: Organization
    fits: bool


def read(token: str) -> Link:
    """Whose link it is. Raises InvalidLink if it is forged or expired, or the organization gone."""
    try:
        content: Any = _signer().unsign_object(token[:MAX_LENGTH], max_age=LINK_HOURS * 3600)
        number, backup = int(content["org"]), str(content["backup"])
    except (signing.BadSignature, KeyError, ValueError, TypeError) as error:
        raise InvalidLink from error
    row = Organization.objects.filter(pk=number, status__in=(*Status.usable(), Status.ARCHIVED))
    found = row.select_related("archived_backup").first()
    if found is None:
        raise InvalidLink
    run = found.archived_backup
    return Link(found, run is not None and run.key == backup)


def use_link(request: HttpRequest, *, token: str) -> Job:
    """Enqueue the thaw, or return its state. Raises InvalidLink, TooManyRequests and
    ServerUnavailable."""
    organization = look(request, token=token)
    job = newest("thaw", organization)
    if job.is_under_way:
        return job
    return ask_thaw(organization)


def look(request: HttpRequest, *, token: str) -> Organization:
    """The organization, without using the link up. Raises InvalidLink and TooManyRequests."""
    # A link is a credential, so each try counts like a login.
    limits.take("LOGIN_ADDRESS", limits.client_key(request))
    link = read(token)
    if not link.fits:
        raise InvalidLink
    return link.organization


def _signer() -> signing.TimestampSigner:
    # As accounts/link_tokens.py: no colon.
    return signing.TimestampSigner(salt="organizations.thaw", sep=".")
