"""Backs up a closed organization: opens its database only for the dump."""

import secrets
from collections.abc import Callable

from organizations.models import BackupRun, Organization
from organizations.postgres import aside, identity
from organizations.postgres.roles import set_password
from organizations.postgres.sessions import ServerSession
from organizations.provisioning.undoing import expected
from organizations.secrets import seal
from organizations.tenancy import registry

from . import making


def back_up(
    session: ServerSession, organization: Organization, goes_on: Callable[[], bool]
) -> BackupRun | None:
    """Back it up as it was when it was closed; None if it has no database.

    session: holds its lock. Raises as making.back_up does, and what PostgreSQL raises.
    """
    found = identity.certain(session, expected(organization))
    if found.database is None or found.role is None:
        return None
    try:
        # A new password: the old one still gives no access, and its key may be lost.
        password = secrets.token_urlsafe(32)
        sealed = {"sealed_password": seal(password)}
        Organization.objects.filter(pk=organization.pk).update(**sealed)
        organization.sealed_password = sealed["sealed_password"]
        registry.forget(organization.tenant.alias)
        set_password(session, role=found.role, password=password)
        aside.bring_back(session, found, name=organization.name)
        return making.back_up(organization, even_closed=True, goes_on=goes_on)
    finally:
        if not session.connection.closed:
            put_aside(session, organization)


def put_aside(session: ServerSession, organization: Organization) -> None:
    """Put aside what row and identity say is aside: aside.put_aside. session: holds its lock."""
    found = identity.certain(session, expected(organization))
    aside.put_aside(session, found, name=organization.name)
