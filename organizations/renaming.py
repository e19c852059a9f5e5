"""Renames an organization. Its database stays where it is, and its tokens stay valid.

Its old name leads to it for ORG_NAME_HOLD_DAYS, and is nobody else's meanwhile.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from accounts.validators import check_fields

from .audit import recorded, unmarked
from .errors import OrganizationBusy, OrganizationExists, OrganizationNotFound
from .models import FormerName, Organization
from .naming import display_name, name_digest, slug_variant
from .postgres.fence import fence_by
from .postgres.holding import hold
from .postgres.sessions import open_session, refuse_in_transaction
from .provisioning.names import free_name
from .tenancy.constraints import broken_unique
from .validators import validate_name

logger = logging.getLogger(__name__)
Status = Organization.Status

# For a migration, or a sign-up of the new name, to end.
_WAIT_SECONDS = 5.0


def rename_organization(
    organization: Organization, *, name: str, mark: Callable[[], object] = unmarked
) -> Organization:
    """Change its name and slug. May be repeated: one that has the name already is left as it is.

    Another spelling of its name leaves the slug as it is. mark: called in the commit.
    Raises ValidationError by field (name), OrganizationExists, OrganizationBusy, WrongState unless
    it is active or suspended, OrganizationNotFound, InstallationUnclaimed, ServerUnavailable,
    ProvisioningInTransaction, and as fence() does; after SessionsRemain it is renamed.
    """
    refuse_in_transaction()
    check_fields(name=lambda: validate_name(name))
    name = display_name(name)
    with open_session() as session:
        _ = session.installation  # A copy of the master ends no session.
        # Whoever makes, migrates or deletes either name holds its lock.
        hold(session, organization, wait_seconds=_WAIT_SECONDS, also=name)
        if organization.status == Status.DELETED:
            raise OrganizationNotFound(organization.name)
        organization.require_usable()
        if organization.name == name:
            mark()
        else:
            slug = free_name(session, name, to=organization)
            _rename(organization, name, slug=slug, mark=mark)
        # The slug is part of the route. Requests carry on over new connections. Under the lock, so
        # that no migration begins whose session would be ended.
        fence_by(session, organization)
    return organization


def _rename(
    organization: Organization, name: str, *, slug: str, mark: Callable[[], object]
) -> None:
    # As for a sign-up: a readable slug can look like another name's hashed one.
    for _ in range(3):
        try:
            _write(organization, name, slug, mark)
            logger.info("organization renamed", extra={"organization": organization.pk})
            return
        except IntegrityError as error:
            if broken_unique(error) != "organizations_slug_live":
                raise
        slug = slug_variant(slug)
    raise OrganizationExists(name)


def _write(organization: Organization, name: str, slug: str, mark: Callable[[], object]) -> None:
    """Everything in one commit, so that the name leads to it at every moment."""
    before, digest = (organization.name, organization.name_digest), name_digest(name)
    is_held = digest != before[1] and settings.ORG_NAME_HOLD_DAYS > 0
    held_until = timezone.now() + timedelta(days=settings.ORG_NAME_HOLD_DAYS)
    facts = {"from": organization.slug, "to": slug}
    facts |= {"held_until": held_until.isoformat()} if is_held else {}
    with recorded("organization.renamed", organization, facts):
        rows = Organization.objects.usable().filter(pk=organization.pk, name=before[0])
        if not rows.update(name=name, name_digest=digest, slug=slug):
            raise OrganizationBusy(before[0])
        # A name that it takes back, or that nobody holds any more.
        FormerName.objects.filter(digest=digest).delete()
        if is_held:
            former = {"slug": organization.slug, "organization": organization}
            FormerName.objects.update_or_create(
                digest=before[1], defaults={**former, "held_until": held_until}
            )
        mark()
        organization.name, organization.name_digest, organization.slug = name, digest, slug
