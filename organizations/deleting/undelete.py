"""Brings a deleted organization back while it is kept: accounts, data and files, without logins."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError

from accounts.sessions import void_all
from accounts.validators import check_fields
from organizations.audit import recorded, unmarked
from organizations.errors import (
    DatabaseGone,
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    ServerUnavailable,
    SeveralDeleted,
    UndeletionFailed,
    WrongState,
)
from organizations.models import FormerName, Organization, Restore
from organizations.naming import display_name, name_digest, name_digests, slug_variant
from organizations.postgres import aside, identity
from organizations.postgres.databases import past_pooler
from organizations.postgres.holding import hold
from organizations.postgres.identity import Expected
from organizations.postgres.roles import set_password
from organizations.postgres.sessions import ServerSession, open_session, refuse_in_transaction
from organizations.postgres.trouble import is_servers
from organizations.provisioning import code, versions
from organizations.provisioning.migrations import migrate_tenant
from organizations.provisioning.names import free_name
from organizations.provisioning.undoing import change_status, expected
from organizations.secrets import seal
from organizations.tenancy import Tenant, TooBusy, registry, untrusted
from organizations.tenancy.constraints import broken_unique
from organizations.validators import validate_name

logger = logging.getLogger(__name__)
Status = Organization.Status

# For a sign-up of the name to end.
_WAIT_SECONDS = 5.0


def find_trashed(name: str) -> Organization:
    """The deleted organization that is kept, by any spelling of its name, or of one that it had
    until lately.

    Raises OrganizationNotFound, and SeveralDeleted if more than one gave up this name.
    """
    trashed = Organization.objects.trashed()
    held: Organization | None = trashed.known_as(name).first()
    if held is not None:
        return held
    digests = set(name_digests(name))
    freed = [
        row
        for row in trashed
        if row.name_digest == row.digest_without_name and name_digest(row.name) in digests
    ]
    if not freed:
        raise OrganizationNotFound(name)
    if len(freed) > 1:
        raise SeveralDeleted(name, [row.pk for row in freed])
    return freed[0]


def undelete_organization(
    organization: Organization, *, name: str = "", mark: Callable[[], object] = unmarked
) -> None:
    """Bring it back as it was, active or suspended, and migrated to the code's migrations; or
    archived, which thaw_organization brings back.

    All logins and mailed links become invalid. name: another one; its own by default. If that is
    held, it is then free. mark: called in the commit.

    Raises ValidationError by field (name), OrganizationExists, OrganizationBusy, WrongState unless
    it is deleted and kept, OrganizationNotFound, DatabaseGone, DatabaseKept, UndeletionFailed,
    MigrationsIncoherent, TooBusy, InstallationUnclaimed, SessionsRemain, ServerUnavailable,
    ServerRefused and ProvisioningInTransaction. Then it is still kept. If the process dies,
    reconcile_orgs puts it aside again.
    """
    refuse_in_transaction()
    code.refuse_incoherent_migrations()
    if name:
        check_fields(name=lambda: validate_name(name))
    with open_session() as session:
        wanted = display_name(name) if name else organization.name
        hold(session, organization, wait_seconds=_WAIT_SECONDS, also=wanted)
        if organization.status == Status.DELETED:
            raise OrganizationNotFound(organization.name)
        if organization.status != Status.TRASHED:
            raise WrongState(organization.name, status=organization.status, wanted=Status.TRASHED)
        if Restore.objects.switching(organization.key).exists():
            # Its files are still those of before: a worker exchanges them within seconds.
            raise OrganizationBusy(organization.name)
        wanted = wanted if name else organization.name  # It may have another spelling now.
        slug = free_name(session, wanted, to=organization)
        found = identity.certain(session, expected(organization))
        if organization.status_before == Status.ARCHIVED:
            facts = {"name": wanted, "name_digest": name_digest(wanted)}
            _open(session, organization, slug=slug, facts=facts, mark=mark)
            return
        if found.role is None or found.database is None:
            raise DatabaseGone(organization.name)
        password = secrets.token_urlsafe(32)
        # Until it is opened, also what is read-only is written in.
        place = replace(organization.place, sealed_password=seal(password), is_read_only=False)
        try:
            set_password(session, role=found.role, password=password)
            aside.bring_back(session, found, name=organization.name)
            # This process can know the place with the password of before.
            registry.forget(organization.tenant.alias)
            tenant = replace(organization.tenant, place=past_pooler(place))
            fingerprint = _renewed(tenant, organization)
            facts = {
                "name": wanted,
                "name_digest": name_digest(wanted),
                "sealed_password": place.sealed_password,
                "fingerprint": fingerprint,
            }
            _open(session, organization, slug=slug, facts=facts, mark=mark)
            registry.forget(organization.tenant.alias)  # That place was not as read-only.
        except BaseException:
            _keep_again(organization)
            raise
    logger.info("organization undeleted", extra={"organization": organization.pk})


def _renewed(tenant: Tenant, organization: Organization) -> str:
    """Migrate to the code's migrations, and end all logins. Returns the fingerprint."""
    fingerprint: str = organization.fingerprint
    has = versions.migrations_of(fingerprint) if fingerprint else None
    try:
        # Unknown after an adoption: then Django looks at what the database records.
        if has is None or versions.lacking(has):
            migrate_tenant(tenant)
            # One that is ahead elsewhere has migrations that this code does not know.
            is_known = has is not None and has <= set(versions.code_migrations())
            fingerprint = versions.remember_code() if is_known else ""
        seconds = float(settings.MIGRATION_DEADLINE_SECONDS or settings.BACKUP_DEADLINE_SECONDS)
        with untrusted.inside(tenant, until=monotonic() + seconds, seconds=seconds):
            void_all()
    except TooBusy:
        raise
    except Exception as error:
        if isinstance(error, DatabaseError) and is_servers(error):
            raise ServerUnavailable from error
        facts = {"organization": organization.pk}
        logger.error("organization not brought back", extra=facts, exc_info=error)
        raise UndeletionFailed(organization.name) from error
    return fingerprint


def _open(
    session: ServerSession,
    organization: Organization,
    *,
    slug: str,
    facts: dict[str, str],
    mark: Callable[[], object],
) -> None:
    # As for a sign-up: a readable slug can look like another name's hashed one.
    for _ in range(3):
        try:
            _write(session, organization, {**facts, "slug": slug}, mark)
            return
        except IntegrityError as error:
            if broken_unique(error) != "organizations_slug_live":
                raise
        slug = slug_variant(slug)
    raise OrganizationExists(facts["name"])


def _write(
    session: ServerSession,
    organization: Organization,
    facts: dict[str, str],
    mark: Callable[[], object],
) -> None:
    """Row and identity in one commit: before it nobody is let in."""
    kept = expected(organization)
    said = {"from": organization.slug, "to": facts["slug"]}
    with recorded("organization.undeleted", organization, said):
        moved = change_status(
            organization,
            Status(organization.status_before or Status.ACTIVE),
            only_from=(Status.TRASHED,),
            reason=organization.status_reason,
            message=organization.status_message,
            deletion="",
            kept_until=None,
            status_before="",
            **facts,
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        # A name that it takes back, or that nobody holds any more.
        FormerName.objects.filter(digest=facts["name_digest"]).delete()
        if organization.status != Status.ARCHIVED:
            until = organization.read_only_until
            identity.change(
                session,
                kept,
                state=identity.State.LET_IN,
                deletion="",
                read_only_until=until.isoformat() if until else "",
            )
        elif identity.certain(session, kept).role is not None:
            identity.change(session, kept, state=identity.State.ARCHIVED, deletion="")
        mark()


def _keep_again(organization: Organization) -> None:
    def kept() -> Expected | None:
        registry.forget(organization.tenant.alias)
        # Read anew: the commit may have happened although its answer was lost.
        row = Organization.objects.get(pk=organization.pk)
        return expected(row) if row.status == Status.TRASHED else None

    aside.keep_again(kept, organization=organization.pk)
