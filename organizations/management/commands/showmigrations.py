"""`manage.py showmigrations`, for the master or, with org_command, for one organization."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.showmigrations import Command as DjangoCommand

from organizations import tenancy
from organizations.migrating import master


class Command(DjangoCommand):
    """Django's own, for the apps whose tables are in that database."""

    def handle(self, *args: Any, **options: Any) -> None:
        tenant_labels, wanted = tenancy.tenant_labels(), set(options["app_label"])
        if options["database"] != master.ALIAS:
            if wanted - tenant_labels:
                raise CommandError(
                    f"{', '.join(sorted(wanted - tenant_labels))}: in the master, not in an "
                    "organization's database. Run manage.py showmigrations."
                )
            options["app_label"] = options["app_label"] or sorted(tenant_labels)
            super().handle(*args, **options)
            return
        if wanted & tenant_labels:
            raise CommandError(f"{', '.join(sorted(wanted & tenant_labels))}: {_ELSEWHERE}")
        with master.tenant_apps_hidden():
            super().handle(*args, **options)
        self.stdout.write(f"{', '.join(sorted(tenant_labels))}: {_ELSEWHERE}")


_ELSEWHERE = (
    "in the organizations' databases. For one: manage.py org_command NAME -- showmigrations. "
    "For what all of them lack: manage.py migrate_orgs --plan."
)
