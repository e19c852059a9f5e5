"""Frees a name for its next organization: refuses one that is taken, undoes what died under it."""

import logging

from django.db.models import Q

from organizations.errors import DatabaseKept, OrganizationExists
from organizations.jobs.models import PendingSignUp
from organizations.models import FormerName, Organization
from organizations.naming import name_digests, name_key, slug_for, slug_variant
from organizations.postgres.sessions import ServerSession

from .undoing import undo

logger = logging.getLogger(__name__)


def free_name(
    session: ServerSession,
    name: str,
    *,
    pending: PendingSignUp | None = None,
    to: Organization | None = None,
) -> str:
    """Undo what a dead process left under the name, whose lock is held. Returns a slug for it.

    pending: the sign-up that reserved it. to: the organization that takes it, which may have it, or
    have had it. Raises OrganizationExists if anybody else has it, or had it until lately.
    """
    taker = 0 if to is None else to.pk  # No organization has the id 0.
    slug = _slug(name, taker=taker)
    reserved = PendingSignUp.objects.open().named(name)
    if pending is not None:
        reserved = reserved.exclude(pk=pending.pk)
    # No worker is processing an expired one: we hold the name's lock.
    if reserved.exists() and not reserved.expire():
        raise OrganizationExists(name)
    for leftover in Organization.objects.live().named(name).exclude(pk=taker):
        if leftover.is_usable:
            raise OrganizationExists(name)
        try:
            undo(session, leftover)
        except DatabaseKept as error:
            logger.error("name kept", extra={"organization": leftover.pk}, exc_info=error)
            raise OrganizationExists(name) from error
    return slug


def _slug(name: str, *, taker: int) -> str:
    """The name's slug; another one if an organization with another name had it until lately."""
    digests, slug = name_digests(name), slug_for(name_key(name))
    held = FormerName.objects.held().filter(Q(digest__in=digests) | Q(slug=slug))
    found = set(held.exclude(organization_id=taker).values_list("digest", flat=True))
    if found.intersection(digests):
        raise OrganizationExists(name)
    return slug_variant(slug) if found else slug
