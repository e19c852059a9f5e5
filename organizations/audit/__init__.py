"""Writes and prunes audit entries in the master database."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from accounts.models import email_key
from organizations.models import AuditEntry, Organization
from organizations.secrets import person_hash
from organizations.tenancy import trail
from organizations.tenancy.trail import Fact, Origin

logger = logging.getLogger(__name__)


class MasterTrail:
    """Writes the entries of tenancy.trail."""

    def record(
        self,
        act: str,
        origin: Origin,
        *,
        organization_id: int | None,
        user_id: int | None,
        email: str,
        facts: Mapping[str, Fact],
    ) -> None:
        """Store an entry. Raises what the database raises, and CredentialUnreadable."""
        AuditEntry.objects.create(
            act=act,
            organization_id=organization_id,
            actor=origin.actor,
            actor_id=origin.actor_id,
            user_id=user_id,
            person=person(organization_id, email),
            address=origin.address,
            request_id=origin.request_id,
            facts=dict(facts),
        )


@contextmanager
def recorded(
    act: str, organization: Organization, facts: Mapping[str, Fact] | None = None
) -> Iterator[None]:
    """Run the block and record the event in one transaction of the master.

    If it fails, the object's fields are restored too.
    """
    before = dict(vars(organization))
    try:
        with transaction.atomic(using="default"):
            yield
            trail.record(act, organization_id=organization.pk, facts=facts)
    except BaseException:
        vars(organization).update(before)
        raise


def unmarked() -> None:
    """The mark of an act that was sent without an Idempotency-Key."""


def record_failure(organization: Organization, error: BaseException) -> None:
    """Record a failed sign-up; never raises, since the caller reports the cause."""
    facts = {"behind_step": str(organization.provisioned), "error": type(error).__name__}
    try:
        trail.record("organization.create_failed", organization_id=organization.pk, facts=facts)
    except Exception:
        logger.exception("failure not recorded", extra={"organization": organization.pk})


def person(organization_id: int | None, email: str) -> str:
    """The hash that identifies this address in this organization. May be empty.

    Without an organization nothing is stored about the address.
    """
    if organization_id is None or not email:
        return ""
    return person_hash(organization_id, email_key(email))


def prune() -> int:
    """Delete entries older than AUDIT_RETENTION_DAYS. Returns how many.

    In batches, so that writers do not wait long. An entry about it is written first: what cannot
    be recorded is not done.
    """
    days = settings.AUDIT_RETENTION_DAYS
    before = timezone.now() - timedelta(days=days)
    trail.record(
        "audit.pruned", organization_id=None, facts={"days": days, "before": before.isoformat()}
    )
    pruned = 0
    with connections["default"].cursor() as cursor:
        while True:
            cursor.execute("SELECT public.audit_prune(%s)", [before])
            (batch,) = cursor.fetchone()
            if not batch:
                return pruned
            pruned += batch
