"""Looks up tenants and their connection settings in the master database."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import OperationalError, connections

from .errors import (
    OrganizationArchived,
    OrganizationNotFound,
    OrganizationReadOnly,
    OrganizationSuspended,
    ServerUnavailable,
)
from .migrating.skew import refuse_outdated
from .models import IS_KNOWN, KNOWN_AS, FormerName, Organization, known_as_parameters
from .naming import name_digest
from .postgres import backends, installation
from .postgres.databases import settings_for
from .postgres.sessions import ServerSession, open_session
from .tenancy import Place, RouteChanged, Tenant


class MasterDirectory:
    """Queries the master at each call."""

    def tenant_by_id(self, organization_id: int) -> Tenant:
        """The tenant. Raises OrganizationNotFound, OrganizationSuspended, OrganizationMigrating."""
        return _found(_row(_BY_ID, (organization_id,)), named="")

    def tenant_by_name(self, name: str) -> Tenant:
        """The tenant, by any spelling, also of a name it had until lately. Raises as tenant_by_id
        does."""
        return _found(_row(_BY_NAME, known_as_parameters(name)), named=name)

    def confirm(self, tenant: Tenant) -> None:
        """Raise what tenant_by_id raises now, and RouteChanged if it finds another route.

        Uses a session of its own: an open transaction could show an older row than the one the
        connection was opened with, and nobody closes Django's connection in a thread without a
        request. Behind a pooler it uses Django's, because it is asked at every request.
        """
        values = (tenant.organization_id,)
        if settings.MASTER_DB_DIRECT is not None and not connections["default"].in_atomic_block:
            found = _found(_row(_BY_ID, values), named=tenant.slug)
        else:
            try:
                with open_session(quiet=True) as session:
                    row = session.connection.execute(_BY_ID.encode(), values).fetchone()
                    found = _found(row, named=tenant.slug, session=session)
            except ServerUnavailable as error:
                raise OperationalError(str(error)) from error
        if (found.slug, found.key, found.place) != (tenant.slug, tenant.key, tenant.place):
            raise RouteChanged

    def display_name(self, tenant: Tenant) -> str:
        """The organization's name. Raises OrganizationNotFound."""
        names = Organization.objects.usable().filter(pk=tenant.organization_id)
        name: str | None = names.values_list("name", flat=True).first()
        if name is None:
            raise OrganizationNotFound(tenant.slug)
        return name

    def counted_as(self, name: str) -> tuple[int | None, str]:
        """The id and `key:<key>`, or None and the digest of the folded name."""
        found = Organization.objects.live().known_as(name).values_list("pk", "key").first()
        if found is None:
            return None, f"name:{name_digest(name)}"
        organization_id, key = found
        return organization_id, f"key:{key}"

    def was_called(self, tenant: Tenant, slug: str) -> bool:
        """Whether the tenant's slug was this until lately, and is no other organization's now."""
        former = FormerName.objects.held().filter(organization_id=tenant.organization_id, slug=slug)
        return former.exists() and not Organization.objects.live().filter(slug=slug).exists()

    def is_clone(self, tenant: Tenant) -> bool:
        """Whether its row says so. A row that is gone sends nothing either."""
        rows = Organization.objects.filter(pk=tenant.organization_id)
        return not rows.filter(cloned_from=None).exists()

    def refusal_of_write(self, tenant: Tenant) -> OrganizationReadOnly | None:
        """OrganizationReadOnly if its row says so."""
        rows = Organization.objects.filter(pk=tenant.organization_id)
        name, until = rows.values_list("name", "read_only_until").first() or ("", None)
        return None if until is None else OrganizationReadOnly(name, until)

    def connection_settings(self, tenant: Tenant) -> dict[str, Any]:
        """A DATABASES entry.

        Raises OrganizationNotFound, CredentialUnreadable and InstallationUnclaimed.

        A tenant without a place is looked up in the master, in any state except deleted, since
        provisioning needs it too.
        """
        installation.require()
        if tenant.place is not None:
            return settings_for(tenant.place, owner=tenant.slug)
        organization = Organization.objects.live().filter(pk=tenant.organization_id).first()
        if organization is None:
            raise OrganizationNotFound(tenant.slug)
        if organization.status in Organization.Status.archival():
            raise OrganizationArchived(organization.name, organization_id=organization.pk)
        return settings_for(organization.place, owner=organization.name)

    def end_session(self, *, role: str, database: str, pid: int) -> bool:
        """End the role's session. Returns whether there was one.

        Raises ServerUnavailable and ServerRefused.
        """
        with open_session() as session:
            return backends.end(session, role=role, database=database, pid=pid)

    def limit_met(self, *, role: str, database: str) -> str | None:
        """The connection limit that is reached; None if there is room again."""
        return backends.limit_met(role=role, database=database)


# What a route is made of. A change of any of these is fenced: migrations/0009_fence.py. Raw SQL:
# the ORM takes longer to build it than the server to answer.
_ROUTE = (
    "SELECT id, slug, key, name, status, status_message, fingerprint, database_name, role_name, "
    "sealed_password, read_only_until IS NOT NULL FROM organizations WHERE "
)
_BY_ID = _ROUTE + "id = %s AND " + IS_KNOWN
_BY_NAME = _ROUTE + KNOWN_AS


def _row(query: str, values: Sequence[int | str] | Mapping[str, str]) -> tuple[Any, ...] | None:
    with connections["default"].cursor() as cursor:
        cursor.execute(query, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def _found(
    row: tuple[Any, ...] | None, *, named: str, session: ServerSession | None = None
) -> Tenant:
    """session: the one that has read the row, if not Django's."""
    if row is None:
        raise OrganizationNotFound(named)
    pk, slug, key, name, status, message, fingerprint, *place = row
    if status in Organization.Status.archival():
        raise OrganizationArchived(name, organization_id=pk)
    if status == Organization.Status.SUSPENDED:
        raise OrganizationSuspended(name, organization_id=pk, message=message)
    refuse_outdated(fingerprint, name=name, organization_id=pk, session=session)
    return Tenant(pk, slug, key, Place(*place), is_routed=True)
