"""Removes files and databases left by archives and thaws, if a backup has them.

They are left if the drop did not finish, a thaw was killed, the disk with the files was not mounted
during the archive, or the master is older than a thaw.
"""

import logging

from organizations.backups import manifest, storing
from organizations.errors import BackupNotVerified, DatabaseKept, FilesKept
from organizations.models import Organization, Restore
from organizations.postgres import identity
from organizations.postgres.identity import State
from organizations.postgres.sessions import ServerSession
from organizations.provisioning.kept import drop_kept
from organizations.restoring import files
from organizations.restoring.making import Watch, silent
from organizations.tenancy import storage

logger = logging.getLogger(__name__)


def require_none_in_use(organization: Organization) -> None:
    """Raise DatabaseKept if the server has a database of it in use or kept aside."""
    for role, each in identity.of_key(organization.key):
        if each.state in (State.LET_IN, State.ASIDE):
            why = f"{identity.NEWER}: the database of {role} is its own (manage.py adopt_org)"
            raise DatabaseKept(organization.name, why)


def exist(organization: Organization) -> bool:
    """Whether there is anything to remove."""
    kept = Restore.objects.keeping().filter(organization_key=organization.key)
    return bool(storage.folders_of(organization.key)) or kept.exists()


def remove(session: ServerSession, organization: Organization) -> None:
    """Remove its files, and what its restores kept. It must be archived. May be repeated.

    session: holds its lock; its backup lock is held too. Raises DatabaseKept, FilesKept, what
    drop_kept raises, and BackupDamaged, BackupUnsigned and BackupStorageFailed.
    """
    require_none_in_use(organization)
    for row in Restore.objects.keeping().filter(organization_key=organization.key):
        drop_kept(session, row)
    remove_files(session, organization)


def remove_files(session: ServerSession, organization: Organization) -> None:
    """The same for its files alone; its backup lock is enough."""
    require_none_in_use(organization)
    try:
        has_files = files.count_in(organization.key) > 0
    except OSError as error:
        raise FilesKept(organization) from error
    if has_files:
        _require_held(session, organization)
    if not storage.remove(organization.key):
        raise FilesKept(organization)


def _require_held(session: ServerSession, organization: Organization) -> None:
    run = organization.archived_backup
    if run is None:
        raise FilesKept(organization)
    read = manifest.read(storing.read_manifest(run.folder), run, installation=session.installation)
    watch = Watch(organization.name, lambda: True, silent)
    try:
        files.require_held(run, read, organization.key, name=organization.name, watch=watch)
    except BackupNotVerified as error:
        facts = {"organization": organization.pk, "backup": run.pk}
        logger.error("files not removed: no backup has them", extra=facts, exc_info=error)
        raise FilesKept(organization) from error
