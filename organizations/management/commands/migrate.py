"""`manage.py migrate`, for the master, and for one organization's app inside `org_command`."""

import shlex
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import connections
from django.db.migrations.exceptions import InconsistentMigrationHistory

from organizations import tenancy
from organizations.errors import OrganizationError
from organizations.migrating import concurrently, master, records
from organizations.migrating.engine import Engine, Target
from organizations.migrating.results import Kind
from organizations.migrating.turn import take
from organizations.models import Organization
from organizations.naming import name_key as key_of
from organizations.postgres.sessions import open_session
from organizations.recovery import claiming

_WAIT_SECONDS = 600.0


class Command(DjangoCommand):
    """Django's own, run by one process at a time, and each app only where it belongs.

    Two servers that start at once both run it: the second waits, and finds nothing to do.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"] != master.ALIAS:
            if options["app_label"] not in tenancy.tenant_labels():
                # Otherwise it would record the master's apps as applied, without their tables.
                raise CommandError(
                    "Name a tenant app, as in `migrate accounts`. For all of them: manage.py "
                    "migrate_orgs."
                )
            try:
                self._migrate_organization(*args, **options)
            except OrganizationError as error:
                raise CommandError(str(error)) from error
            return
        if options["app_label"] in tenancy.tenant_labels():
            raise CommandError(
                f"{options['app_label']} is in the organizations' databases, not in the master. "
                "Run manage.py migrate_orgs."
            )
        try:
            with open_session() as session:
                session.lock(
                    "migration of the master", name="master", timeout_seconds=_WAIT_SECONDS
                )
                with master.tenant_apps_hidden():
                    self._migrate(*args, **options)
                if not options["plan"] and not options["check_unapplied"]:
                    master.forget_tenant_apps()
                    if options["verbosity"]:
                        self.stdout.write(
                            "For the organizations' databases: manage.py migrate_orgs."
                        )
                    self._ask_for_identities()
        except OrganizationError as error:
            raise CommandError(str(error)) from error

    def _migrate_organization(self, *args: Any, **options: Any) -> None:
        """Migrate the active one forwards, and record it.

        Backwards is for migrate_orgs, which first ends the requests that need what is unapplied.
        """
        usable = Organization.objects.usable()
        organization = usable.filter(pk=tenancy.get().organization_id).first()
        # One that is being made has no users yet, and provisioning holds its lock.
        if organization is None or options["plan"] or options["check_unapplied"]:
            self._migrate(*args, **options)
            return
        name = organization.name
        with open_session() as session:
            session.lock(key_of(name), name=name, timeout_seconds=_WAIT_SECONDS)
            if not options["fake"]:
                _refuse_backwards(organization, options["app_label"], options["migration_name"])
            records.distrust(organization.tenant)
            self._migrate(*args, **options)
            result = take(session, organization, Engine(), looks_only=True)
        if result.kind == Kind.FAILED:
            raise CommandError(f"Migrated, but not recorded: {result.error}")

    def _ask_for_identities(self) -> None:
        """Warn about roles without identity; not after migrating back to before identities."""
        if "installation" not in connections["default"].introspection.table_names():
            return
        if lacking := claiming.without_identity():
            self.stdout.write(
                f"{lacking} database roles have no identity yet, so nothing of theirs can be "
                "dropped. Stop all processes of the older version, then run: "
                "manage.py identify_orgs"
            )

    def _migrate(self, *args: Any, **options: Any) -> None:
        try:
            with concurrently.waiting(connections[options["database"]]):
                super().handle(*args, **options)
        except InconsistentMigrationHistory as error:
            raise CommandError(str(error)) from error


def _refuse_backwards(organization: Organization, label: str, name: str | None) -> None:
    if name is None:
        return
    target = Target(label, name)
    if Engine(target).after_unapplying(organization.tenant, owner=organization.name) is None:
        return
    instead = shlex.join(["manage.py", "migrate_orgs", f"--org={organization.name}", label, name])
    raise CommandError(
        "This unapplies migrations, and requests would meet the older schema. migrate_orgs first "
        f"stops serving what needs them: {instead}"
    )
