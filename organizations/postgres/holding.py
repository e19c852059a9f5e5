"""Takes the lock of an organization's name, and reads its row under it."""

from organizations.errors import OrganizationBusy, OrganizationNotFound
from organizations.models import Organization
from organizations.naming import name_key as key_of

from .sessions import ServerSession, lock_number

_TRIES = 3


def hold(
    session: ServerSession, organization: Organization, *, wait_seconds: float = 0.0, also: str = ""
) -> None:
    """Lock the organization's current name, and reload its row.

    A lock on the name that was read before protects nothing if it was renamed meanwhile: then the
    new name's is taken instead. also: another name to lock with it, in a fixed order, to avoid
    deadlocks. Raises OrganizationBusy if one is not free within the time, and OrganizationNotFound
    if the row is gone.
    """
    for _ in range(_TRIES):
        keys = sorted({key_of(name) for name in (organization.name, also) if name}, key=lock_number)
        for key in keys:
            if wait_seconds:
                session.lock(key, name=organization.name, timeout_seconds=wait_seconds)
            elif not session.try_lock(key):
                raise OrganizationBusy(organization.name)
        try:
            organization.refresh_from_db()
        except Organization.DoesNotExist as error:
            raise OrganizationNotFound(organization.name) from error
        if key_of(organization.name) in keys:
            return
        for key in keys:
            session.unlock(key)
    raise OrganizationBusy(organization.name)
