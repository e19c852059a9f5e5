"""`manage.py restore_orgs NAME… | --all`: restores organizations whose databases are lost."""

from collections.abc import Iterator
from typing import Any

from organizations import lifecycle
from organizations.backups.fleet import Result
from organizations.management.backups import BackupCommand
from organizations.models import OrganizationQuerySet


class Command(BackupCommand):
    """Run after a master was restored on a new server; may be repeated after kill -9."""

    help = (
        "Restore organizations whose database and role are both missing, each from its newest good "
        "backup. Existing ones are not changed. Exit code 1: some were not restored."
    )
    document, parallel, what_failed = "restores", 2, "were not restored"
    can_enqueue = False

    def act(self, organizations: OrganizationQuerySet, options: Any) -> Iterator[Result]:
        self._there, results = lifecycle.restore_lost_organizations(
            organizations, parallel=options["parallel"]
        )
        return results

    def sentence(self, result: Result) -> str:
        return f"restored from {result.folder}"

    def facts(self) -> dict[str, Any]:
        return {"there": self._there}

    def last_words(self) -> str:
        return f"{self._there} exist and were not changed." if self._there else ""
