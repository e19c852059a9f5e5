"""Re-encrypts, tests and resets stored credentials when CREDENTIAL_KEYS change or are lost."""

import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db import models, transaction
from psycopg import sql

from organizations.audit import recorded
from organizations.errors import OUR_FAULT, CredentialUnreadable
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization, SpareDatabase
from organizations.postgres import identity
from organizations.postgres.fence import Change, fence, mark_no_fence
from organizations.postgres.holding import hold
from organizations.postgres.roles import set_password
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning.undoing import expected
from organizations.secrets import new_audit_key, reseal, seal, unseal
from organizations.tenancy import tenant_labels, trail

logger = logging.getLogger(__name__)

_PREFIX = "sealed_"
_SAMPLE = 5
_WAIT_SECONDS = 10.0
# How long a login can take to show in pg_stat_activity.
_LOGGING_IN_SECONDS = 0.1


# --- Changed ------------------------------------------------------------------------------------
def reseal_credentials() -> int:
    """Re-encrypt all stored secrets with the first of CREDENTIAL_KEYS.

    All fields of the master named `sealed_…`: of organizations, spare databases, waiting sign-ups.
    Returns the number of organizations. Raises CredentialUnreadable for a secret that no key
    decrypts; those before it are done.
    """
    count = 0
    for model, names in _sealed():
        # Spare databases first: one that is taken before its turn becomes an organization.
        for pk in model._base_manager.values_list("pk", flat=True).iterator():
            with transaction.atomic(using="default"):
                mark_no_fence()
                count += _reseal_one(model, names, pk)
    return count


def _sealed() -> Iterator[tuple[type[models.Model], list[str]]]:
    found = []
    for model in apps.get_models():
        if model._meta.app_label not in tenant_labels() and not model._meta.proxy:
            names = [each.name for each in model._meta.concrete_fields]
            if sealed := [name for name in names if name.startswith(_PREFIX)]:
                found.append((model, sealed))
    yield from sorted(found, key=lambda pair: pair[0] is Organization)


def _reseal_one(model: type[models.Model], names: list[str], pk: object) -> bool:
    """Whether it was an organization's."""
    row = model._base_manager.select_for_update().filter(pk=pk).first()
    # None: it was undone, or taken, since the list was read.
    if row is None or not any(getattr(row, name) for name in names):
        return False
    resealed = {
        name: reseal(getattr(row, name), owner=str(row)) for name in names if getattr(row, name)
    }
    model._base_manager.filter(pk=pk).update(**resealed)
    if not isinstance(row, Organization):
        return False
    trail.record("credentials.resealed", organization_id=row.pk)
    return True


# --- Wrong --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sample:
    """Sampled organizations: whose password no key decrypts, and whether any was decrypted."""

    unreadable: tuple[str, ...]
    any_readable: bool


def sample() -> Sample:
    """Try to decrypt the newest and the oldest organizations' stored passwords."""
    rows = Organization.objects.exclude(sealed_password="")
    newest = rows.order_by("-pk").values_list("name", "sealed_password")
    oldest = rows.order_by("pk").values_list("name", "sealed_password")
    tried = dict([*newest[:_SAMPLE], *oldest[:_SAMPLE]])
    unreadable = tuple(name for name, sealed in tried.items() if not is_readable(sealed))
    return Sample(unreadable, len(unreadable) < len(tried))


def is_readable(sealed: str) -> bool:
    """Whether one of CREDENTIAL_KEYS decrypts it."""
    try:
        unseal(sealed, owner="")
    except CredentialUnreadable:
        return False
    return True


# --- Lost ---------------------------------------------------------------------------------------
def unreadable() -> list[Organization]:
    """The organizations whose stored password or audit hash key no key decrypts."""
    rows = Organization.objects.exclude(sealed_password="").order_by("pk")
    return [
        row
        for row in rows.iterator()
        if not all(map(is_readable, filter(None, (row.sealed_password, row.sealed_audit_key))))
    ]


def reset(organization: Organization) -> bool:
    """Give the organization's role a new password, and end sessions opened with the old one.

    Returns whether it did: an unfinished one, or one without a role, has no use for one.
    If its audit hash key is lost, it gets a new one: entries from before and after can no longer be
    matched to one person. Raises DatabaseKept if the role is not certainly the organization's,
    OrganizationBusy, ServerUnavailable, ServerRefused and, as fence() does, SessionsRemain. What a
    killed process left open is ended by a worker or by reconcile_orgs.
    """
    password = secrets.token_urlsafe(32)
    with open_session() as session:
        hold(session, organization, wait_seconds=_WAIT_SECONDS)
        # Of one that is kept aside too, whose role still may not log in.
        is_trashed = organization.status == Organization.Status.TRASHED
        has_one = (organization.is_usable or is_trashed) and organization.sealed_password
        if not has_one or not session.role_exists(organization.role_name):
            return False
        identity.require(session, expected(organization))
        facts = {"sealed_password": seal(password)}
        if not is_readable(organization.sealed_audit_key):
            facts["sealed_audit_key"] = new_audit_key()
        # Both in one transaction: the role and the row are on the same server.
        with session.connection.transaction():
            set_password(session, role=organization.role_name, password=password)
            _update(session, organization, facts)
            mark = session.value(_MARK, (organization.pk,))
        change = Change(mark, session.value("SELECT clock_timestamp()"))
    try:
        with recorded("credentials.reset", organization):
            organization.refresh_from_db()
    finally:
        # Also what was logging in with the old password just now, and asks nobody. What was opened
        # since has the new one, and goes on.
        time.sleep(_LOGGING_IN_SECONDS)
        fence(organization, after=change)
    logger.info("credentials reset", extra={"organization": organization.pk})
    return True


_MARK = "SELECT pending_fence FROM organizations WHERE id = %s"


def _update(session: ServerSession, organization: Organization, facts: dict[str, str]) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in facts.items()
    )
    session.execute(
        sql.SQL("UPDATE organizations SET {} WHERE id = {}").format(columns, organization.pk)
    )


def forget_the_rest() -> tuple[int, int]:
    """Discard spare databases and waiting sign-ups that no key decrypts. Returns how many of each.

    The next refill replaces the spares. A sign-up's password hash is lost, so its name is freed.
    """
    spares = [
        spare.pk for spare in SpareDatabase.objects.all() if not is_readable(spare.sealed_password)
    ]
    SpareDatabase.objects.filter(pk__in=spares).update(ready=False)
    lost = [
        pending
        for pending in PendingSignUp.objects.open()
        if not is_readable(pending.sealed_password_hash)
    ]
    for pending in lost:
        pending.fail(detail=OUR_FAULT, code="credential_unreadable")
    return len(spares), len(lost)
