"""Frees a name for its next organization: refuses one that is taken, undoes what died under it.

And finds the slug and the database's name that go with it.
"""

import logging

from django.conf import settings
from django.db.models import Q

from organizations.errors import DatabaseKept, FilesKept, OrganizationExists
from organizations.jobs.models import PendingSignUp
from organizations.models import FormerName, Organization
from organizations.naming import (
    database_name_for,
    name_digests,
    name_key,
    slug_for,
    slug_variant,
)
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
    slug = free_slug(name, to=to)
    reserved = PendingSignUp.objects.open().named(name)
    if pending is not None:
        reserved = reserved.exclude(pk=pending.pk)
    # No worker is processing an expired one: we hold the name's lock.
    if reserved.exists() and not reserved.expire():
        raise OrganizationExists(name)
    for leftover in Organization.objects.live().named(name).exclude(pk=_id(to)):
        if leftover.status in Organization.Status.taken():
            raise OrganizationExists(name)
        try:
            undo(session, leftover)
        except (DatabaseKept, FilesKept) as error:
            logger.error("name kept", extra={"organization": leftover.pk}, exc_info=error)
            raise OrganizationExists(name) from error
    return slug


def free_slug(name: str, *, to: Organization | None = None) -> str:
    """A slug for the name; another one if an organization with another name had it until lately.

    to: the organization that takes the name. It keeps the slug that it has, or had, with this name.
    Raises OrganizationExists if another one had the name until lately.
    """
    digests, slug = name_digests(name), slug_for(name_key(name))
    if to is not None and to.name_digest in digests:
        return to.slug
    held = list(FormerName.objects.held().filter(Q(digest__in=digests) | Q(slug=slug)))
    others = [each for each in held if each.organization_id != _id(to)]
    if any(each.digest in digests for each in others):
        raise OrganizationExists(name)
    own = [each.slug for each in held if each not in others and each.digest in digests]
    return own[0] if own else slug_variant(slug) if others else slug


# An archived or lost organization has none, and its row still names the one that it had.
_NAMED = """
SELECT EXISTS (SELECT FROM organizations
    WHERE database_name = %s AND status <> %s AND id <> %s)
"""


def free_database_name(session: ServerSession, slug: str, *, to: Organization | None = None) -> str:
    """A name for the slug's database that no database on the server has, and no other live row.

    to: the organization that it is for, which may have had it.
    """
    is_opaque = settings.ORG_DATABASE_NAMES == "opaque"
    name = database_name_for(slug, opaque=is_opaque)
    deleted = str(Organization.Status.DELETED)
    while session.database_owner(name) is not None or session.value(
        _NAMED, (name, deleted, _id(to))
    ):
        name = database_name_for(slug_variant(slug), opaque=is_opaque)
    return name


def _id(organization: Organization | None) -> int:
    return 0 if organization is None else organization.pk  # No organization has the id 0.
