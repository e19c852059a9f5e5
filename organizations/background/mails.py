"""Sends e-mails as jobs. A job names people by id, since staff can read its arguments."""

import logging
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts import letters
from organizations.background import enqueueing
from organizations.jobs.models import SealedAddress
from organizations.migrating.skew import refuse_outdated
from organizations.models import BackupRun, Organization
from organizations.secrets import seal, unseal
from organizations.tenancy.mailroom import Order
from organizations.tenancy.trail import Origin

logger = logging.getLogger(__name__)

TASK = "send_mail"


class MailJobs:
    """Stores each order as a job, which sends the mail."""

    def take(self, order: Order) -> None:
        """Write one row in the master, even if nobody gets the mail. Raises ServerUnavailable."""
        facts = asdict(order)
        address = facts.pop("address")
        del facts["by"]["address"]
        with enqueueing.in_master():
            job_id = app.tasks[TASK].defer(**facts)
            if address:
                SealedAddress.objects.create(job_id=job_id, sealed_address=seal(address))


def send(organization: Organization, job_id: int, **facts: Any) -> None:
    """Send a job's mail in the active organization, if it is still wanted. A clone sends none.

    Raises as accounts.letters does, OrganizationMigrating and CredentialUnreadable.
    """
    refuse_outdated(
        organization.fingerprint, name=organization.name, organization_id=organization.pk
    )
    kept = SealedAddress.objects.filter(job_id=job_id).first()
    if organization.is_clone:
        # Not even an exact one: its users are the original's, and expect no mail from it.
        logger.info("mail of a clone not sent", extra={"organization": organization.pk})
    else:
        order = Order(
            **facts | {"organization_id": organization.pk, "by": Origin(**facts["by"])},
            address=unseal(kept.sealed_address, owner=organization.name) if kept else "",
        )
        letters.deliver(order, admin_email=organization.admin_email)
    if kept is not None:
        kept.delete()


_ALARM = """The backup of {at:%Y-%m-%d %H:%M} UTC of organization {number} ({slug}) {what}: {code}.

What to do: run `manage.py check_orgs`, which says why, and see docs/backups.md, "Verifying".
"""


def alarm(backup: str, *, is_late: bool = False) -> None:
    """Mail ADMINS that the backup of this key was not verified, unless it was since.

    is_late: ordered for later; a bad one was reported at once. Raises MailServerUnavailable and
    MailRefused.
    """
    run = BackupRun.objects.filter(key=backup).exclude(error_code="").first()
    addresses = [address for _, address in settings.ADMINS]
    is_bad = run is not None and run.state == BackupRun.State.BAD
    if run is None or not addresses or (is_late and is_bad):
        return
    number = run.organization_id
    rows = Organization.objects.filter(key=run.organization_key)
    slug = rows.values_list("slug", flat=True).first() or "it has no row any more"
    what = "is bad" if is_bad else "could not be verified"
    said = {"at": run.started_at, "number": number, "slug": slug, "what": what}
    mail = EmailMessage(
        subject=f"A backup of organization {number} {what}: {run.error_code}",
        body=_ALARM.format(**said, code=run.error_code),
        to=addresses,
        headers={"Auto-Submitted": "auto-generated"},
    )
    letters.send(mail)


def forget_addresses() -> None:
    """Delete the addresses of jobs that ended without sending."""
    waiting = ProcrastinateJob.objects.filter(status__in=("todo", "doing"), task_name=TASK)
    SealedAddress.objects.exclude(job_id__in=waiting.values("pk")).delete()
